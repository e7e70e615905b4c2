"""The database of the gateway: how it is migrated, opened, read, written and watched. It knows no table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cache import sqlite
from cache.sqlite import DatabaseUnusable, Watcher

DATABASE_FILE = "gateway.db"
MIGRATIONS = "gateway.db:migrations"


class Database:
    """One open gateway.db; made by `Database.open`, and of use on the event loop that opened it only."""

    def __init__(self, path: Path, engine: AsyncEngine, watcher: Watcher) -> None:
        self.path = path
        self._readers = engine
        self._writers = engine.execution_options(**sqlite.WRITES)
        self._watcher = watcher

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, look_every: float = 0.0) -> AsyncIterator["Database"]:
        """Open a database that `migrate` has made. Raises DatabaseUnusable, also when there is none.

        `look_every`: as a Watcher has it.
        """
        engine = create_async_engine(sqlite.url("sqlite+aiosqlite", path))
        sqlite.listen(engine.sync_engine)
        watcher = Watcher(path, look_every)
        try:
            yield cls(path, engine, watcher)
        finally:
            watcher.close()
            await engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that sees one state of the database and changes nothing. Raises DatabaseUnusable."""
        with sqlite.explained(self.path):
            async with self._readers.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that commits when the block ends well; what it reads stays true until then.

        Raises DatabaseUnusable, also when other writers leave it no turn in time.
        """
        with sqlite.explained(self.path):
            async with self._writers.begin() as connection:
                yield connection

    def version(self) -> int:
        """A number that differs from the last one if anybody, here or in another process, has committed since.

        Synchronous, because it is asked with every request. Ask before reading what it guards: a commit in between is
        then seen at the next look.
        """
        return self._watcher.version()


def migrate(path: Path) -> None:
    """Make the database at need and bring it to the newest revision. Raises DatabaseUnusable."""
    sqlite.migrate(path, MIGRATIONS)


__all__ = ["DATABASE_FILE", "Database", "DatabaseUnusable", "migrate"]
