"""Queries: small lookups of one event loop in an SQLite file, run in a few threads, as many at once as wait.

A client that has received a manifest requests a dozen blobs, with two lookups each. A thread of its own for each of
them, with a transaction, took longer than the lookups themselves, most of it in handing over the interpreter.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")
Query = Callable[[Connection], T]
Transact = Callable[[Query[Any]], Any]
"""Runs a query in a transaction, with the errors of the file translated; blocks."""

Waiting = tuple[Query[Any], "asyncio.Future[Any]"]
"""A query, and where its result is awaited."""

READERS = 2
LONGEST_BATCH = 64
"""Queries of one transaction, so that none waits long for those before it."""


class Queries:
    """Threads that read. A query sees everything that was committed before it was requested."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact
        self._threads = ThreadPoolExecutor(READERS, "index-read")
        self._waiting: deque[Waiting] = deque()
        self._running = 0

    def close(self) -> None:
        self._threads.shutdown()

    def run(self, query: Query[T]) -> "asyncio.Future[T]":
        """Run a query soon. Its errors, and that the file cannot be read, are raised where the future is awaited."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        self._start_thread()
        return future

    def _start_thread(self) -> None:
        if self._waiting and self._running < READERS:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._threads, self._work, loop)
            self._running += 1
            running.add_done_callback(self._ended)

    def _ended(self, running: "asyncio.Future[None]") -> None:
        self._running -= 1
        if running.cancelled() or running.exception() is not None:
            return
        with suppress(RuntimeError):  # closed: those who wait were cancelled with the loop
            self._start_thread()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run batches in this thread until no query waits."""
        while batch := self._take():
            outcomes: list[Callable[[], None]] = []
            with suppress(Exception):  # which ends the batch: the others are run one by one
                self._transact(partial(_run_all, batch, outcomes))
            outcomes += [self._run_alone(query, future) for query, future in batch[len(outcomes) :]]
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_deliver, outcomes)

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        with suppress(IndexError):
            while len(batch) < LONGEST_BATCH:
                batch.append(self._waiting.popleft())
        return batch

    def _run_alone(self, query: Query[Any], future: "asyncio.Future[Any]") -> Callable[[], None]:
        try:
            return partial(_succeed, future, self._transact(query))
        except Exception as error:  # whatever it is, it is raised where the result is awaited
            return partial(_fail, future, error)


def _run_all(batch: list[Waiting], outcomes: list[Callable[[], None]], connection: Connection) -> None:
    for query, future in batch:
        outcomes.append(partial(_succeed, future, query(connection)))


def _deliver(outcomes: list[Callable[[], None]]) -> None:
    for outcome in outcomes:
        outcome()


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
