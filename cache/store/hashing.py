"""HashingWriter: writes into a spool and hashes, in the caller's thread or in a second one behind a pool of buffers."""

import hashlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from cache.oci.digest import Digest
from cache.store.spool import Spool

BUFFER = 1024 * 1024
BUFFERS = 6
LARGE = 4 * 1024 * 1024
"""Bytes from which a second thread is worth its start; hashing takes a third of the time of a fill."""


class HashingWriter:
    """Writer of one stream into a spool. `grew` is called with the bytes of the spool that may be read.

    `size`: bytes that are expected, None where that is unknown. Leaving the block waits until all is hashed.
    """

    def __init__(self, spool: Spool, grew: Callable[[int], None], size: int | None) -> None:
        self._spool = spool
        self._grew = grew
        self._threaded = size is None or size >= LARGE
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._written: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        for _ in range(BUFFERS if self._threaded else 1):
            self._free.put(memoryview(bytearray(BUFFER)))

    def __enter__(self) -> Self:
        if self._threaded:
            self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threaded:
            self._written.put(None)
            self._thread.join()

    def buffer(self) -> memoryview:
        """Return a free buffer; blocks while all are waiting to be hashed."""
        return self._free.get()

    def write(self, buffer: memoryview, count: int) -> None:
        """Write the first `count` bytes of a `buffer`, which is free again once they are hashed.

        Raises OSError, after which the spool must be given up.
        """
        self._spool.write(buffer[:count])
        if self._threaded:
            self._written.put((buffer, count))
        else:
            self._count(buffer, count)

    def _run(self) -> None:
        while (item := self._written.get()) is not None:
            self._count(*item)

    def _count(self, buffer: memoryview, count: int) -> None:
        self._spool.count(buffer[:count])
        self._free.put(buffer)
        self._grew(self._spool.size)


def digest_of(descriptor: int, algorithm: str, stopped: Callable[[], bool]) -> Digest | None:
    """Hash an open file from its start; None where `stopped` returned True before its end. Blocks; raises OSError."""
    hasher, buffer, offset = hashlib.new(algorithm), memoryview(bytearray(BUFFER)), 0
    while not stopped():
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            return Digest(algorithm, hasher.hexdigest())
        hasher.update(buffer[:count])
        offset += count
    return None
