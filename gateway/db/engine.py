"""Database: opens, sets up, reads and writes gateway.db on SQLite and on PostgreSQL. It knows no table but the
changes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cache import sqlite
from cache.sqlite import DatabaseUnusable
from gateway.db.address import DATABASE_FILE, DatabaseAddress
from gateway.db.changes import ChangeSignal
from gateway.db.revisions import MIGRATIONS
from gateway.db.sqlite_changes import SqliteSignal
from gateway.db.sqlite_engine import SqliteTransactions
from gateway.db.sqlite_steps import Work

T = TypeVar("T")

TURN_SECONDS = 5.0


class Transactions(Protocol):
    """Transactions of one engine. Writers never overlap, so what a writer has read holds until it commits."""

    engine: AsyncEngine

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def query(self, work: Work[T]) -> T: ...

    def write(self, durable: bool = True) -> AbstractAsyncContextManager[AsyncConnection]: ...

    async def transact(self, work: Work[T], durable: bool = True) -> T: ...


async def _never() -> bool:
    return False


class Database:
    """One open gateway.db; made by `Database.open`, and only usable on the event loop that opened it.

    `retry`: whether a transaction that has just failed is worth a second attempt; it may mend the cause first.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        transactions: Transactions,
        changes: ChangeSignal,
        retry: Callable[[], Awaitable[bool]] = _never,
    ) -> None:
        self.address = address
        self.changes = changes
        self._transactions = transactions
        self._readers = transactions.engine
        self._retry = retry

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: DatabaseAddress, look_every: float = 0.0, turn_seconds: float = TURN_SECONDS
    ) -> AsyncIterator["Database"]:
        """Open a database that has been set up. Raises DatabaseUnusable, also when there is none.

        `look_every`: seconds for which no further commit is looked for in an SQLite file. `turn_seconds`: how long a
        writer waits for its turn.
        """
        async with AsyncExitStack() as opened:
            transactions: Transactions
            changes: ChangeSignal
            if isinstance(address, Path):
                transactions = await opened.enter_async_context(SqliteTransactions.open(address, turn_seconds))
                changes = opened.enter_context(SqliteSignal.open(address, look_every))
            else:
                # Libraries that no SQLite file needs are most of what a command waits for.
                from gateway.db.postgresql import PostgresqlTransactions
                from gateway.db.postgresql_changes import PostgresqlSignal

                transactions = await opened.enter_async_context(PostgresqlTransactions.open(address, turn_seconds))
                changes = await opened.enter_async_context(PostgresqlSignal.open(address))
            yield cls(address, transactions, changes)

    def retrying(self, retry: Callable[[], Awaitable[bool]]) -> "Database":
        """This database, whose `transact` has a second attempt where `retry` returns True after a failure."""
        return Database(self.address, self._transactions, self.changes, retry)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one state of the database and changes nothing. Raises DatabaseUnusable."""
        async with self._transactions.read() as connection:
            yield connection

    async def query(self, work: Work[T]) -> T:
        """Do work in a transaction of `read`, and return its result.

        On SQLite this takes a fifth of the time of `read`. `work` waits for nothing but its statements, and takes
        milliseconds: others wait for it. Raises DatabaseUnusable, and what `work` raises.
        """
        return await self._transactions.query(work)

    @asynccontextmanager
    async def write(self, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends without an exception; until then what it read holds.

        Memories of this process are told of the changes before it returns. Raises DatabaseUnusable, also when other
        writers leave it no turn in time. Not `durable`: nothing waits for the disk, and a power failure may undo the
        last such transactions, though not the end of a process.
        """
        async with self._transactions.write(durable) as connection:
            yield connection
        await self.changes.refresh()

    async def transact(self, work: Work[T], durable: bool = True) -> T:
        """Do work in a transaction of `write`, and return its result after the commit.

        On SQLite this takes a tenth of the time of `write`, and several commits may wait for the disk together. `work`
        waits for nothing but its statements; it may be called again after a rollback. Once begun, it is done to its end
        also where the caller is cancelled. Raises DatabaseUnusable, and what `work` raises: then nothing was changed.
        """
        try:
            result = await self._transactions.transact(work, durable)
        except DatabaseUnusable:
            if not await self._retry():
                raise
            result = await self._transactions.transact(work, durable)
        await self.changes.refresh()
        return result


def migrate(path: Path) -> None:
    """Make an SQLite file if it is missing and bring it to the newest revision. Raises DatabaseUnusable."""
    sqlite.migrate(path, MIGRATIONS)


__all__ = ["DATABASE_FILE", "Database", "DatabaseUnusable", "migrate"]
