"""BlobStore and OpenBlob: the protocols of every place that keeps bytes, and of every blob that is being read."""

import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cache.oci.digest import Digest
from cache.values import BlobInfo

TAIL = 32 * 1024
"""Bytes at the end of every response that are withheld until the blob's digest holds: a wrong body never completes."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes `start` up to, not including, `stop` of a blob. `data` holds them where no file does, else it is None."""

    start: int
    stop: int
    data: bytes | None = None


class OpenBlob(Protocol):
    """A blob that is being read, complete or still arriving. The reader closes it."""

    digest: Digest

    @property
    def size(self) -> int | None:
        """Bytes of the whole blob; None while it is unknown."""

    async def verified(self) -> None:
        """Return when the whole blob's digest is known to hold; raise when it will not."""

    def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        """Yield, in order and without gaps, the parts of [start, stop) that may be sent now; stop None: to the end.

        Nothing beyond `sendable(...)` is yielded. Raises when the rest will never arrive; the end of the range is then
        among the bytes that were not yielded.
        """

    async def read(self, extent: Extent) -> bytes:
        """Return exactly the bytes of an extent that `ready` yielded."""

    def close(self) -> None: ...


class LocalBlob(OpenBlob):
    """An OpenBlob whose extents without `data` lie in one local file, which the kernel can send without a copy."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the file's descriptor once `ready` has yielded. Read it at offsets only, because its position is
        shared."""


class BlobStore(Protocol):
    """Blobs by digest. Nothing has its final name before its digest holds; what became of a file since, only its
    recorded size or a new hash shows."""

    def stat(self, digest: Digest) -> BlobInfo | None: ...

    def open(self, digest: Digest) -> OpenBlob | None:
        """Open a blob; None where the store does not have it."""

    def adopt(self, path: Path, digest: Digest) -> None:
        """Take over a local file that was verified and is durable; durable under its name when this returns. Raises
        OSError; the file then has its old name."""

    def delete(self, digest: Digest, unless: Callable[[], bool] = lambda: False) -> None:
        """Delete a blob, unless `unless` returns True, as for `set_aside`; no error where it is missing. Readers that
        have it open are unaffected. Raises OSError."""

    def set_aside(self, digest: Digest, unless: Callable[[], bool]) -> bool:
        """Take the name away from a damaged file, unless `unless` returns True: it is called at a moment at which no
        other process gives the name to another file. Return whether it was taken away. Raises OSError."""

    def walk(self) -> Iterator[BlobInfo]: ...


def is_stored(store: BlobStore, digest: Digest, size: int | None) -> bool:
    """Whether a blob is in the store as it was recorded; `size` is None where nothing was recorded. Raises OSError."""
    return size is not None and store.stat(digest) == BlobInfo(digest, size)


def has_name(store: BlobStore, blob: LocalBlob) -> bool:
    """Whether the store has the very file of an open blob for its digest, and no other one. Raises OSError."""
    named = store.open(blob.digest)
    if named is None:
        return False
    try:
        return isinstance(named, LocalBlob) and os.path.sameopenfile(named.fileno(), blob.fileno())
    finally:
        named.close()


def sendable(arrived: int, stop: int | None, *, verified: bool) -> int:
    """End of the bytes that a response may send of those that have arrived, as an offset in the blob.

    `arrived`: bytes of the blob that are present, from its start without a gap. `stop`: offset at which the response
    ends, None while the blob's size is unknown. `verified`: whether the digest of the whole blob holds. Until it does,
    the last TAIL bytes of the response are withheld, so the result may be negative.
    """
    if stop is None:
        return arrived if verified else arrived - TAIL
    return min(arrived, stop if verified else stop - TAIL)
