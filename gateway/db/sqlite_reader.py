"""SqliteReader: the threads that do whole transactions of an SQLite file which change nothing."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from cache import sqlite
from cache.runtime.fair_queue import FairQueue
from cache.runtime.on_behalf import current_requester
from gateway.db.sqlite_steps import Work, complete, steps_of

T = TypeVar("T")

READERS = 2
"""Threads: one reads on while the other waits for the disk. More would only wait for the interpreter."""

BEGUN = 2 * READERS
"""Reads that the threads are given at a time, so that none of them waits for a turn of the event loop."""


_Waiting = tuple[Work[Any], "asyncio.Future[Any]"]
"""A read, and where its result is awaited."""


class SqliteReader:
    """Reads of one file, each of which sees one state of it. For one event loop.

    Requesters take turns: hundreds of reads of one leave the next read of another theirs.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path = path
        self._engine = engine
        self._threads = ThreadPoolExecutor(READERS, "gateway-db-read")
        self._own = threading.local()
        self._opened: set[Connection] = set()
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._begun = 0

    def close(self) -> None:
        """Wait for the threads, and close their connections."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    async def query(self, work: Work[T]) -> T:
        """Do work in a transaction, and return its result. Raises DatabaseUnusable, and what the work raises."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.add(current_requester(), (work, outcome))
        self._begin()
        return await outcome

    def _begin(self) -> None:
        while self._begun < BEGUN and (taken := self._waiting.take()) is not None:
            _, (work, outcome) = taken
            if not outcome.done():
                reading = outcome.get_loop().run_in_executor(self._threads, self._read, work)
                self._begun += 1
                reading.add_done_callback(partial(self._end, outcome))

    def _end(self, outcome: "asyncio.Future[Any]", reading: "asyncio.Future[Any]") -> None:
        self._begun -= 1
        if reading.cancelled():
            outcome.cancel()
        elif (error := reading.exception()) is not None:
            if not outcome.done():
                outcome.set_exception(error)
        elif not outcome.done():
            outcome.set_result(reading.result())
        self._begin()

    def _read(self, work: Work[T]) -> T:
        with sqlite.explained(self._path):
            connection, steps = self._connect()
            try:
                with connection.begin() as transaction:
                    result = complete(work(steps))
                    transaction.rollback()  # nothing was changed
                return result
            except BaseException:
                self._disconnect(connection)
                raise

    def _connect(self) -> tuple[Connection, AsyncConnection]:
        """The connection of this thread, which it keeps."""
        kept: tuple[Connection, AsyncConnection] | None = getattr(self._own, "connection", None)
        if kept is None:
            connection = self._engine.connect()
            self._opened.add(connection)
            kept = self._own.connection = connection, steps_of(connection)
        return kept

    def _disconnect(self, connection: Connection) -> None:
        self._own.connection = None
        self._opened.discard(connection)
        connection.close()
