"""FilesystemStore: blobs as files of a local folder."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiofiles.os

from cache.oci.digest import Digest
from cache.store.base import Extent
from cache.store.paths import blob_digest, blob_path
from cache.values import BlobInfo

pread = aiofiles.os.wrap(os.pread)


class StoredBlob:
    """A file that is complete, so all of it is ready."""

    def __init__(self, digest: Digest, descriptor: int) -> None:
        self.digest = digest
        self.size: int = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    async def verified(self) -> None:
        return

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        end = self.size if stop is None else stop
        if start < end:
            yield Extent(start, end)

    async def read(self, extent: Extent) -> bytes:
        return await read_exactly(self._descriptor, extent)

    def close(self) -> None:
        os.close(self._descriptor)


class FilesystemStore:
    def __init__(self, root: Path) -> None:
        self._root = root

    def stat(self, digest: Digest) -> BlobInfo | None:
        try:
            return BlobInfo(digest, os.stat(blob_path(self._root, digest)).st_size)
        except FileNotFoundError:
            return None

    def open(self, digest: Digest) -> StoredBlob | None:
        try:
            return StoredBlob(digest, os.open(blob_path(self._root, digest), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None

    def adopt(self, path: Path, digest: Digest) -> None:
        target = blob_path(self._root, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
        for folder in (target.parent, target.parent.parent):
            _sync_folder(folder)

    def delete(self, digest: Digest) -> None:
        blob_path(self._root, digest).unlink(missing_ok=True)

    def walk(self) -> Iterator[BlobInfo]:
        for path in self._root.glob("*/*/*"):
            digest = blob_digest(path)
            info = self.stat(digest) if digest else None
            if info:
                yield info


async def read_exactly(descriptor: int, extent: Extent) -> bytes:
    """Raises EOFError when the file ends before the extent does: it was cut by somebody else."""
    parts: list[bytes] = []
    offset = extent.start
    while offset < extent.stop:
        part: bytes = await pread(descriptor, extent.stop - offset, offset)
        if not part:
            raise EOFError(f"the file ends at {offset}, before {extent.stop}")
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
