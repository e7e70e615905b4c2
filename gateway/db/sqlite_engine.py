"""gateway.db as an SQLite file: how its transactions begin, and the turns of its writers."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cache import sqlite
from cache.sqlite import alone
from gateway.db.sqlite_reader import SqliteReader
from gateway.db.sqlite_steps import Work
from gateway.db.sqlite_writer import CLOSE_SECONDS, SqliteWriter

T = TypeVar("T")

CONNECTION_SECONDS = 10.0


class SqliteTransactions:
    """Transactions of one SQLite file, on the event loop that opened it."""

    def __init__(
        self,
        path: Path,
        engine: AsyncEngine,
        fleeting: AsyncEngine,
        turns: "WriterTurns",
        writer: SqliteWriter,
        reader: SqliteReader,
    ) -> None:
        """`fleeting`: engine whose commits a power failure may undo."""
        self.engine = engine
        self._path = path
        self._writers = engine.execution_options(**sqlite.WRITES)
        self._fleeting_writers = fleeting.execution_options(**sqlite.WRITES)
        self._turns = turns
        self._writer = writer
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, turn_seconds: float, connection_seconds: float = CONNECTION_SECONDS
    ) -> AsyncIterator["SqliteTransactions"]:
        """Open the file, which must exist. `turn_seconds`: how long a writer waits for its turn. `connection_seconds`:
        how long a transaction waits for a connection while others use them all."""
        engine, fleeting = (
            create_async_engine(
                sqlite.url("sqlite+aiosqlite", path), hide_parameters=True, pool_timeout=connection_seconds
            )
            for _ in range(2)
        )
        sqlite.listen(engine.sync_engine)
        sqlite.listen(fleeting.sync_engine, synchronous="NORMAL")
        whole = create_engine(sqlite.url("sqlite", path), hide_parameters=True)
        sqlite.listen(whole)
        turns, writer = WriterTurns(path, turn_seconds), SqliteWriter(path, whole, turn_seconds)
        reader = SqliteReader(path, whole)
        try:
            yield cls(path, engine, fleeting, turns, writer, reader)
        finally:
            reader.close()
            turns.close()
            writer.close()
            whole.dispose()
            await engine.dispose()
            await fleeting.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one state of the database. Raises DatabaseUnusable."""
        with sqlite.explained(self._path):
            async with self.engine.connect() as connection:
                yield connection

    async def query(self, work: Work[T]) -> T:
        """Do work in a transaction that sees one state of the database. Raises DatabaseUnusable."""
        return await self._reader.query(work)

    @asynccontextmanager
    async def write(self, durable: bool = True) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that no other writer overlaps. Raises DatabaseUnusable."""
        async with self._turns.turn():
            with sqlite.explained(self._path):
                async with (self._writers if durable else self._fleeting_writers).begin() as connection:
                    yield connection

    async def transact(self, work: Work[T], durable: bool = True) -> T:
        """Do work in a transaction that no other writer overlaps. Raises DatabaseUnusable."""
        return await self._writer.transact(work, durable)


class WriterTurns:
    """Queue of the writers of one database, of this process and of others, at the lock file beside it.

    SQLite's own lock is not fair: a writer that finds it taken tries again and again, and of several some fail as busy.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        """`seconds`: how long a writer waits for its turn."""
        self._path = path
        self._seconds = seconds
        self._waiting: SimpleQueue[Future[ExitStack] | None] = SimpleQueue()
        # One thread: it takes the turns of this process in order, and at most one waits for other processes. A process
        # that gave up waiting may end while the thread still waits.
        self._thread = threading.Thread(target=self._take_turns, name="gateway-db-turn", daemon=True)

    def close(self) -> None:
        """End the thread; one that waits for another process is left behind."""
        if self._thread.ident is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the turn for the block. Raises DatabaseUnusable when it does not come in time."""
        taken: Future[ExitStack] = Future()
        if self._thread.ident is None:
            self._thread.start()
        self._waiting.put(taken)
        try:
            async with asyncio.timeout(self._seconds):
                held = await asyncio.wrap_future(taken)
        except BaseException as error:
            if not taken.cancel():
                taken.add_done_callback(_give_back)
            if isinstance(error, TimeoutError):
                raise sqlite.locked_error(self._path) from None
            raise
        with held:
            yield

    def _take_turns(self) -> None:
        """Body of the thread."""
        while (taken := self._waiting.get()) is not None:
            if not taken.set_running_or_notify_cancel():
                continue
            try:
                taken.set_result(self._take())
            except BaseException as error:  # a thread's last resort: its waiter must learn of it
                taken.set_exception(error)

    def _take(self) -> ExitStack:
        """Wait for the lock; closing the stack releases it."""
        stack = ExitStack()
        stack.enter_context(alone(self._path))
        return stack


def _give_back(taken: Future[ExitStack]) -> None:
    """Release a lock that was acquired after its waiter had left."""
    if not taken.cancelled() and taken.exception() is None:
        taken.result().close()
