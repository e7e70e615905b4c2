"""First administrator: what `serve` does and prints about it."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.input_file import InputFile
from gateway.cli.password_file import read_password
from gateway.cli.refusals import Refused
from gateway.db.engine import Database
from gateway.keys import root_password
from gateway.keys.root_password import ROOT_PASSWORD_FILE
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.maintenance.first_administrator import AdministratorStart, drop_changed_password, prepare_administrator
from gateway.namespaces.errors import PasswordRefused
from gateway.namespaces.node import NodeKind
from gateway.namespaces.user import ROOT, check_password
from gateway.processes.supervisor import StartWarning
from gateway.settings.tables import Settings

_ANOTHER = "`registry-gateway user create NAME --admin --password-file FILE` creates one"


async def prepare(database: Database, settings: Settings) -> AdministratorStart:
    """Create the user `root` unless there is an administrator.

    Raises Refused where there is none and the file of the password that was chosen is of no use, DatabaseUnusable.
    """
    keys = settings.data / KEYS_DIRECTORY
    start = await prepare_administrator(
        database, keys, datetime.now(UTC), lambda: _chosen_password(settings.admin_password_file)
    )
    await drop_changed_password(database, keys)
    return start


def warnings_of(start: AdministratorStart) -> list[StartWarning]:
    """Say what a person can do if there is no administrator."""
    if not start.obstacle:
        return []
    remedy = f"{_ANOTHER}, and the next start tries again"
    if start.holder is NodeKind.USER:
        remedy = f"`registry-gateway user update {ROOT} --admin --unblock` makes it one"
    elif start.holder is not None:
        remedy = f"{_ANOTHER} with another name"
    return [StartWarning("no_administrator", start.obstacle, remedy)]


def lines_of(start: AdministratorStart, data: Path) -> list[str]:
    """Tell where the password of `root` is, and on a terminal the generated password itself, once."""
    file = data.absolute() / KEYS_DIRECTORY / ROOT_PASSWORD_FILE
    password = root_password.find(data / KEYS_DIRECTORY)
    if password is None:
        return [f"administrator {ROOT}, password as in admin_password_file"] if start.created else []
    if start.generated and is_on_terminal():
        return [f"administrator {ROOT}, password {password} (in {file} until it is changed)"]
    return [f"administrator {ROOT}, password in {file} until it is changed"]


def is_on_terminal() -> bool:
    """Whether a person reads what this process prints, and no file keeps it."""
    return sys.stdout is not None and sys.stdout.isatty()


def _chosen_password(file: Path | None) -> str | None:
    try:
        password = read_password(InputFile(file) if file else None)
        if password is not None:
            check_password(password)
    except (Refused, PasswordRefused) as error:
        raise Refused(f"admin_password_file {file} is needed for the first administrator: {error}") from error
    return password
