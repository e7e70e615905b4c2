"""Spool: a local file that is hashed as it grows, may be read while it grows, and is gone unless committed."""

import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from cache.oci.digest import Digest
from cache.runtime.disk import is_disk_full
from cache.runtime.failpoints import failpoint
from cache.store.base import BlobStore

READ_BACK = 1024 * 1024
ROOM_TRIES = 3
PART = ".part"
MARK = 0o444
"""The mode of a spool whose digest holds. It travels with the inode, so that who has it open in another process sees it
whatever becomes of the name."""

MakeRoom = Callable[[int], int]
"""Bytes that are wanted → bytes that were freed; blocks."""


def no_room(_: int) -> int:
    return 0


class DigestMismatch(Exception):
    """What arrived is not what was promised."""


class LengthMismatch(DigestMismatch):
    """Not even its length is."""


class Spool:
    """The only writer of blobs. Its methods block: a thread of its own calls them.

    A spool is never rewritten, so every reader may trust the bytes below `size`. What comes in order is appended. What
    comes ahead of it is written at its place and not counted before everything below it is there; several threads may
    do that at once, each with bytes of its own, while one at a time counts.
    """

    def __init__(self, path: Path, expected: Digest, descriptor: int, make_room: MakeRoom = no_room) -> None:
        self.path = path
        self.size = 0
        self.promised: int | None = None
        """How long it will be, where that is known: so much room is asked for when the disk is full."""
        self.resumed = False
        """Whether some of its bytes are of an earlier download."""
        self._end = 0
        self._expected = expected
        self._hasher = expected.hasher()
        self._descriptor = descriptor
        self._make_room = make_room
        self._sealed = False
        self._kept = False

    @classmethod
    def create(cls, directory: Path, expected: Digest) -> Self:
        """Under a name of its own."""
        return cls.begin(directory / f"{expected.algorithm}-{expected.hex}.{secrets.token_hex(4)}{PART}", expected)

    @classmethod
    def begin(cls, path: Path, expected: Digest, make_room: MakeRoom = no_room) -> Self:
        """A new file in the place of any older one, which its readers keep."""
        path.unlink(missing_ok=True)
        tries = 0
        while True:
            try:
                failpoint("spool.create")
                return cls(path, expected, os.open(path, _NEW, 0o600), make_room)
            except OSError as error:
                tries += 1
                if not is_disk_full(error) or tries > ROOM_TRIES or not make_room(READ_BACK):
                    raise

    @classmethod
    def resume(cls, path: Path, expected: Digest, count: int, inode: int, make_room: MakeRoom = no_room) -> Self | None:
        """With the first bytes of what an earlier process left, hashed anew; None where they are not there."""
        try:
            left = os.lstat(path)
            if not stat.S_ISREG(left.st_mode) or left.st_ino != inode or left.st_size < count or left.st_nlink != 1:
                return None
            spool = cls(path, expected, os.open(path, os.O_RDONLY if marked(left) else _OLD), make_room)
        except OSError:
            return None
        try:
            spool.advance(count)
        except OSError:
            os.close(spool._descriptor)
            return None
        spool.resumed = True
        spool.rewind()
        return spool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._kept:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def keep(self) -> None:
        """On leaving, the file stays where it is: it is not this one's to delete any more, or others go on with it."""
        self._kept = True

    def append(self, chunk: bytes | memoryview) -> None:
        """Writes and counts; raises OSError, after which the spool must be given up."""
        self.write(chunk)
        self.count(chunk)

    def write(self, chunk: bytes | memoryview) -> None:
        """Writes the next bytes, which `count` must be told of in the same order."""
        self._sealed = False
        self._write_all(memoryview(chunk), self._end)
        self._end += len(chunk)

    def count(self, chunk: bytes | memoryview) -> None:
        """Hashes and counts what was written."""
        self._hasher.update(chunk)
        self.size += len(chunk)

    def write_at(self, offset: int, chunk: bytes | memoryview) -> None:
        """Writes bytes that are not counted yet; raises OSError."""
        if offset < self.size:
            raise ValueError("what is counted is not rewritten")
        self._write_all(memoryview(chunk), offset)

    def rewind(self) -> None:
        """What is written and not counted is given up: the next bytes take its place."""
        self._end = self.size

    def _write_all(self, view: memoryview, offset: int) -> None:
        tries = 0
        while view:
            try:
                failpoint("spool.write")
                count = os.pwrite(self._descriptor, view, offset)
            except OSError as error:
                tries += 1
                wanted = max(len(view), (self.promised or 0) - self.size)
                if not is_disk_full(error) or tries > ROOM_TRIES or not self._make_room(wanted):
                    raise
            else:
                view, offset = view[count:], offset + count

    def advance(self, stop: int) -> None:
        """Hashes and counts the bytes below `stop`, all of which were written; raises OSError."""
        self._sealed = False
        buffer = memoryview(bytearray(min(READ_BACK, max(0, stop - self.size))))
        while self.size < stop:
            count = os.preadv(self._descriptor, [buffer[: stop - self.size]], self.size)
            if not count:
                raise OSError(errno.EIO, "what was written is not there")
            self._hasher.update(buffer[:count])
            self.size += count

    def fileno(self) -> int:
        return self._descriptor

    @property
    def inode(self) -> int:
        return os.fstat(self._descriptor).st_ino

    def open(self) -> int:
        """A descriptor for reading, of the caller's own, which outlives the spool."""
        return os.dup(self._descriptor)

    def seal(self, size: int | None) -> None:
        """Raises DigestMismatch unless the digest holds, and the length where one was promised."""
        if size is not None and size != self.size:
            raise LengthMismatch(f"{self.size} bytes arrived where {size} were promised for {self._expected}")
        if self._hasher.hexdigest() != self._expected.hex:
            raise DigestMismatch(f"the {self.size} bytes that arrived do not have the digest {self._expected}")
        if os.fstat(self._descriptor).st_size != self.size:  # what came ahead and was given up
            os.ftruncate(self._descriptor, self.size)
        self._sealed = True

    def mark(self) -> None:
        """Tells readers in other processes that the digest holds; raises OSError."""
        self._require_seal()
        os.fchmod(self._descriptor, MARK)
        failpoint("spool.marked")

    def commit(self, store: BlobStore) -> None:
        """Durable and named; only what was sealed."""
        self._require_seal()
        failpoint("spool.sealed")
        os.fsync(self._descriptor)
        failpoint("spool.synced")
        store.adopt(self.path, self._expected)
        failpoint("spool.adopted")
        self._kept = True

    def _require_seal(self) -> None:
        if not self._sealed:
            raise ValueError("a spool is committed after it was sealed")


_OLD = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL


def marked(status: os.stat_result) -> bool:
    return stat.S_IMODE(status.st_mode) == MARK
