"""Locks that the kernel keeps on files and on single bytes of files, between threads and processes of one host.

All of them belong to an open file, not to a process: two that opened the same file in one process exclude each other
as well, and the kernel releases a lock when its last descriptor is closed, however its process ended. Lock files are
never deleted: a process that still has the old file open would hold a lock that excludes no other process.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FLOCK = "hhqqi0q"
"""struct flock: type, whence, start, length, process; see fcntl(2)."""


def open_lock_file(path: Path) -> int:
    """Create the file if it is missing; return a descriptor. Raises OSError, also where the name is a link.

    What root creates belongs to the owner of the folder, whose processes lock it too.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    if os.geteuid() == 0:
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_EXCL, 0o600)
            folder = os.stat(path.parent)
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
            return descriptor
    return os.open(path, flags, 0o600)


def lock(descriptor: int, *, shared: bool = False) -> None:
    """Wait for the lock of an open file."""
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Whether the lock of an open file was free, and is now held. Raises OSError where the file cannot be locked."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_lock_byte(descriptor: int, offset: int, *, shared: bool = False) -> bool:
    """Whether one byte of an open file was free, and is now locked. Raises OSError."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):  # fcntl(2): either one says that another holds a lock
        return False
    return True


def byte_is_locked(descriptor: int, offset: int) -> bool:
    """Whether another open file holds a lock, shared or exclusive, on one byte. Raises OSError."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted)
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Wait for the lock of a lock file and hold it within the block; yields the file's descriptor."""
    descriptor = open_lock_file(path)
    try:
        lock(descriptor, shared=shared)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Whether the exclusive lock of a lock file was free, which is then held within the block. Raises OSError."""
    descriptor = open_lock_file(path)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Wait for the exclusive lock of a folder itself and hold it within the block. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


class ProcessRole:
    """Work that one process of the host does: the process that locks the file has the role until it leaves or ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether this process has the role, from now on or from before. Raises OSError."""
        if self._descriptor is not None:
            return True
        descriptor = open_lock_file(self._path)
        if not try_lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def leave(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
