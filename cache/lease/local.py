"""LocalLeases: leases between the processes of one host, as locks on the bytes of one file."""

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

from cache.runtime.locks import byte_is_locked, open_lock_file, try_lock_byte


class LocalLease:
    """A lock of an open file of its own, which the kernel releases when the process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class LocalLeases:
    """Leases by name. The file is created at need, stays empty and is never deleted (`cache.runtime.locks`).

    Two bytes stand for a name, found by its SHA-256: the holder of the lease locks the first, its waiters share the
    second.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def take(self, name: str) -> LocalLease | None:
        return self._lock(_offset(name))

    def register_waiter(self, name: str) -> LocalLease:
        lease = self._lock(_offset(name) + 1, shared=True)
        if lease is None:
            raise BlockingIOError("a shared lock was refused")
        return lease

    def has_waiters(self, name: str) -> bool:
        descriptor = open_lock_file(self._file)
        try:
            return byte_is_locked(descriptor, _offset(name) + 1)
        finally:
            os.close(descriptor)

    def _lock(self, offset: int, *, shared: bool = False) -> LocalLease | None:
        with ExitStack() as undo:
            descriptor = open_lock_file(self._file)
            undo.callback(os.close, descriptor)
            if not try_lock_byte(descriptor, offset, shared=shared):
                return None
            undo.pop_all()
        return LocalLease(descriptor)


def _offset(name: str) -> int:
    """Place of the first of the two bytes; the highest offset that a lock may have is 2^63 - 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") * 2
