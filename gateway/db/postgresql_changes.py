"""Changes of gateway.db on a PostgreSQL server: one task per process follows the log.

NOTIFY tells the task that changes were committed. It may be lost, with a connection that breaks or behind a pooler, so
the task reads the log at intervals as well.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cache.runtime.tasks import Tasks
from cache.sqlite import DatabaseUnusable
from gateway.db.address import PostgresqlAddress
from gateway.db.changes import STALE_SECONDS, ChangeSignal, News, last_number, news_after
from gateway.db.dialects import CHANNEL
from gateway.db.postgresql import explained, make_engine, unusable

POLL_SECONDS = 0.5
READ_SECONDS = 1.0
"""Time that one read of the log may take; a server that does not answer is as one that is not there."""
RETRY_SECONDS = 0.2

log = structlog.get_logger()


class PostgresqlSignal(ChangeSignal):
    """Drops entries when the log names them, in the background; a lookup costs nothing."""

    def __init__(self, address: PostgresqlAddress, engine: AsyncEngine, seen: int) -> None:
        super().__init__(seen)
        self._address = address
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._loop = asyncio.get_running_loop()
        self._reached_at = self._loop.time()
        self._failure = ""
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[str]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, address: PostgresqlAddress) -> AsyncIterator["PostgresqlSignal"]:
        """Follow the log of a database that has been set up. Raises DatabaseUnusable."""
        engine = make_engine(address)
        with explained(address):
            async with engine.connect() as connection:
                seen = await connection.scalar(last_number()) or 0
        signal, tasks = cls(address, engine, seen), Tasks()
        tasks.start(signal._follow(), "changes")
        try:
            yield signal
        finally:
            await tasks.close()
            signal._answer("the database is closed")
            await engine.dispose()

    def catch_up(self) -> None:
        pass

    async def refresh(self) -> None:
        if not self._failure:
            await self._read_soon()

    async def require_newest(self) -> None:
        failure = self._failure or await self._read_soon()
        if failure:
            raise DatabaseUnusable(failure)

    async def require_current(self) -> None:
        if self._loop.time() - self._reached_at <= STALE_SECONDS:
            return
        if failure := self._failure or await self._read_soon():
            raise DatabaseUnusable(failure)

    async def _read_soon(self) -> str:
        """Wait until the log was read once more; returns why that failed, or an empty text."""
        read: asyncio.Future[str] = self._loop.create_future()
        self._waiting.append(read)
        self._wanted.set()
        return await read

    async def _follow(self) -> None:
        """Body of the task: follow the log on one connection, and on another one when that breaks."""
        while True:
            try:
                with explained(self._address):
                    async with self._engine.connect() as connection:
                        await self._follow_on(connection)
            except Exception as error:  # a task's last resort: those who wait for it must learn of it
                reason = error if isinstance(error, DatabaseUnusable) else unusable(self._address, error)
                if not self._failure:
                    log.warning("changes_not_read", reason=str(reason))
                self._failure = str(reason)
                self._answer(self._failure)
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_on(self, connection: AsyncConnection) -> None:
        """Read the log for each notification, and at intervals, until the connection breaks, which raises."""
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        with self._patience(driver):
            await driver.add_listener(CHANNEL, lambda *_: self._wanted.set())
        while True:
            with self._patience(driver):
                await self._read(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wanted.wait()

    @contextmanager
    def _patience(self, driver: Any) -> Iterator[None]:
        """Break the connection if the block takes longer than READ_SECONDS; what waits for it then fails at once.

        A statement that is cancelled would wait for the server once more.
        """
        watchdog = self._loop.call_later(READ_SECONDS, driver.terminate)
        try:
            yield
        finally:
            watchdog.cancel()

    async def _read(self, connection: AsyncConnection) -> None:
        """Read the log once, drop what it names, and answer those who wait for it."""
        self._wanted.clear()
        waiting, self._waiting = self._waiting, []
        began = self._loop.time()
        try:
            news = [News(*row) for row in await connection.execute(news_after(self._seen))]
        except BaseException:
            self._waiting = waiting + self._waiting
            raise
        self._take(news)
        if self._failure:
            log.info("changes_read_again")
        self._failure, self._reached_at = "", began
        _answer_all(waiting, "")

    def _answer(self, failure: str) -> None:
        waiting, self._waiting = self._waiting, []
        _answer_all(waiting, failure)


def _answer_all(waiting: list[asyncio.Future[str]], failure: str) -> None:
    for read in waiting:
        if not read.done():
            read.set_result(failure)
