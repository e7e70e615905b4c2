"""CacheMaintenance: queries and deletions for the sweep and the scrub, over the index and the usage file.

All methods block, and long lists are read one page at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, select
from sqlalchemy.pool import QueuePool

from cache.index.images import to_source
from cache.index.pinned import select_pinned
from cache.index.records import sweep_records
from cache.index.removal import remove_rows
from cache.index.schema import blobs, images, links, manifests, totals
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.sqlite import DatabaseUnusable, alone, explained, file_bytes, listen, reading, url, writing
from cache.values import Source

T = TypeVar("T")

_LEAST_USED = """
    SELECT u.digest, u.last_used, u.uses, b.size, length(m.raw) AS manifest_size,
        (SELECT count(*) FROM links WHERE links.digest = u.digest) AS images
    FROM usage.usage AS u LEFT JOIN blobs AS b ON b.digest = u.digest LEFT JOIN manifests AS m ON m.digest = u.digest
    WHERE (u.last_used, u.digest) > (:used, :digest)
        AND EXISTS (SELECT 1 FROM gone WHERE gone.digest = u.digest) = :gone
        AND (b.size IS NOT NULL OR m.digest IS NOT NULL)
    ORDER BY u.last_used, u.digest LIMIT :count
"""
_LEAST_CHECKED = "SELECT digest FROM usage.usage WHERE checked_at < :before ORDER BY checked_at LIMIT :count"
# Start and stop delimit one folder of the store. As text, because to build a statement takes longer than to execute it.
_IN_FOLDER = "digest >= :start AND digest < :stop"
_BLOBS_IN_FOLDER = f"SELECT digest, size FROM blobs WHERE {_IN_FOLDER}"
_UNSEEDED = f"""
    FROM main.{{table}} AS cached WHERE {_IN_FOLDER}
    AND NOT EXISTS (SELECT 1 FROM usage.usage AS u WHERE u.digest = cached.digest)
"""
_ABSENT = f"""
    WHERE {_IN_FOLDER} AND last_used < :before
    AND NOT EXISTS (SELECT 1 FROM main.blobs WHERE blobs.digest = usage.digest)
    AND NOT EXISTS (SELECT 1 FROM main.manifests WHERE manifests.digest = usage.digest)
"""
_OF_THE_FUTURE = f"WHERE {_IN_FOLDER} AND (last_used > :now OR checked_at > :now)"
_GONE = f"""
    FROM main.gone WHERE {_IN_FOLDER}
    AND NOT EXISTS (SELECT 1 FROM main.blobs WHERE blobs.digest = gone.digest)
    AND NOT EXISTS (SELECT 1 FROM main.manifests WHERE manifests.digest = gone.digest)
"""
_UNSEEDED_BLOBS, _UNSEEDED_MANIFESTS = (_UNSEEDED.format(table=table) for table in ("blobs", "manifests"))
_TIDY_USAGE = (
    f"INSERT OR IGNORE INTO usage.usage SELECT digest, :now, 0, 0 {_UNSEEDED_BLOBS}",
    f"INSERT OR IGNORE INTO usage.usage SELECT digest, :now, 0, 0 {_UNSEEDED_MANIFESTS}",
    # What a clock wrote that was wrong: the use is taken for one of now, the check is done again.
    f"""UPDATE usage.usage
        SET last_used = min(last_used, :now), checked_at = iif(checked_at > :now, 0, checked_at) {_OF_THE_FUTURE}""",
    f"DELETE FROM usage.usage {_ABSENT}",
)
_SWEEP_GONE = f"DELETE {_GONE}"
_UNTIDY = f"""
    SELECT EXISTS (SELECT 1 {_UNSEEDED_BLOBS}) OR EXISTS (SELECT 1 {_UNSEEDED_MANIFESTS})
        OR EXISTS (SELECT 1 FROM usage.usage {_OF_THE_FUTURE}) OR EXISTS (SELECT 1 FROM usage.usage {_ABSENT}),
    EXISTS (SELECT 1 {_GONE})
