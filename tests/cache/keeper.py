"""A cache with an index, files, usage and somebody who evicts, for tests."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from cache.events import CacheEvents, EvictedContent
from cache.index.admin import CacheAdmin
from cache.index.maintenance import CacheMaintenance
from cache.index.sql import SqlIndex
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.retention.eviction import EvictionLimits
from cache.retention.sweep import Evictor
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.values import BlobInfo, Link, Source, TagPointer
from tests.cache.samples import ANONYMOUS, APP, NOON
from tests.parts.images import seeded


class Evictions(CacheEvents):
    """Notes how much each eviction took: how many manifests and blobs, and the bytes that it freed."""

    def __init__(self, noted: list[tuple[int, int]]) -> None:
        self._noted = noted

    def evicted(self, contents: Sequence[EvictedContent], freed: int) -> None:
        self._noted.append((len(contents), freed))


class Keeper:
    def __init__(self, folder: Path, max_size: int = 1 << 40, reserve: int = 0, max_unused: float = 0) -> None:
        self.folder = folder
        self.index = SqlIndex(folder / "cache.db")
        self.usage = UsageFile(folder / "usage.db")
        self.quarantine = Quarantine(folder / "quarantine")
        self.store = FilesystemStore(folder / "blobs", self.quarantine)
        self.maintenance = CacheMaintenance(folder / "cache.db", self.usage)
        self.evicted: list[tuple[int, int]] = []
        (folder / "blobs").mkdir()
        self.evictor = self.evicting(EvictionLimits(max_size, reserve, max_unused))

    def evicting(
        self, limits: EvictionLimits, evictor: type[Evictor] = Evictor, maintenance: CacheMaintenance | None = None
    ) -> Evictor:
        """One more evictor, as another process has it, or one that fails."""
        turns = self.folder / "evict.lock"
        events = Evictions(self.evicted)
        return evictor(
            maintenance or self.maintenance, self.store, self.quarantine, self.folder / "blobs", turns, limits, events
        )

    def close(self) -> None:
        self.index.close()
        self.maintenance.close()

    def file(self, digest: Digest) -> Path:
        return self.store.path(digest)

    def write(self, content: bytes) -> Digest:
        """A file that no row tells of."""
        digest = Digest.of(content)
        part = self.folder / "part"
        part.write_bytes(content)
        self.store.adopt(part, digest)
        return digest

    async def put(
        self,
        size: int = 1000,
        age: float = 0,
        *,
        seed: object = "blob",
        image: RepositoryName = APP,
        source: Source = ANONYMOUS,
        uses: int = 1,
    ) -> Digest:
        """A blob as it is after its pull, `age` seconds ago."""
        digest = self.write(seeded(f"{seed} {size}", size))
        await self.index.record(BlobInfo(digest, size), Link(source, image, digest))
        self.used(digest, age, uses)
        return digest

    async def put_image(self, manifest: Manifest, tag: str, age: float = 0, image: RepositoryName = APP) -> None:
        digest = manifest.descriptor.digest
        pointer = TagPointer(ANONYMOUS, image, Tag(tag), manifest.descriptor, NOON)
        await self.index.record(manifest, Link(ANONYMOUS, image, digest), pointer)
        self.used(digest, age)

    def used(self, digest: Digest, age: float, uses: int = 1) -> None:
        with self.usage.writing() as connection:
            row = (str(digest), time.time() - age, uses, time.time() - age)
            connection.execute("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?)", row)

    async def held(self, *digests: Digest) -> list[bool]:
        """Which are here: file, row and link, which must agree."""
        found = []
        for digest in digests:
            row = await asyncio.to_thread(self.maintenance.blob_size, digest) is not None
            assert row == self.file(digest).exists() == bool(self.maintenance.images_of(digest))
            found.append(row)
        return found

    def age_file(self, digest: Digest, seconds: float) -> None:
        moment = time.time() - seconds
        os.utime(self.file(digest), (moment, moment))

    def pin(self, source: Source, image: RepositoryName, reference: str) -> None:
        CacheAdmin(self.folder / "cache.db").pin(source, image, reference)

    def reopened(self) -> SqlIndex:
        return SqlIndex(self.folder / "cache.db")

    def write_old_usage(self) -> None:
        """The usage file as the first version made it."""
        with closing(sqlite3.connect(self.folder / "usage.db")) as connection, connection:
            connection.execute(
                "CREATE TABLE usage (digest TEXT PRIMARY KEY, last_used REAL, uses INTEGER) WITHOUT ROWID"
            )


@contextmanager
def evicting(data: Path) -> Iterator[Callable[[], int]]:
    """Evicts all that nobody reads from a server's data folder, each time that it is called."""
    maintenance = CacheMaintenance(data / "cache.db", UsageFile(data / "usage.db"))
    store, quarantine = FilesystemStore(data / "cache"), Quarantine(data / "quarantine")
    evictor = Evictor(maintenance, store, quarantine, data / "cache", data / "evict.lock", EvictionLimits(0))
    yield evictor.sweep
    maintenance.close()
