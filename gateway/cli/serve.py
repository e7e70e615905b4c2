"""`serve`: serves until it is stopped, and makes what a first start is missing."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cache.sqlite import DatabaseUnusable
from gateway.cli import administrator, folder
from gateway.cli.idle_settings import ProxyGroups, idle_settings, read_proxy_groups
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.cli.trial import GROUPS_READ, trial_lines
from gateway.db import groups
from gateway.db.connection import Connection
from gateway.known_registries import DOCKER_HUB
from gateway.maintenance.first_administrator import AdministratorStart
from gateway.namespaces.group import Group
from gateway.observability.logs import print_briefly
from gateway.processes import supervisor
from gateway.processes.errors import CannotStart
from gateway.processes.supervisor import Findings, Rereading, StartWarning
from gateway.settings.tables import Settings
from gateway.upstreams import Upstream, open_accounts
from gateway.wiring.reach import open_proxy_allowed
from gateway.wiring.upstreams import configured_upstreams
from gateway.wiring.values import configured_database, listed_groups

app = plain_app()

_REREAD_SECONDS = 2.0
"""Time limit of a reload for the groups: a worker that dies meanwhile is not replaced."""


class LogFormat(StrEnum):
    """Format of log lines: for people, for machines."""

    CONSOLE = "console"
    JSON = "json"


@app.command()
@partial(with_session, json=False)
def serve(
    session: Session,
    host: Annotated[str | None, typer.Option(help="The address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes any free one. [default: 8080]")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="How many processes serve. 0: one per core, at most 4.")
    ] = None,
    external_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Under which URL clients reach it. [default: as bound]")
    ] = None,
    allow_open_proxy: Annotated[
        bool | None, typer.Option("--allow-open-proxy", help="Serve anonymous pulls beyond this machine.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(metavar="F", help="The certificate chain, in PEM.")] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="F", help="Its private key, in PEM.")] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="For people or for machines. [default: console]")] = None,
) -> None:
    """Serve until stopped; makes the data folder, the group `hub` in a new one, and the first administrator."""
    flags: dict[str, object] = {
        "host": host,
        "port": port,
        "workers": workers,
        "external_url": external_url,
        "allow_open_proxy": allow_open_proxy,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "log_format": log_format,
    }
    supervisor.ignore_signals()
    config, settings = session.load_for_server(flags)
    upstreams = configured_upstreams(settings)
    upgraded = asyncio.run(_upgrade(settings))
    try:
        made = asyncio.run(_make_folder(settings))
        ready = partial(_print_urls, settings, made.start, made.open_groups, upstreams)
        found = _findings(settings, made.users)
        first = [*upgraded, *administrator.warnings_of(made.start), *_unreadable(config)]
        told = Findings(found.accounts, [*first, *found.warnings])
        rereading = Rereading(lambda: session.load_for_server(flags)[1], _find_again)
        supervisor.serve(settings, told, ready, rereading, config)
    except (CannotStart, Refused):
        for done in upgraded:  # the log has not said so, and the next start has nothing to upgrade
            complain(f"{done.event}: {done.reason}; {done.remedy}")
        raise


async def _upgrade(settings: Settings) -> list[StartWarning]:
    """Upgrade an SQLite file of an older version, as each start does, and say so."""
    folder.make(settings)
    if not isinstance(configured_database(settings), Path):
        return []
    done = await folder.upgrade(settings)
    if done is None:
        return []
    kept = done.copy.absolute() if done.copy else None
    reason = f"its revision was {done.before} and is {done.after}, which an older version may refuse"
    return [StartWarning("database_upgraded", reason, f"{kept} is as it was: delete it when nothing is missing")]


@dataclass(frozen=True, slots=True)
class _AccountUsers:
    """Groups that may show everybody what an account reads, and who may use accounts."""

    lending: list[Group]
    known: ProxyGroups


@dataclass(frozen=True, slots=True)
class _MadeFolder:
    """What a start finds in its data folder: what was done about the administrator, who may use accounts, and groups
    through which everybody may pull."""

    start: AdministratorStart
    users: _AccountUsers
    open_groups: list[Group]


async def _make_folder(settings: Settings) -> _MadeFolder:
    """Make what a start needs and is missing."""
    async with folder.open_made(settings) as database:
        start = await administrator.prepare(database, settings)
        async with database.read() as connection:
            users = await _read_users(connection, settings)
            return _MadeFolder(start, users, await groups.list_open(connection, GROUPS_READ))


async def _read_users(connection: Connection, settings: Settings) -> _AccountUsers:
    lending = await groups.list_lending(connection, listed_groups(settings))
    return _AccountUsers(lending, await read_proxy_groups(connection, settings))


def _findings(settings: Settings, users: _AccountUsers) -> Findings:
    """What a server warns of with these settings and groups."""
    idle = [
        StartWarning(f"{one.kind}_has_no_effect", one.reason, one.remedy)
        for one in idle_settings(settings, os.environ, users.known)
    ]
    return Findings(open_accounts(users.lending, configured_upstreams(settings)), idle)


def _unreadable(config: Path | None) -> list[StartWarning]:
    """Warn of settings that root has read, and that the owner of the data folder cannot read at a reload."""
    if config is None or os.access(config, os.R_OK):
        return []
    reason = f"{config.absolute()} cannot be read by the user of this server: a reload will be refused"
    return [StartWarning("settings_not_readable", reason, "let the owner of the data folder read it")]


def _find_again(settings: Settings) -> Findings:
    """What a reload warns of; nothing where the groups cannot be read at once."""

    async def read() -> _AccountUsers:
        async with folder.open_existing(settings) as database, database.read() as connection:
            return await _read_users(connection, settings)

    try:
        return _findings(settings, asyncio.run(asyncio.wait_for(read(), _REREAD_SECONDS)))
    except (Refused, DatabaseUnusable, TimeoutError):
        return Findings()


def _print_urls(
    settings: Settings,
    start: AdministratorStart,
    open_groups: Sequence[Group],
    upstreams: Sequence[Upstream],
    urls: Sequence[str],
) -> None:
    """Print where the server is reached, and commands that try it."""
    url, *others = urls
    docker_hub = next(upstream for upstream in upstreams if upstream.name == DOCKER_HUB)
    lines = [f"registry-gateway serves {url}, data in {settings.data.absolute()}"]
    for listener, address in zip(settings.listener, others, strict=True):
        lines.append(f"and {address}, where every name is an image of {listener.upstream}")
    lines += administrator.lines_of(start, settings.data)
    lines += trial_lines(url, open_groups, docker_hub, open_proxy=open_proxy_allowed(settings, urls))
    print_briefly("".join(f"{line}\n" for line in lines))
