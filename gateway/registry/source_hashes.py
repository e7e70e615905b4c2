"""SourceHashes: hashes the files that are mounted, which takes as long as the files are large.

It has threads of its own, so that no push waits behind it, and does no more than what a client still waits for.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.store.hashing import whole_digest

THREADS = 1
"""Threads that hash: pushes, which hash too, have the other core of a small machine."""
MOST_WAITING = 16
"""Files that wait for a thread, or have one; what comes beyond them is not mounted, and its client uploads."""
WAIT_SECONDS = 20.0
"""How long a client waits; uploading takes most of them less."""


@dataclass(slots=True)
class _Running:
    """The hash of one file, for all who wait for it."""

    hashing: "asyncio.Future[Digest]"
    waiting: int = 0


class SourceHashes:
    """The files of one process that are being hashed; for one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "mount-hash")
        self._running: dict[tuple[int, int, str], _Running] = {}

    async def digest(self, descriptor: int, algorithm: str) -> Digest | None:
        """Hash a file; None where that takes too long, for there are too many. Raises OSError."""
        status = os.fstat(descriptor)
        key = status.st_dev, status.st_ino, algorithm
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= MOST_WAITING:
                return None
            running = self._running[key] = _Running(self._start(descriptor, algorithm))
        running.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.shield(running.hashing)
        except TimeoutError:
            return None
        finally:
            running.waiting -= 1
            if not running.waiting:
                del self._running[key]
                running.hashing.cancel()

    def _start(self, descriptor: int, algorithm: str) -> "asyncio.Future[Digest]":
        own = os.dup(descriptor)
        started = self._threads.submit(whole_digest, own, algorithm)
        started.add_done_callback(lambda _: os.close(own))  # also where it was cancelled before it had a thread
        return asyncio.wrap_future(started)

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown(cancel_futures=True)
