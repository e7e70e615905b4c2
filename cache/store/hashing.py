"""HashingWriter: writes into a spool and hashes, in the caller's thread or in a second one behind a few buffers."""

import hashlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from cache.oci.digest import Digest
from cache.store.spool import Spool

BUFFER = 64 * 1024
BUFFERS = 6
LARGE_BUFFER = 1024 * 1024
LARGE_BUFFERS = 32
"""Large buffers of a process: a stream that delivers more than BUFFER at once is faster with them, and does without
where none is free."""

LARGE = 4 * 1024 * 1024
"""Bytes from which a second thread is worth its start; hashing takes a third of the time of a fill."""

THREAD_FROM = 1024 * 1024
"""Bytes that a stream must have delivered before it gets a second thread: one that trickles needs none."""


class BufferPool:
    """Large buffers that the fills of a process share. Any thread calls its methods."""

    def __init__(self, count: int = LARGE_BUFFERS) -> None:
        self._lock = threading.Lock()
        self._unmade = count
        self._free: list[memoryview] = []

    def take(self) -> memoryview | None:
        """Take a buffer, which the caller gives back; None if all are taken."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if not self._unmade:
                return None
            self._unmade -= 1
        return memoryview(bytearray(LARGE_BUFFER))

    def give_back(self, buffer: memoryview) -> None:
        with self._lock:
            self._free.append(buffer)


class HashingWriter:
    """Writer of one stream into a spool. `grew` is called with the bytes of the spool that may be read.

    `size`: bytes that are expected, None where that is unknown. Leaving the block waits until all is hashed.
    """

    def __init__(self, spool: Spool, grew: Callable[[int], None], size: int | None, pool: BufferPool) -> None:
        self._spool = spool
        self._grew = grew
        self._pool = pool
        self._threaded = size is None or size >= LARGE
        self._thread: threading.Thread | None = None
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._written: SimpleQueue[tuple[memoryview, memoryview, int] | None] = SimpleQueue()
        self._own = memoryview(b"")
        self._large: memoryview | None = None
        self._fast = False
        self._total = 0
        self._free.put(memoryview(bytearray(BUFFER)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._written.put(None)
            self._thread.join()
        if self._large is not None:
            self._pool.give_back(self._large)

    def buffer(self) -> memoryview:
        """Return a free buffer, a large one for a stream that fills the others; blocks while all wait to be hashed."""
        self._own = self._free.get()
        if self._fast:
            self._large = self._pool.take()
        return self._large or self._own

    def write(self, buffer: memoryview, count: int) -> None:
        """Write the first `count` bytes of the `buffer`, which is free again once they are hashed.

        Raises OSError, after which the spool must be given up.
        """
        self._spool.write(buffer[:count])
        self._fast = count >= BUFFER
        self._total += count
        self._large = None  # whoever hashes it gives it back
        if self._threaded and self._thread is None and self._total >= THREAD_FROM:
            self._start_thread()
        if self._thread is None:
            self._count(self._own, buffer, count)
        else:
            self._written.put((self._own, buffer, count))

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="hash", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads: this one hashes, too
            self._threaded = False
            return
        self._thread = thread
        for _ in range(BUFFERS - 1):
            self._free.put(memoryview(bytearray(BUFFER)))

    def _run(self) -> None:
        while (item := self._written.get()) is not None:
            self._count(*item)

    def _count(self, own: memoryview, buffer: memoryview, count: int) -> None:
        self._spool.count(buffer[:count])
        if buffer is not own:
            self._pool.give_back(buffer)
        self._free.put(own)
        self._grew(self._spool.size)


def digest_of(descriptor: int, algorithm: str, stopped: Callable[[], bool]) -> Digest | None:
    """Hash an open file from its start; None where `stopped` returned True before its end. Blocks; raises OSError."""
    hasher, buffer, offset = hashlib.new(algorithm), memoryview(bytearray(LARGE_BUFFER)), 0
    while not stopped():
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            return Digest(algorithm, hasher.hexdigest())
        hasher.update(buffer[:count])
        offset += count
    return None


def whole_digest(descriptor: int, algorithm: str) -> Digest:
    """Hash an open file from its start to its end. Blocks; raises OSError."""
    found = digest_of(descriptor, algorithm, lambda: False)
    assert found is not None, "nothing stops it"
    return found
