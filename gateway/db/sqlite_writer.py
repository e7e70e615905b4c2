"""SqliteWriter: the thread that does whole transactions of an SQLite file, and one commit for all who wait for one.

An asynchronous connection hands each step of each statement to a thread and back, which takes ten times as long as the
statement. A transaction whose steps are all known is therefore handed over whole. What waits when the thread has its
turn is done in one transaction, and then waits for the disk once.
"""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextvars import copy_context
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from cache import sqlite
from cache.sqlite import alone
from gateway.db.sqlite_steps import Work, complete, steps_of

T = TypeVar("T")

TOGETHER = 32
"""Pieces of work in one transaction at most: the first of them waits for the last."""
CLOSE_SECONDS = 0.5


class _Job(Generic[T]):
    """A piece of work that waits for its transaction. Not `durable`: it does not wait for the disk."""

    def __init__(self, work: Work[T], durable: bool) -> None:
        self.work = work
        self.durable = durable
        self.outcome: Future[T] = Future()
        self._context = copy_context()

    def done_with(self, steps: AsyncConnection) -> T:
        """Do the work with the context variables of whoever waits for it, and return its result."""
        return self._context.run(lambda: complete(self.work(steps)))

    def fail(self, error: BaseException) -> None:
        """Let whoever still waits learn of an error that ended the transaction."""
        if not self.outcome.done() and (self.outcome.running() or self.outcome.set_running_or_notify_cancel()):
            self.outcome.set_exception(error)


class SqliteWriter:
    """Transactions of one file, in the order in which they were requested; other processes have turns between them."""

    def __init__(self, path: Path, engine: Engine, seconds: float) -> None:
        """`engine`: of this writer alone, which keeps a connection of it. `seconds`: how long work waits for its
        turn."""
        self._path = path
        self._engine = engine.execution_options(**sqlite.WRITES)
        self._seconds = seconds
        self._waiting: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._connection: Connection | None = None
        self._steps: AsyncConnection
        self._waits_for_disk: bool | None = None
        """Whether the connection's commits do."""
        # A process that gave up waiting may end while the thread still waits for other processes.
        self._thread = threading.Thread(target=self._write, name="gateway-db-write", daemon=True)

    def close(self) -> None:
        """End the thread; one that waits for another process is left behind."""
        if self._thread.ident is not None:
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)

    async def transact(self, work: Work[T], durable: bool) -> T:
        """Do work in a transaction, and return its result after the commit.

        Work that has begun is done to its end also where the caller is cancelled. Raises DatabaseUnusable, also where
        its turn does not come in time, and what the work raises: then nothing of it was done.
        """
        job = _Job(work, durable)
        if self._thread.ident is None:
            self._thread.start()
        self._waiting.put(job)
        outcome = asyncio.wrap_future(job.outcome)
        try:
            await asyncio.wait([outcome], timeout=self._seconds)
            if not outcome.done() and job.outcome.cancel():
                raise sqlite.locked_error(self._path)
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            if not job.outcome.cancel():
                await _ended(outcome)
            raise

    def _write(self) -> None:
        """Body of the thread."""
        while (job := self._waiting.get()) is not None:
            jobs = [job]
            try:
                with alone(self._path):
                    jobs = self._begun(job)
                    self._do(jobs)
            except BaseException as error:  # a thread's last resort: who waits must learn of it
                for job in jobs:
                    job.fail(error)
        self._disconnect()

    def _begun(self, first: _Job[Any]) -> list[_Job[Any]]:
        """The work that waits now, without what nobody waits for any more."""
        jobs = [first]
        while len(jobs) < TOGETHER:
            try:
                job = self._waiting.get_nowait()
            except Empty:
                break
            if job is None:
                self._waiting.put(None)
                break
            jobs.append(job)
        return [job for job in jobs if job.outcome.set_running_or_notify_cancel()]

    def _do(self, jobs: Sequence[_Job[Any]]) -> None:
        """Do work in one transaction; where any of it fails, each piece is done again in one of its own."""
        if not jobs:
            return
        try:
            results = self._commit(jobs)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].outcome.set_exception(error)
                return
            for job in jobs:
                self._do([job])
            return
        for job, result in zip(jobs, results, strict=True):
            job.outcome.set_result(result)

    def _commit(self, jobs: Sequence[_Job[Any]]) -> list[Any]:
        with sqlite.explained(self._path):
            connection = self._connect(any(job.durable for job in jobs))
            try:
                with connection.begin():
                    return [job.done_with(self._steps) for job in jobs]
            except BaseException:
                self._disconnect()
                raise

    def _connect(self, durable: bool) -> Connection:
        connection = self._connection
        if connection is None:
            self._connection = connection = self._engine.connect()
            self._steps, self._waits_for_disk = steps_of(connection), None
        if durable is not self._waits_for_disk:
            cursor = connection.connection.cursor()
            cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            cursor.close()
            self._waits_for_disk = durable
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


async def _ended(outcome: "asyncio.Future[Any]") -> None:
    """Wait for an outcome of which nothing else is wanted, however often that is cancelled."""
    while not outcome.done():
        try:
            await asyncio.wait([outcome])
        except asyncio.CancelledError:
            continue
    if not outcome.cancelled():
        outcome.exception()
