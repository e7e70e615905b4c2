"""Data folder: how commands open or make it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway import data_folder
from gateway.cli.refusals import Refused
from gateway.db import groups
from gateway.db.engine import DATABASE_FILE, Database, migrate
from gateway.namespaces.group import Group


@asynccontextmanager
async def open_made(data: Path) -> AsyncIterator[Database]:
    """Open the database; a missing one is made, with the group that a new one holds.

    Raises Refused, DatabaseUnusable.
    """
    _make(data)
    async with Database.open(data / DATABASE_FILE) as database:
        async with database.write() as connection:
            await groups.prepare(connection, datetime.now(UTC))
        yield database


@asynccontextmanager
async def open_existing(data: Path) -> AsyncIterator[Database]:
    """Open the database, which must exist. Raises Refused, DatabaseUnusable."""
    _require(data)
    async with Database.open(data / DATABASE_FILE) as database:
        yield database


async def make(data: Path) -> list[Group]:
    """Make the folder and its database where they are missing; returns the groups. Raises Refused, DatabaseUnusable."""
    async with open_made(data) as database, database.read() as connection:
        return await groups.list_all(connection)


async def read_groups(data: Path) -> list[Group]:
    """Every group, each after the one above it. Raises Refused, DatabaseUnusable."""
    async with open_existing(data) as database, database.read() as connection:
        return await groups.list_all(connection)


async def require(data: Path) -> None:
    """Check that the data folder exists, and migrate its database. Raises Refused, DatabaseUnusable."""
    async with open_existing(data):
        pass


def _make(data: Path) -> None:
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"data folder {data.absolute()} cannot be made ({error.strerror}): give --data another one"
        ) from error
    data_folder.make_room(data)
    migrate(data / DATABASE_FILE)


def _require(data: Path) -> None:
    if not (data / DATABASE_FILE).is_file():
        raise Refused(
            f"there is no data folder {data.absolute()}: name the right one with --data, "
            "or make it with `registry-gateway serve`"
        )
    migrate(data / DATABASE_FILE)
