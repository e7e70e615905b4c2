"""LocalLeases: between the processes of one host, by locks on the bytes of one file."""

import contextlib
import fcntl
import hashlib
import os
import struct
from pathlib import Path

_LOCK = "hhqqi0q"
"""struct flock: type, whence, start, length, process; see fcntl(2)."""


class LocalLease:
    """A lock of an open file of its own, which the kernel gives back when the process is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class LocalLeases:
    """The file is made at need, stays empty and is never deleted: whoever has it open would lock another one.

    Two bytes stand for a name, by its SHA-256: one is locked by who has the lease, the other by those who attend.
    Locks of open files, not of processes: two who hold the file in one process keep each other out as well.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def take(self, name: str) -> LocalLease | None:
        return self._lock(fcntl.F_WRLCK, _place(name))

    def attend(self, name: str) -> LocalLease:
        lease = self._lock(fcntl.F_RDLCK, _place(name) + 1)
        if lease is None:
            raise BlockingIOError("a lock that all may share is not given")
        return lease

    def attended(self, name: str) -> bool:
        descriptor = self._open()
        try:
            asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, _place(name) + 1, 1, 0)
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
            return bool(struct.unpack(_LOCK, answer)[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)

    def _lock(self, kind: int, place: int) -> LocalLease | None:
        with contextlib.ExitStack() as undo:
            descriptor = self._open()
            undo.callback(os.close, descriptor)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_LOCK, kind, os.SEEK_SET, place, 1, 0))
            except (BlockingIOError, PermissionError):  # either is what somebody else's lock looks like, fcntl(2)
                return None
            undo.pop_all()
        return LocalLease(descriptor)

    def _open(self) -> int:
        return os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _place(name: str) -> int:
    """The first of the two bytes; the highest offset that a lock may have is 2^63 - 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") * 2
