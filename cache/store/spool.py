"""Spool: a local file that is hashed as it grows, may be read while it grows, and is deleted unless committed."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from cache.oci.digest import Digest, Hasher
from cache.runtime.disk import is_disk_full
from cache.runtime.failpoints import failpoint
from cache.store.base import BlobStore

T = TypeVar("T")

READ_BACK = 1024 * 1024
ROOM_TRIES = 3
ROOM_AHEAD = 64 * 1024 * 1024
"""Bytes at most for which room is made before they have arrived: a promise alone must not evict a whole cache."""

PART = ".part"
MARK = 0o400
"""Mode of a spool whose digest holds. It belongs to the inode: every process that has the file open sees it, whatever
becomes of the name."""

MakeRoom = Callable[[int], int]
"""Frees disk space: takes the bytes that are needed, returns the bytes that were freed; blocks."""

CanKeep = Callable[[int, int], bool]
"""Whether a blob can be kept: takes all of its bytes, and those that are on the disk already; blocks."""


def no_room(_: int) -> int:
    return 0


def any_size(_: int, __: int) -> bool:
    return True


def with_room(work: Callable[[], T], make_room: MakeRoom) -> T:
    """Create or rename a file; where the disk is full, make room and try again. Raises OSError."""
    tries = 0
    while True:
        try:
            return work()
        except OSError as error:
            tries += 1
            if not is_disk_full(error) or tries > ROOM_TRIES or not make_room(READ_BACK):
                raise


class DigestMismatch(Exception):
    """The bytes that arrived do not have the promised digest."""


class LengthMismatch(DigestMismatch):
    """The bytes that arrived do not even have the promised length."""


def check_content(expected: Digest, promised: int | None, actual: Digest, count: int) -> None:
    """Check the digest and the number of bytes that arrived; `promised` is None where no number was promised.

    Raises DigestMismatch, or LengthMismatch.
    """
    if promised is not None and promised != count:
        raise LengthMismatch(f"{count} bytes arrived where {promised} were promised for {expected}")
    if actual != expected:
        raise DigestMismatch(f"the {count} bytes that arrived do not have the digest {expected}")


class Spool:
    """The only writer of blobs: begin, write, seal, commit. Its methods block; a thread of its own calls them.

    No counted byte is ever rewritten, so readers may trust everything below `size`. Bytes that arrive in order are
    appended (`append`, or `write` and later `count`). Bytes that arrive ahead are written at their offset (`write_at`)
    and counted once everything below them is present (`advance`). Several threads may write ahead at once, each in a
    range of its own; one thread at a time counts.
    """

    def __init__(self, path: Path, algorithm: str, descriptor: int, make_room: MakeRoom = no_room) -> None:
        self.path = path
        self.size = 0
        """Bytes that are present and hashed."""
        self.promised: int | None = None
        """Bytes of the whole blob, where known."""
        self.can_keep: CanKeep = any_size
        self.resumed = False
        """Whether some of its bytes are from an earlier download."""
        self._end = 0
        self._algorithm = algorithm
        self._hasher: Hasher = hashlib.new(algorithm)
        self._descriptor = descriptor
        self._make_room = make_room
        self._sealed: Digest | None = None
        self._kept = False

    @classmethod
    def begin(cls, path: Path, algorithm: str, make_room: MakeRoom = no_room) -> Self:
        """Create a new file in place of any older one, whose readers keep it. Raises OSError."""
        path.unlink(missing_ok=True)

        def create() -> int:
            failpoint("spool.create")
            return os.open(path, _NEW, 0o600)

        return cls(path, algorithm, with_room(create, make_room), make_room)

    @classmethod
    def resume(cls, path: Path, algorithm: str, count: int, inode: int, make_room: MakeRoom = no_room) -> Self | None:
        """Open the file that an earlier process left, and hash its first `count` bytes again.

        None where the path does not lead to a regular file of that inode with so many bytes.
        """
        try:
            left = os.lstat(path)
            if not stat.S_ISREG(left.st_mode) or left.st_ino != inode or left.st_size < count or left.st_nlink != 1:
                return None
            spool = cls(path, algorithm, os.open(path, os.O_RDONLY if marked(left) else _OLD), make_room)
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
        """Leave the file where it is at the end of the block: others resume it, or the name is no longer this one's."""
        self._kept = True

    def promise(self, size: int | None) -> None:
        """Note the bytes of the whole blob, where known. Raises OSError where it is too large to be kept."""
        if size is not None:
            self._require_kept(size)
        self.promised = size

    def append(self, chunk: bytes | memoryview) -> None:
        """Write and count the next bytes. Raises OSError, after which the spool must be given up."""
        self.write(chunk)
        self.count(chunk)

    def write(self, chunk: bytes | memoryview) -> None:
        """Write the next bytes; `count` must be called with them in the same order. Raises OSError."""
        self._sealed = None
        self._write_all(memoryview(chunk), self._end)
        self._end += len(chunk)

    def count(self, chunk: bytes | memoryview) -> None:
        """Hash and count bytes that were written."""
        self._hasher.update(chunk)
        self.size += len(chunk)

    def write_at(self, offset: int, chunk: bytes | memoryview) -> None:
        """Write bytes that are not counted yet. Raises OSError."""
        if offset < self.size:
            raise ValueError("counted bytes are never rewritten")
        self._write_all(memoryview(chunk), offset)

    def rewind(self) -> None:
        """Give up the bytes that are written and not counted: the next bytes take their place."""
        self._end = self.size

    def _write_all(self, view: memoryview, offset: int) -> None:
        tries = 0
        if self.promised is None:
            self._require_kept(offset + len(view))
        while view:
            self._require_size(min(offset, max(self._end, self.size)))
            try:
                failpoint("spool.write")
                count = os.pwrite(self._descriptor, view, offset)
            except OSError as error:
                tries += 1
                needed = max(len(view), min(ROOM_AHEAD, (self.promised or 0) - self.size))
                if not is_disk_full(error) or tries > ROOM_TRIES or not self._make_room(needed):
                    raise
            else:
                view, offset = view[count:], offset + count

    def advance(self, stop: int) -> None:
        """Hash and count the bytes below `stop`, all of which were written. Raises OSError."""
        self._sealed = None
        buffer = memoryview(bytearray(min(READ_BACK, max(0, stop - self.size))))
        while self.size < stop:
            count = os.preadv(self._descriptor, [buffer[: stop - self.size]], self.size)
            if not count:
                raise OSError(errno.EIO, "bytes that were written are missing")
            self._hasher.update(buffer[:count])
            self.size += count

    def fileno(self) -> int:
        return self._descriptor

    @property
    def inode(self) -> int:
        return os.fstat(self._descriptor).st_ino

    def open(self) -> int:
        """Return a descriptor for reading, which the caller closes and which outlives the spool."""
        return os.dup(self._descriptor)

    def seal(self, expected: Digest, size: int | None) -> None:
        """Check the digest, and the length where one was promised; the spool may then be marked and committed.

        Raises DigestMismatch, or LengthMismatch; OSError where bytes are missing from the file.
        """
        check_content(expected, size, Digest(self._algorithm, self._hasher.hexdigest()), self.size)
        self._require_size(self.size)
        if os.fstat(self._descriptor).st_size != self.size:  # bytes that arrived ahead and were given up
            os.ftruncate(self._descriptor, self.size)
        self._sealed = expected

    def mark(self) -> None:
        """Show readers in other processes that the digest holds. Raises OSError."""
        self._require_seal()
        os.fchmod(self._descriptor, MARK)
        failpoint("spool.marked")

    def commit(self, store: BlobStore) -> None:
        """Make a sealed spool durable and give it its final name in the store. Raises OSError, also where the spool is
        not as it was sealed, or another file has its name."""
        digest = self._require_seal()
        failpoint("spool.sealed")
        os.fsync(self._descriptor)
        failpoint("spool.synced")
        sealed = os.fstat(self._descriptor)
        if sealed.st_size != self.size or not os.path.samestat(os.lstat(self.path), sealed):
            raise OSError(errno.ESTALE, "the spool was changed or replaced after it was verified")
        with_room(lambda: store.adopt(self.path, digest), self._make_room)  # it may have to make a folder
        failpoint("spool.adopted")
        self._kept = True

    def _require_kept(self, size: int) -> None:
        """Raise OSError where a blob of so many bytes could not be kept: nothing is to be evicted for it."""
        if not self.can_keep(size, self.size):
            raise OSError(errno.EFBIG, "it is larger than the cache may become")

    def _require_size(self, size: int) -> None:
        """Raise OSError where the file is shorter: a write beyond its end would leave zeros where bytes were hashed."""
        if os.fstat(self._descriptor).st_size < size:
            raise OSError(errno.EIO, "bytes that were written are missing")

    def _require_seal(self) -> Digest:
        if self._sealed is None:
            raise ValueError("a spool must be sealed before it is committed")
        return self._sealed


_OLD = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def marked(status: os.stat_result) -> bool:
    """Whether a spool carries the mark that its digest holds."""
    return not status.st_mode & stat.S_IWUSR
