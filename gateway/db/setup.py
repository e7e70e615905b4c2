"""Set-up and upgrades of gateway.db: an empty one is set up by whoever uses it, any other is upgraded on request."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from cache import sqlite
from cache.sqlite import run_migrations
from gateway.db.address import DatabaseAddress, PostgresqlAddress
from gateway.db.postgresql import SET_UP_LOCK, WRITERS_LOCK, explained, make_engine, take_lock
from gateway.db.revisions import MIGRATIONS, SchemaRevision, check_usable, needed_revision

_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '30s'")


async def set_up(address: DatabaseAddress) -> None:
    """Make the database usable, as each command does: an empty one is given its tables, any other is left as it is.

    Raises DatabaseOutdated where a person must upgrade, DatabaseUnusable.
    """
    found = SchemaRevision(None)
    if not isinstance(address, Path) or address.exists():
        found = await read_revision(address)
    if found.number is not None:
        check_usable(address, found, needed_revision())
    elif isinstance(address, Path):
        sqlite.migrate(address, MIGRATIONS)
    else:
        await _migrate(address, only_empty=True)


async def upgrade(address: DatabaseAddress, before_upgrade: Callable[[], None] = lambda: None) -> str | None:
    """Bring the database to the newest revision; an empty one is set up.

    `before_upgrade`: called before an SQLite file is upgraded, while nobody writes to it. Returns the revision that was
    upgraded; None where there was none to upgrade. Raises DatabaseUnusable.
    """
    if isinstance(address, Path):
        return sqlite.migrate(address, MIGRATIONS, before_upgrade)
    return await _migrate(address, only_empty=False)


async def read_revision(address: DatabaseAddress) -> SchemaRevision:
    """Read the revision of a database, and change nothing. Raises DatabaseUnusable, also if there is no such file."""
    if isinstance(address, Path):
        return _read_file(address)
    engine = make_engine(address)
    try:
        with explained(address):
            async with engine.connect() as connection:
                return await _read(connection)
    finally:
        await engine.dispose()


async def _migrate(address: PostgresqlAddress, *, only_empty: bool) -> str | None:
    """Run the migrations, if any are missing, in one transaction; returns the revision that was upgraded."""
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
                    return found.number
                return None
    finally:
        await engine.dispose()


def _run_migrations(connection: Connection, address: PostgresqlAddress, current: str | None) -> None:
    run_migrations(connection, MIGRATIONS, address, current)


def _read_file(path: Path) -> SchemaRevision:
    engine = create_engine(sqlite.url("sqlite", path), poolclass=NullPool)
    sqlite.listen(engine)
    with sqlite.reading(engine, path) as connection:
        number = sqlite.revision_of(connection)
        if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'compatibility'").first():
            return SchemaRevision(number)
        oldest = connection.exec_driver_sql("SELECT oldest_program FROM compatibility").scalar()
        return SchemaRevision(number, cast(str | None, oldest))


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
