"""FilesystemStore: blobs as files of a local folder.

A name is given, and taken away, only while its folder is locked, and what has the name is looked at under that lock: so
no process removes a file that another has just put in place of the damaged or evicted one.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiofiles.os

from cache.oci.digest import Digest
from cache.runtime.closing import close_soon
from cache.runtime.disk import sync_folder
from cache.runtime.locks import locked_folder, try_lock
from cache.store.base import Extent, LocalBlob, sendable
from cache.store.paths import blob_digest, blob_path
from cache.store.quarantine import Quarantine
from cache.values import BlobInfo

pread = aiofiles.os.wrap(os.pread)

SMALL = 128 * 1024
"""Bytes that are copied from the page cache in less time than another thread takes to begin."""


class StoredBlob(LocalBlob):
    """A complete file, all of which is ready. While open it is locked against eviction, in every process."""

    def __init__(self, digest: Digest, descriptor: int) -> None:
        self.digest = digest
        with suppress(OSError):  # refused while it is being evicted; readers that have it open are unaffected
            try_lock(descriptor, shared=True)
        self._size = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    @property
    def size(self) -> int:
        return self._size

    def fileno(self) -> int:
        return self._descriptor

    async def verified(self) -> None:
        return

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        end = sendable(self._size, stop, verified=True)
        if start < end:
            yield Extent(start, end)

    async def read(self, extent: Extent) -> bytes:
        return await read_exactly(self._descriptor, extent)

    def close(self) -> None:
        close_soon(self._descriptor)


class LockedBlob:
    """A blob's file without readers, or a missing file. While it is open no reader can lock the file; close it."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor
        self.freeable = 0
        """Bytes that the deletion frees: none where the file is missing, or has another name, as a mounted blob has."""
        if descriptor is not None:
            status = os.fstat(descriptor)
            self._inode = status.st_ino
            self.freeable = status.st_size if status.st_nlink < 2 else 0

    def delete(self) -> int:
        """Delete the file; return the bytes that were freed: none where another file has taken the name since."""
        with suppress(FileNotFoundError), locked_folder(self._path.parent):
            if self._descriptor is not None and os.stat(self._path).st_ino == self._inode:
                self._path.unlink()
                return self.freeable
        return 0

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class FilesystemStore:
    """A BlobStore over a folder, which is created with the first blob.

    `quarantine` takes what is set aside; without one it is deleted.
    """

    def __init__(self, root: Path, quarantine: Quarantine | None = None) -> None:
        self._root = root
        self._quarantine = quarantine

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
        adopted = os.stat(path)
        with locked_folder(target.parent):
            os.replace(path, target)
        try:
            for folder in (target.parent, target.parent.parent):
                sync_folder(folder)
        except OSError:
            _give_back(target, path, adopted)
            raise

    def delete(self, digest: Digest, unless: Callable[[], bool] = lambda: False) -> None:
        path = blob_path(self._root, digest)
        with suppress(FileNotFoundError), locked_folder(path.parent):
            if not unless():
                path.unlink()

    def set_aside(self, digest: Digest, unless: Callable[[], bool]) -> bool:
        path = blob_path(self._root, digest)
        try:
            with locked_folder(path.parent):
                if unless():
                    return False
                if self._quarantine is not None:
                    self._quarantine.take_file(path, str(digest))
                path.unlink(missing_ok=True)  # the quarantine leaves a file that is too large for it
        except FileNotFoundError:  # the folder is missing, and the file with it
            return False
        return True

    def is_named(self, digest: Digest, descriptor: int) -> bool:
        """Whether an open file still has the name of a blob."""
        try:
            return os.path.samestat(os.stat(blob_path(self._root, digest)), os.fstat(descriptor))
        except OSError:
            return False

    def lock(self, digest: Digest) -> LockedBlob | None:
        """Lock a blob against new readers; None while it is being read, in this process or another. Raises OSError."""
        path = blob_path(self._root, digest)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return LockedBlob(path, None)
        if not try_lock(descriptor):
            os.close(descriptor)
            return None
        return LockedBlob(path, descriptor)

    def path(self, digest: Digest) -> Path:
        """Path of a blob's file, whether or not the file exists."""
        return blob_path(self._root, digest)

    def read_bytes(self, digest: Digest) -> bytes | None:
        """Read a small blob and check its digest; None where the store does not have it. Blocks."""
        try:
            content = blob_path(self._root, digest).read_bytes()
        except FileNotFoundError:
            return None
        return content if digest.holds_for(content) else None

    def list_folder(self, prefix: str) -> list[Path]:
        """Every file of one folder of the store, named as `sha256:ab`, blob or not."""
        algorithm, _, digits = prefix.partition(":")
        try:
            return list((self._root / algorithm / digits).iterdir())
        except FileNotFoundError:
            return []

    def walk(self) -> Iterator[BlobInfo]:
        for path in self._root.glob("*/*/*"):
            digest = blob_digest(path)
            info = self.stat(digest) if digest else None
            if info:
                yield info


def _give_back(name: Path, path: Path, adopted: os.stat_result) -> None:
    """Give an adopted file its old path back, unless another file has taken its name since."""
    with suppress(FileNotFoundError), locked_folder(name.parent):
        if os.path.samestat(os.stat(name), adopted):
            os.replace(name, path)


async def read_exactly(descriptor: int, extent: Extent) -> bytes:
    """Read an extent of a file. Raises EOFError where the file ends before the extent: something truncated it."""
    count = extent.stop - extent.start
    cached = _read_cached(descriptor, count, extent.start) if count <= SMALL else b""
    if len(cached) == count:
        return cached
    parts: list[bytes] = []
    offset = extent.start
    while offset < extent.stop:
        part: bytes = await pread(descriptor, extent.stop - offset, offset)
        if not part:
            raise EOFError(f"the file ends at {offset}, before {extent.stop}")
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_cached(descriptor: int, count: int, offset: int) -> bytes:
    """Read what the page cache holds of a part of a file; nothing where the file system cannot read that alone."""
    buffer = bytearray(count)
    try:
        read = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # the disk would have to be read
        return b""
    return bytes(memoryview(buffer)[:read])
