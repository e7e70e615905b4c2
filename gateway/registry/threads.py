"""UploadThreads: the few threads in which uploads write, hash and wait for the disk, beside the event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gateway.registry.source_hashes import SourceHashes

P = ParamSpec("P")
T = TypeVar("T")

WRITERS = 4
"""Threads that hash and write: twice as many as cores of a small machine, since some wait for the disk."""
SYNCERS = 8
"""Threads that wait for the disk, or read a file whole."""


class UploadThreads:
    """Threads of one process: those that write are never kept by a disk that is being waited for."""

    def __init__(self) -> None:
        self._writers = ThreadPoolExecutor(WRITERS, "upload-write")
        self._syncers = ThreadPoolExecutor(SYNCERS, "upload-sync")
        self.sources = SourceHashes()
        self._pending = 0
        self.gathered = 0
        """Bytes that the uploads of this process keep in memory until they are written."""

    @property
    def are_writing(self) -> bool:
        """Whether a piece of work waits for a writing thread, or keeps one."""
        return self._pending > 0

    def start_writing(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Start a piece of work that takes milliseconds."""
        running = asyncio.wrap_future(self._writers.submit(work, *args, **kwargs))
        self._pending += 1
        running.add_done_callback(self._end_writing)
        return running

    def _end_writing(self, _: object) -> None:
        self._pending -= 1

    def start(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Start a piece of work that may take seconds."""
        return asyncio.wrap_future(self._syncers.submit(work, *args, **kwargs))

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may take seconds, to its end also where the caller is cancelled."""
        return await completed(self.start(work, *args, **kwargs))

    def close(self) -> None:
        """Wait for the threads."""
        self._writers.shutdown()
        self._syncers.shutdown()
        self.sources.close()


async def completed(work: Awaitable[T]) -> T:
    """Wait for work to its end, and return its result; where the caller is cancelled, CancelledError is raised then.

    A step of an upload is never left half done because its client has left.
    """
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not running.cancelled():
            running.exception()  # seen: the cancelled caller has no use for it
        raise cancelled
    return running.result()
