"""Set-up and upgrades of gateway.db: an SQLite file is upgraded when it is opened, a PostgreSQL database on request."""

from pathlib import Path
from typing import cast

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cache import sqlite
from cache.sqlite import run_migrations
from gateway.db.address import DatabaseAddress, PostgresqlAddress
from gateway.db.postgresql import SET_UP_LOCK, WRITERS_LOCK, explained, make_engine, take_lock
from gateway.db.revisions import MIGRATIONS, SchemaRevision, check_usable, needed_revision

_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '30s'")


async def set_up(address: DatabaseAddress) -> None:
    """Make the database usable, as each start does: an empty one is given its tables, an SQLite file is upgraded.

    Raises DatabaseOutdated where a person must upgrade, DatabaseUnusable.
    """
    if isinstance(address, Path):
        sqlite.migrate(address, MIGRATIONS)
        return
    found = await read_revision(address)
    if found.number is None:
        await _migrate(address, only_empty=True)
    else:
        check_usable(address, found, needed_revision())


async def upgrade(address: DatabaseAddress) -> None:
    """Bring the database to the newest revision; an empty one is set up. Raises DatabaseUnusable."""
    if isinstance(address, Path):
        sqlite.migrate(address, MIGRATIONS)
    else:
        await _migrate(address, only_empty=False)


async def read_revision(address: DatabaseAddress) -> SchemaRevision:
    """Read the revision of a database, and change nothing. Raises DatabaseUnusable, also if there is no such file."""
    if isinstance(address, Path):
        return SchemaRevision(sqlite.read_revision(address))
    engine = make_engine(address)
    try:
        with explained(address):
            async with engine.connect() as connection:
                return await _read(connection)
    finally:
        await engine.dispose()


async def _migrate(address: PostgresqlAddress, *, only_empty: bool) -> None:
    engine = make_engine(address)
    try:
        with explained(address):
            async with engine.begin() as connection:
                await connection.execute(_LOCK_TIMEOUT)
                await take_lock(connection, SET_UP_LOCK)
                await take_lock(connection, WRITERS_LOCK)
                found = await _read(connection)
                if only_empty and found.number is not None:
                    check_usable(address, found, needed_revision())
                elif found.number != needed_revision():
                    await connection.run_sync(_run_migrations, address, found.number)
    finally:
        await engine.dispose()


def _run_migrations(connection: Connection, address: PostgresqlAddress, current: str | None) -> None:
    run_migrations(connection, MIGRATIONS, address, current)


async def _read(connection: AsyncConnection) -> SchemaRevision:
    async def holds(table: str) -> bool:
        return await connection.scalar(text("SELECT to_regclass(:table)::text"), {"table": table}) is not None

    if not await holds("alembic_version"):
        return SchemaRevision(None)
    number = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if not await holds("compatibility"):
        return SchemaRevision(number)
    oldest = await connection.scalar(text("SELECT oldest_program FROM compatibility"))
    return SchemaRevision(number, cast(str | None, oldest))
