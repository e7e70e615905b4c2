"""Data folder and database: how commands open or make them."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import typer

from gateway import data_folder
from gateway.cli.owner import require_owner
from gateway.cli.refusals import Refused, complain
from gateway.db import collection_state, groups, old_paths
from gateway.db.collection_state import CollectionState
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.setup import read_revision, set_up
from gateway.maintenance.restore import DataFolderBusy, finish_restore
from gateway.maintenance.upgrade import DatabaseUpgrade, upgrade_database
from gateway.namespaces.group import Group
from gateway.namespaces.old_path import Former
from gateway.settings.tables import Settings
from gateway.wiring.values import configured_database, listed_groups

T = TypeVar("T")

PAGE_SIZE = 1000
"""Entries of a listing that a command keeps in memory."""

TURN_SECONDS = 60.0
"""How long a command waits to write: longer than a request, since it may be what ends the work of those before it."""


@asynccontextmanager
async def open_made(settings: Settings) -> AsyncIterator[Database]:
    """Open the database; a missing one is made, with the group that a new one holds.

    Raises Refused, DatabaseUnusable.
    """
    in_passing = settings.data == Settings().data and not settings.data.exists()
    make(settings)
    if in_passing:  # it lies where the command was called, perhaps far from that of a server
        complain(
            f"made data folder {settings.data.absolute()}, which no server uses yet: if one runs elsewhere, name its "
            "folder with --data, or its settings with --config"
        )
    address = configured_database(settings)
    await set_up(address)
    async with Database.open(address, turn_seconds=TURN_SECONDS) as database:
        async with database.write() as connection:
            await groups.prepare(connection, datetime.now(UTC))
        yield database


@asynccontextmanager
async def open_existing(settings: Settings) -> AsyncIterator[Database]:
    """Open the database, which must exist. Raises Refused, DatabaseUnusable."""
    await require(settings)
    async with Database.open(configured_database(settings), turn_seconds=TURN_SECONDS) as database:
        yield database


async def read_groups(settings: Settings) -> list[Group]:
    """Every group, each after the one above it. Raises Refused, DatabaseUnusable."""
    async with open_existing(settings) as database, database.read() as connection:
        return await groups.with_listings(connection, await groups.list_all(connection), listed_groups(settings))


async def read_formers(settings: Settings, names: Collection[str]) -> dict[str, Former]:
    """What those of some names lead to that are old. Raises Refused, DatabaseUnusable."""
    now = datetime.now(UTC)
    async with open_existing(settings) as database, database.read() as connection:
        found = await old_paths.follow_all(connection, names)
        return {name: former for name, former in found.items() if former.until > now}


async def read_collection(settings: Settings) -> CollectionState:
    """What garbage collection has noted. Raises Refused, DatabaseUnusable."""
    async with open_existing(settings) as database:
        return await database.query(collection_state.read)


def place_to_list(help: str) -> Any:
    """Describe the argument of a listing that names a place of the tree; without it, everything is listed."""
    return typer.Argument(metavar="[PATH]", help=help, show_default=False)


async def read_pages(
    settings: Settings, read: Callable[[Connection, str, int], Awaitable[Sequence[T]]], key_of: Callable[[T], str]
) -> AsyncGenerator[Sequence[T], None]:
    """Read a listing page by page, at least one, in bounded memory. Raises Refused, DatabaseUnusable, and what `read`
    raises.

    `read` gets the key of the last entry so far and the number of entries to return, fewer at the end. Each page is
    read in a transaction of its own, so that a slow reader of the output holds up nothing in the database.
    """
    async with open_existing(settings) as database:
        after = ""
        while True:
            async with database.read() as connection:
                page = await read(connection, after, PAGE_SIZE)
            if page or not after:
                yield page
            if len(page) < PAGE_SIZE:
                return
            after = key_of(page[-1])


async def require(settings: Settings) -> None:
    """Check that folder and database exist, and that this version can use them. Raises Refused, DatabaseUnusable."""
    await require_as_it_is(settings)
    await set_up(configured_database(settings))


async def upgrade(settings: Settings, keep_copy: bool = True) -> DatabaseUpgrade | None:
    """Upgrade the database, keeping a copy of an SQLite file; None where there was nothing to upgrade.

    Raises Refused, DatabaseUnusable.
    """
    address = configured_database(settings)
    try:
        return await upgrade_database(settings.data, address, datetime.now(UTC), keep_copy)
    except DataFolderBusy as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(
            f"{address} was not upgraded, since no copy of it can be made in {settings.data.absolute()} "
            f"({error.strerror}): make room, or back it up and use `registry-gateway db upgrade --no-copy`"
        ) from error


async def require_as_it_is(settings: Settings) -> None:
    """Check that folder and database exist, whatever the revision is. Raises Refused, DatabaseUnusable."""
    if not await exists(settings):
        raise absent(settings)


async def exists(settings: Settings) -> bool:
    """Whether there is a data folder with a database, wherever that lies. Raises Refused, DatabaseUnusable."""
    require_owner(settings.data)
    _finish_restore(settings.data)
    address = configured_database(settings)
    if isinstance(address, Path):
        return address.is_file()
    return settings.data.is_dir() and (await read_revision(address)).number is not None


def absent(settings: Settings) -> Refused:
    """The refusal of a command that needs a data folder with a database where there is none."""
    return Refused(
        f"there is no data folder {settings.data.absolute()}: name the right one with --data, "
        "or make it with `registry-gateway serve`"
    )


def make(settings: Settings) -> None:
    """Make a data folder that is missing, and complete a restore that was interrupted. Raises Refused."""
    data = settings.data
    require_owner(data)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"data folder {data.absolute()} cannot be made ({error.strerror}): give --data another one"
        ) from error
    data_folder.make_room(data)
    _finish_restore(data)


def _finish_restore(data: Path) -> None:
    try:
        finish_restore(data)
    except DataFolderBusy as error:
        raise Refused(f"data folder {data.absolute()} is being restored: try again") from error
    except OSError as error:
        raise Refused(
            f"a restore of {data.absolute()} was interrupted and cannot be completed ({error.strerror}): "
            "look at its owner and its disk, then try again"
        ) from error