"""
"""Whether _TIDY_USAGE has something to do in a folder, and whether _SWEEP_GONE has."""


DATABASE_ALLOWANCE = 16 * 1024 * 1024
"""Bytes of the databases that do not count for the size of the cache: journals alone may take half of them."""


_UNUSED = ("freelist_count", "page_size")


@dataclass(frozen=True, slots=True)
class CachedItem:
    """A cached blob or manifest. `last_used`: seconds since 1970. `images`: number of images with a link to it. `gone`:
    its tag was deleted upstream. `is_manifest`: it is a manifest, a row of the index that frees no disk space."""

    digest: Digest
    size: int
    last_used: float = 0.0
    uses: int = 0
    images: int = 1
    gone: bool = False
    is_manifest: bool = False


@dataclass(frozen=True, slots=True)
class CacheSize:
    """Size of the cache: blobs and manifests together."""

    bytes: int
    blobs: int


class CacheMaintenance:
    """Access to the file of a SqlIndex. Raises DatabaseUnusable."""

    def __init__(self, path: Path, usage: UsageFile) -> None:
        self._path = path
        self._usage = usage
        # The connection stays open: on a full disk there may be no space to open a file again.
        self._engine = create_engine(url("sqlite", path), poolclass=QueuePool)
        listen(self._engine, synchronous="NORMAL")
        # A transaction that begins with a write locks all files of its connection, so writes use a connection without
        # the usage file.
        self._joined = create_engine(url("sqlite", path), poolclass=QueuePool)
        self._attached = 0
        listen(self._joined, synchronous="NORMAL")
        event.listen(self._joined, "connect", self._attach)

    def close(self) -> None:
        self._engine.dispose()
        self._joined.dispose()

    def filled(self) -> CacheSize:
        with self._reading() as connection:
            rows = connection.execute(select(totals.c.kind, totals.c.bytes, totals.c["count"])).all()
        return CacheSize(sum(size for _, size, _ in rows), next(count for kind, _, count in rows if kind == "blobs"))

    def database_bytes(self) -> int:
        """Bytes of the index and the usage file on the disk, with all that is beside them."""
        return file_bytes(self._path) + file_bytes(self._usage.path)

    def overhead(self) -> int:
        """Bytes of the databases beyond the manifests in them, their unused pages, and what every cache needs."""
        with self._reading() as connection:
            documents: int = connection.scalar(select(totals.c.bytes).where(totals.c.kind == "manifests")) or 0
            free, size = (int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()) for name in _UNUSED)
        return max(0, self.database_bytes() - documents - free * size - DATABASE_ALLOWANCE)

    def sweep_records(self, now: float) -> int:
        """Delete pointers, sightings and images that nothing needs; return how many. Give unused space back."""
        return sweep_records(self._engine, self._path, now, DATABASE_ALLOWANCE)

    def least_used(self, count: int, *, gone: bool) -> Iterator[list[CachedItem]]:
        """Yield pages of cached items, the least recently used first."""
        used, digest = -1.0, ""
        while True:
            wanted = {"used": used, "digest": digest, "gone": int(gone), "count": count}
            rows = self._select(_LEAST_USED, wanted)
            if not rows:
                return
            used, digest = rows[-1].last_used, rows[-1].digest
            yield [_to_item(row, gone) for row in rows]

    def larger(self, size: int, count: int) -> list[CachedItem]:
        """The largest blobs above a size."""
        wanted = select(blobs).where(blobs.c.size > size).order_by(blobs.c.size.desc()).limit(count)
        with self._reading() as connection:
            return [CachedItem(Digest.parse(row.digest), row.size) for row in connection.execute(wanted).all()]

    def pinned(self) -> set[Digest]:
        """Digests that pins protect."""
        with self._reading() as connection:
            return select_pinned(connection)

    def remove(self, digests: Sequence[Digest], unless: Callable[[Digest], bool] = lambda _: False) -> list[Digest]:
        """Delete all rows of these digests, at most a few hundred, unless `unless` returns True for one; return those
        that were deleted. It is called at a moment at which no other process can record anything."""
        with self._writing() as connection:
            removed = [digest for digest in digests if not unless(digest)]
            remove_rows(connection, [str(digest) for digest in removed])
        self._usage.forget(removed)
        return removed

    def images_of(self, digest: Digest) -> list[tuple[Source, RepositoryName]]:
        """Images with a link to the digest."""
        wanted = select(images).join(links).where(links.c.digest == str(digest))
        with self._reading() as connection:
            rows = connection.execute(wanted).all()
        return [(to_source(row), RepositoryName(row.name)) for row in rows]

    def least_checked(self, before: float, count: int) -> list[Digest]:
        """Digests that were not checked since `before`, the longest unchecked first; some may no longer be cached."""
        rows = self._select(_LEAST_CHECKED, {"before": before, "count": count})
        return [Digest.parse(row.digest) for row in rows]

    def blob_size(self, digest: Digest) -> int | None:
        with self._reading() as connection:
            return connection.scalar(select(blobs.c.size).where(blobs.c.digest == str(digest)))

    def manifest_bytes(self, digest: Digest) -> bytes | None:
        """Bytes of a manifest, whether they match the digest or not."""
        with self._reading() as connection:
            return connection.scalar(select(manifests.c.raw).where(manifests.c.digest == str(digest)))

    def blobs_after(self, digest: str, count: int) -> list[CachedItem]:
        """A page of all blobs, by digest."""
        wanted = select(blobs).where(blobs.c.digest > digest).order_by(blobs.c.digest).limit(count)
        with self._reading() as connection:
            return [CachedItem(Digest.parse(row.digest), row.size) for row in connection.execute(wanted).all()]

    def manifests_after(self, digest: str, count: int) -> list[Digest]:
        wanted = select(manifests.c.digest).where(manifests.c.digest > digest).order_by(manifests.c.digest)
        with self._reading() as connection:
            return [Digest.parse(found) for found in connection.scalars(wanted.limit(count))]

    def blobs_in_folder(self, prefix: str) -> dict[Digest, int]:
        """Sizes of the blobs in one folder of the store, named like `sha256:ab`."""
        with self._reading() as connection:
            found = connection.exec_driver_sql(_BLOBS_IN_FOLDER, _range(prefix)).all()
        return {Digest.parse(digest): size for digest, size in found}

    def prepare_usage(self) -> None:
        """Create the usage file if it is missing, and open it; it stays open, since a disk that takes no more files
        takes none beside it either. Raises DatabaseUnusable, OSError."""
        self._select("SELECT 1 FROM usage.usage LIMIT 1", {})

    def tidy_usage(self, prefix: str, now: float, before: float) -> None:
        """Sync the usage file with one folder of the store: add missing digests, drop those absent since `before`, and
        correct moments that are after `now`. A folder that is in sync, as most are, costs one query."""
        values = {**_range(prefix), "now": now, "before": before}

        def tidy(connection: Connection) -> bool:
            untidy_usage, untidy_gone = connection.exec_driver_sql(_UNTIDY, values).one()
            connection.rollback()  # which ends the transaction that reads
            for statement in _TIDY_USAGE if untidy_usage else ():
                with alone(self._usage.path):
                    connection.exec_driver_sql(statement, values)
                    connection.commit()
            return bool(untidy_gone)

        if self._join(tidy):
            with self._writing() as connection:
                connection.exec_driver_sql(_SWEEP_GONE, values)

    def _select(self, statement: str, values: dict[str, Any]) -> Sequence[Any]:
        return self._join(lambda connection: connection.exec_driver_sql(statement, values).all())

    def _join(self, work: Callable[[Connection], T]) -> T:
        """Do work that may be repeated over the index and the usage file, which is made first if it is missing.

        It is also made, and the work done again, where the work fails: the file may be damaged. To make sure of it each
        time took most of the time of tidying, which never ends.
        """
        if self._is_attached():
            with suppress(DatabaseUnusable):
                return self._work_joined(work)
        inode = self._usage.prepare().stat().st_ino
        if inode != self._attached:
            self._joined.dispose()
            self._attached = inode
        return self._work_joined(work)

    def _is_attached(self) -> bool:
        """Whether the usage file is the one that connections have attached."""
        try:
            return self._usage.path.stat().st_ino == self._attached
        except FileNotFoundError:
            return False

    def _work_joined(self, work: Callable[[Connection], T]) -> T:
        with explained(self._path), self._joined.connect() as connection:
            return work(connection)

    def _attach(self, connection: Any, _record: object) -> None:
        connection.execute("ATTACH DATABASE ? AS usage", (self._usage.path.absolute().as_uri(),)).close()

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, self._path)

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, self._path)


def _range(prefix: str) -> dict[str, str]:
    """Range of digests in one folder: its first digest, and the first one after the folder."""
    return {"start": prefix, "stop": prefix[:-1] + chr(ord(prefix[-1]) + 1)}


def _to_item(row: Any, gone: bool) -> CachedItem:
    size = row.size if row.size is not None else row.manifest_size
    return CachedItem(Digest.parse(row.digest), size, row.last_used, row.uses, row.images, gone, row.size is None)
