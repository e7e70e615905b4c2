"""Spool: a local file that is hashed as it grows, may be read while it grows, and is gone unless committed."""

import errno
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from cache.failpoint import failpoint
from cache.oci.digest import Digest
from cache.store.base import BlobStore

READ_BACK = 1024 * 1024


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

    def __init__(self, path: Path, expected: Digest) -> None:
        self.path = path
        self.size = 0
        self._expected = expected
        self._hasher = expected.hasher()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._sealed = False
        self._committed = False

    @classmethod
    def create(cls, directory: Path, expected: Digest) -> Self:
        return cls(directory / f"{expected.algorithm}-{expected.hex}.{secrets.token_hex(4)}.part", expected)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._committed:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def append(self, chunk: bytes | memoryview) -> None:
        """Writes and counts; raises OSError, after which the spool must be given up."""
        self.write(chunk)
        self.count(chunk)

    def write(self, chunk: bytes | memoryview) -> None:
        """Writes the next bytes, which `count` must be told of in the same order."""
        failpoint("spool.write")
        view = memoryview(chunk)
        self._sealed = False
        while view:
            view = view[os.write(self._descriptor, view) :]

    def count(self, chunk: bytes | memoryview) -> None:
        """Hashes and counts what was written."""
        self._hasher.update(chunk)
        self.size += len(chunk)

    def write_at(self, offset: int, chunk: bytes | memoryview) -> None:
        """Writes bytes that are not counted yet; raises OSError. Nothing is appended after that."""
        if offset < self.size:
            raise ValueError("what is counted is not rewritten")
        view = memoryview(chunk)
        while view:
            count = os.pwrite(self._descriptor, view, offset)
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

    def open(self) -> int:
        """A descriptor for reading, of the caller's own, which outlives the spool."""
        return os.dup(self._descriptor)

    def seal(self, size: int | None) -> None:
        """Raises DigestMismatch unless the digest holds, and the length where one was promised."""
        if size is not None and size != self.size:
            raise LengthMismatch(f"{self.size} bytes arrived where {size} were promised for {self._expected}")
        if self._hasher.hexdigest() != self._expected.hex:
            raise DigestMismatch(f"the {self.size} bytes that arrived do not have the digest {self._expected}")
        self._sealed = True

    def commit(self, store: BlobStore) -> None:
        """Durable and named; only what was sealed."""
        if not self._sealed:
            raise ValueError("a spool is committed after it was sealed")
        failpoint("spool.sealed")
        os.fsync(self._descriptor)
        failpoint("spool.synced")
        store.adopt(self.path, self._expected)
        failpoint("spool.adopted")
        self._committed = True


def sweep(directory: Path) -> int:
    """Deletes the spools that an earlier process left behind; returns how many."""
    leftovers = [path for path in directory.iterdir() if path.suffix == ".part"]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
