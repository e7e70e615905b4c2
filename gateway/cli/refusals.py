"""Refusals: errors of commands that cannot be carried out, with the remedies that only the command line knows."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from cache.oci.errors import RegistryError
from gateway.namespaces.errors import (
    AnonymousPullRefused,
    DeployTokenUnknown,
    GroupUnknown,
    JobUnknown,
    LoginMisdirected,
    NodeUnknown,
    PersonalTokenUnknown,
    ProjectUnknown,
    RestorePathTaken,
    TreeError,
    UserUnknown,
)
from gateway.namespaces.paths import find_host_warning
from gateway.processes.errors import CannotStart
from gateway.settings.load import SettingsError

PERSONAL_TOKENS, DEPLOY_TOKENS, JOBS = "token list", "deploy-token list", "job list --all"
"""Commands that show the credentials of each kind by their ids."""

_UPGRADE = (
    "back it up, then `registry-gateway db upgrade` upgrades it, as the next start of a server does with an SQLite file"
)
_REMEDIES: dict[type[Exception], str] = {
    GroupUnknown: "`registry-gateway group list` shows those there are",
    ProjectUnknown: "`registry-gateway project list` shows those there are",
    NodeUnknown: "`registry-gateway group list` and `registry-gateway project list` show those there are",
    UserUnknown: "`registry-gateway user list` shows those there are",
    PersonalTokenUnknown: f"`registry-gateway {PERSONAL_TOKENS}` shows those there are",
    DeployTokenUnknown: f"`registry-gateway {DEPLOY_TOKENS}` shows those there are",
    JobUnknown: f"`registry-gateway {JOBS}` shows those there are",
    RestorePathTaken: "`registry-gateway repository restore PATH --to NEW` restores it under another name",
    AnonymousPullRefused: "give --visibility public, or --no-anonymous-pull",
    LoginMisdirected: "give --upstream-username and --upstream-password-file for the new one, "
    'or --upstream-username "" to drop it',
}
"""Options that help against errors whose own texts name none."""

_SETTING_OPTIONS = {("host", "port"): "give --host and --port", ("data",): "give --data another folder"}
"""Options for settings whose change lets a server start."""


class Refused(Exception):
    """The command cannot be carried out; the text is one line: what, why, what to do."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors that a person can act on into exit code 1, and a line on stderr for each problem."""
    try:
        yield
    except _refusable() as error:
        remedy = _start_remedy(error) if isinstance(error, CannotStart) else find_remedy(error)
        refuse(f"{error}: {remedy}" if remedy else str(error))


def _refusable() -> tuple[type[Exception], ...]:
    """The errors; those of databases and keys are imported after a failure alone, since their libraries take long."""
    from cache.sqlite import DatabaseUnusable
    from gateway.keys.sealing import SealBroken
    from gateway.keys.signing import SigningKeysUnusable

    known = (Refused, RegistryError, SettingsError, TreeError, CannotStart)
    return (*known, DatabaseUnusable, SealBroken, SigningKeysUnusable)


def find_remedy(error: Exception) -> str | None:
    """What helps against an error whose own text names nothing."""
    from cache.sqlite import DatabaseOutdated

    return _UPGRADE if type(error) is DatabaseOutdated else _REMEDIES.get(type(error))


def refuse(text: str) -> NoReturn:
    """Print each line to stderr and end with exit code 1."""
    for line in text.splitlines():
        complain(line)
    raise typer.Exit(1)


def _start_remedy(error: CannotStart) -> str:
    """The remedy of the error, and the options or settings whose change would help; empty without any."""
    change = _SETTING_OPTIONS.get(error.settings, f"change {' or '.join(error.settings)}" if error.settings else "")
    return ", or ".join(remedy for remedy in (error.remedy, change) if remedy)


def complain(text: str) -> None:
    """Print a line to stderr, as the command's own."""
    print(f"registry-gateway: {text}", file=sys.stderr)


def warn_of_host(path: str) -> None:
    """Warn on stderr of a new path whose first component clients take for the name of a host."""
    if (warning := find_host_warning(path)) is not None:
        complain(f"warning: {warning}")
