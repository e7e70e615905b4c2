"""SourceHashes: hashes the files that are mounted, which takes as long as the files are large.

It has threads of its own, so that no push waits behind it, and begins nothing that no client waits for any more.
"""

import asyncio
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.store.hashing import whole_digest

THREADS = 1
"""Threads that hash: pushes, which hash too, have the other core of a small machine."""
MOST_WAITING = 16
"""Files that wait for a thread, or have one; what comes beyond them is not mounted, and its client uploads."""
WAIT_SECONDS = 20.0
"""How long a client waits; uploading takes most of them less."""
RECENT_WAIT_SECONDS = 5.0
"""How long a client waits for the hash of a file that is mounted without it where it takes longer."""
RECENT_SECONDS = 24 * 3600.0
"""How long the hash of a file that nobody has changed stands for its bytes: the scrub reads none more often."""
RECENT_FILES = 10_000
"""Files whose hashes a process remembers, in about 4 MB."""

_Key = tuple[int, int, str]


@dataclass(slots=True)
class _Running:
    """The hash of one file, for all who wait for it."""

    hashing: "asyncio.Future[Digest]"
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Hashed:
    """The hash of one file as it was at a moment. `state`: changed by whoever writes to the file."""

    digest: Digest
    state: tuple[int, int, int]
    at: float


class SourceHashes:
    """The files of one process that are being hashed; for one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "mount-hash")
        self._running: dict[_Key, _Running] = {}
        self._lock = threading.Lock()
        self._recent: dict[_Key, _Hashed] = {}

    async def recent_digest(self, descriptor: int, algorithm: str) -> Digest | None:
        """Hash a file, unless that was done within a day and nobody has written to it since; None as for `digest`,
        after RECENT_WAIT_SECONDS. Raises OSError."""
        status = os.fstat(descriptor)
        with self._lock:
            hashed = self._recent.get(_key(status, algorithm))
        if hashed and hashed.state == _state(status) and time.monotonic() - hashed.at < RECENT_SECONDS:
            return hashed.digest
        return await self.digest(descriptor, algorithm, RECENT_WAIT_SECONDS)

    async def digest(self, descriptor: int, algorithm: str, seconds: float | None = None) -> Digest | None:
        """Hash a file; None where that takes longer than WAIT_SECONDS, or `seconds`, or too many wait. Raises
        OSError."""
        key = _key(os.fstat(descriptor), algorithm)
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= MOST_WAITING:
                return None
            running = self._running[key] = _Running(self._start(descriptor, algorithm))
        running.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS if seconds is None else seconds):
                return await asyncio.shield(running.hashing)
        except TimeoutError:
            return None
        finally:
            running.waiting -= 1
            if not running.waiting:
                del self._running[key]
                running.hashing.cancel()

    def _start(self, descriptor: int, algorithm: str) -> "asyncio.Future[Digest]":
        own, status = os.dup(descriptor), os.fstat(descriptor)

        def ended(hashing: "Future[Digest]") -> None:
            os.close(own)  # also where it was cancelled before it had a thread
            if not hashing.cancelled() and hashing.exception() is None:
                # Also where nobody has waited to the end: so the next mount of a very large file does not wait for it.
                self._remember(_key(status, algorithm), _Hashed(hashing.result(), _state(status), time.monotonic()))

        started = self._threads.submit(whole_digest, own, algorithm)
        started.add_done_callback(ended)
        return asyncio.wrap_future(started)

    def _remember(self, key: _Key, hashed: _Hashed) -> None:
        with self._lock:
            self._recent.pop(key, None)  # the newest is the last one
            self._recent[key] = hashed
            if len(self._recent) > RECENT_FILES:
                del self._recent[next(iter(self._recent))]

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown(cancel_futures=True)


def _key(status: os.stat_result, algorithm: str) -> _Key:
    return status.st_dev, status.st_ino, algorithm


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
