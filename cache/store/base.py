"""BlobStore and OpenBlob: what every place that keeps bytes offers, and what every reader of bytes gets."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cache.oci.digest import Digest
from cache.values import BlobInfo


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes `start` up to, not including, `stop` of a blob; in `data`, where no file holds them."""

    start: int
    stop: int
    data: bytes | None = None


class OpenBlob(Protocol):
    """A blob that is being read: a local file that is complete or still grows. The reader closes it."""

    digest: Digest

    @property
    def size(self) -> int | None:
        """Bytes of the whole blob; None while nobody knows."""

    def fileno(self) -> int:
        """A descriptor for reads at an offset; its file position belongs to nobody."""

    async def verified(self) -> None:
        """Returns when the whole blob's digest is known to hold; raises when it will not."""

    def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        """Yields, in order and without gaps, the parts of [start, stop) that may be sent now; stop None: to the end.

        Raises when the rest will never come. What has been yielded up to then lacks the end of the range.
        """

    async def read(self, extent: Extent) -> bytes:
        """Exactly the bytes of an extent that `ready` yielded."""

    def close(self) -> None: ...


class BlobStore(Protocol):
    """Blobs by digest. Nothing has its final name before its digest holds."""

    def stat(self, digest: Digest) -> BlobInfo | None: ...

    def open(self, digest: Digest) -> OpenBlob | None:
        """None when the blob is not here."""

    def adopt(self, path: Path, digest: Digest) -> None:
        """Takes over a local file that was verified and is durable; durable under its name when this returns."""

    def delete(self, digest: Digest) -> None:
        """No error when it is not here. Who has it open reads on."""

    def walk(self) -> Iterator[BlobInfo]: ...
