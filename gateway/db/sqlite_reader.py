"""SqliteReader: the threads that do whole transactions of an SQLite file which change nothing."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from cache import sqlite
from gateway.db.sqlite_steps import Work, complete, steps_of

T = TypeVar("T")

READERS = 2
"""Threads: one reads on while the other waits for the disk. More would only wait for the interpreter."""


class SqliteReader:
    """Reads of one file, each of which sees one state of it."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path = path
        self._engine = engine
        self._threads = ThreadPoolExecutor(READERS, "gateway-db-read")
        self._own = threading.local()
        self._opened: set[Connection] = set()

    def close(self) -> None:
        """Wait for the threads, and close their connections."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    async def query(self, work: Work[T]) -> T:
        """Do work in a transaction, and return its result. Raises DatabaseUnusable, and what the work raises."""
        return await asyncio.wrap_future(self._threads.submit(self._read, work))

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
