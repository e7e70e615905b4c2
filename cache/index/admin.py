"""CacheAdmin: reads and deletes index rows for commands. Its methods block."""

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, create_engine, delete, func, select, tuple_, union
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.pool import NullPool

from cache.index.ancestors import select_ancestors
from cache.index.change_log import ChangeLog
from cache.index.documents import batches, closure
from cache.index.images import ensure_image, find_image, to_source
from cache.index.lists import delete_lists
from cache.index.pinned import protected_by, select_pinned
from cache.index.records import sweep_records
from cache.index.schema import blobs, images, links, manifests, pins, pointers
from cache.index.sightings import history_began, select_sightings
from cache.index.sql import to_pointer
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.sqlite import listen, reading, url, writing
from cache.values import Ancestor, Sighting, Source, TagPointer


@dataclass(frozen=True, slots=True)
class CacheTotals:
    """Sums over the whole cache: bytes of blobs and manifests, and how many of each kind there are.

    Images of which nothing is known but the age of their tags are not counted.
    """

    bytes: int
    blobs: int
    manifests: int
    images: int
    tags: int


class CacheAdmin:
    """Access to the file of a SqlIndex, whether a server has it open or not. Raises DatabaseUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(url("sqlite", path), poolclass=NullPool)
        listen(self._engine, synchronous="NORMAL")
        self._log = ChangeLog(secrets.token_hex(8))
        self._connection: Connection | None = None
        self._linked: dict[tuple[Source, RepositoryName], frozenset[Digest]] = {}

    @contextmanager
    def at_once(self) -> Iterator["CacheAdmin"]:
        """Open the file once for all that is read within the block by one thread, which writes nothing there. What is
        linked to an image is read once, too."""
        with self._reading() as connection:
            held = copy(self)
            held._connection, held._linked = connection, {}
            yield held

    def totals(self) -> CacheTotals:
        """Totals of the cache. Bytes are those of blobs and manifests, each counted once."""
        with self._reading() as connection:
            size = connection.scalar(select(func.coalesce(func.sum(blobs.c.size), 0))) or 0
            size += connection.scalar(select(func.coalesce(func.sum(func.length(manifests.c.raw)), 0))) or 0
            held = union(select(links.c.image_id), select(pointers.c.image_id)).subquery()
            counts = [
                connection.scalar(select(func.count()).select_from(table)) or 0
                for table in (blobs, manifests, held, pointers)
            ]
        return CacheTotals(size, *counts)

    def sweep_records(self, now: float) -> int:
        """Delete pointers, sightings and images that nothing needs; return how many. Give unused space back."""
        return sweep_records(self._engine, self._path, now)

    def pointers(
        self, source: Source | None = None, image: RepositoryName | None = None, tag: Tag | None = None
    ) -> list[TagPointer]:
        """List the pointers of the whole cache, or of one image, or of a tag; sorted by image and tag."""
        statement = select(images.c.origin, images.c.credential, images.c.name, pointers).join_from(pointers, images)
        if source is not None:
            key = (str(source.registry), str(source.credential), str(image))
            statement = statement.where(tuple_(images.c.origin, images.c.credential, images.c.name) == key)
        if tag is not None:
            statement = statement.where(pointers.c.tag == tag.text)
        with self._reading() as connection:
            rows = connection.execute(statement.order_by(images.c.name, pointers.c.tag)).all()
        return [to_pointer(row, to_source(row), RepositoryName(row.name), Tag(row.tag)) for row in rows]

    def sightings(self, source: Source, image: RepositoryName, tag: Tag | None = None) -> list[Sighting]:
        """List the sightings of a tag of an image, or of all its tags."""
        with self._reading() as connection:
            return select_sightings(connection, find_image(connection, source, image), time.time(), tag)

    def history_began(self) -> datetime | None:
        """When the first tag of the whole cache was seen; None where none was."""
        with self._reading() as connection:
            return history_began(connection)

    def ancestors(self, source: Source, image: RepositoryName, digest: Digest) -> list[Ancestor]:
        """List the digest itself, and the cached manifests of the image that lead to it."""
        with self._reading() as connection:
            return select_ancestors(connection, find_image(connection, source, image), digest, time.time())

    def linked(self, source: Source, image: RepositoryName) -> frozenset[Digest]:
        key = source, image
        if key in self._linked:
            return self._linked[key]
        with self._reading() as connection:
            image_id = find_image(connection, source, image)
            rows = connection.scalars(select(links.c.digest).where(links.c.image_id == image_id))
            found = frozenset(Digest.parse(digest) for digest in rows)
        if self._connection is not None:
            self._linked[key] = found
        return found

    def manifest(self, digest: Digest) -> Manifest | None:
        with self._reading() as connection:
            row = connection.execute(select(manifests).where(manifests.c.digest == str(digest))).one_or_none()
        return Manifest.parse(row.media_type, row.raw, digest.algorithm) if row else None

    def closure(self, roots: Iterable[Digest]) -> set[Digest]:
        """The roots and everything that they refer to, as far as their manifests are cached."""
        with self._reading() as connection:
            return closure(connection, roots)

    def sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Sizes in bytes of the cached ones among these digests."""
        sizes: dict[Digest, int] = {}
        with self._reading() as connection:
            for batch in batches(digests):
                held = select(blobs.c.digest, blobs.c.size).where(blobs.c.digest.in_(batch))
                documents = select(manifests.c.digest, func.length(manifests.c.raw)).where(
                    manifests.c.digest.in_(batch)
                )
                for digest, size in [*connection.execute(held).all(), *connection.execute(documents).all()]:
                    sizes[Digest.parse(digest)] = size
        return sizes

    def remove(
        self, source: Source, image: RepositoryName, tags: Iterable[Tag], digests: Iterable[Digest]
    ) -> set[Digest]:
        """Delete pointers, links and lists of an image; return the blobs to which no image has a link any more.

        The rows are deleted before the files: otherwise a crash in between would leave rows that promise missing files.
        """
        with self._writing() as connection:
            image_id = find_image(connection, source, image)
            if image_id is None:
                return set()
            gone = [tag.text for tag in tags]
            connection.execute(delete(pointers).where(pointers.c.image_id == image_id, pointers.c.tag.in_(gone)))
            for batch in batches(digests):
                connection.execute(delete(links).where(links.c.image_id == image_id, links.c.digest.in_(batch)))
            delete_lists(connection, image_id)
            self._log.note(connection, source, image, None)
            return _collect(connection, digests)

    def unlinked(self) -> set[Digest]:
        """Cached blobs and manifests that no image has a link to, such as those whose last right was revoked."""
        cached = union(select(blobs.c.digest), select(manifests.c.digest)).subquery()
        wanted = select(cached.c.digest).where(cached.c.digest.not_in(select(links.c.digest)))
        with self._reading() as connection:
            return {Digest.parse(digest) for digest in connection.scalars(wanted)}

    def remove_unlinked(self, digests: Iterable[Digest]) -> set[Digest]:
        """Delete the rows of those digests that have no link; return the blobs, whose files are to be deleted next."""
        with self._writing() as connection:
            return _collect(connection, digests)

    def pin(self, source: Source, image: RepositoryName, reference: str) -> set[Digest]:
        """Protect a tag, a digest, or (with an empty reference) a whole image from eviction; it need not be cached yet.
        Return the digests that this protects now."""
        with self._writing() as connection:
            image_id = ensure_image(connection, source, image)
            connection.execute(upsert(pins).values(image_id=image_id, reference=reference).on_conflict_do_nothing())
            return protected_by(connection, image_id, reference)

    def unpin(self, source: Source, image: RepositoryName, reference: str) -> bool:
        """Remove a pin; whether one with exactly this reference existed."""
        with self._writing() as connection:
            image_id = find_image(connection, source, image)
            gone = delete(pins).where(pins.c.image_id == image_id, pins.c.reference == reference)
            return bool(connection.execute(gone).rowcount)

    def pins(self, source: Source, image: RepositoryName) -> set[str]:
        with self._reading() as connection:
            image_id = find_image(connection, source, image)
            return _pins(connection, image_id)

    def pinned(self) -> set[Digest]:
        """The digests that any pin protects, cached or not."""
        with self._reading() as connection:
            return select_pinned(connection)

    def all_pins(self) -> list[tuple[Source, RepositoryName, str, set[Digest]]]:
        """List every pin with its image, and with the digests that it protects now, by image and reference."""
        statement = select(images, pins.c.reference).join_from(pins, images)
        with self._reading() as connection:
            rows = connection.execute(statement.order_by(images.c.name, images.c.origin, pins.c.reference)).all()
            digests = [protected_by(connection, row.id, row.reference) for row in rows]
        keys = [(to_source(row), RepositoryName(row.name), row.reference) for row in rows]
        return [(*key, protected) for key, protected in zip(keys, digests, strict=True)]

    def protected(self, source: Source, image: RepositoryName) -> dict[str, set[Digest]]:
        """The digests that each pin of an image protects now, by the reference of the pin."""
        with self._reading() as connection:
            image_id = find_image(connection, source, image)
            if image_id is None:
                return {}
            return {one: protected_by(connection, image_id, one) for one in _pins(connection, image_id)}

    def linked_elsewhere(self, digests: Iterable[Digest], but: Iterable[tuple[Source, RepositoryName]]) -> set[Digest]:
        """Find the digests to which an image has a link that is not among `but`."""
        with self._reading() as connection:
            known = {find_image(connection, source, image) for source, image in but}
            found: set[Digest] = set()
            for batch in batches(digests):
                rows = connection.execute(select(links.c.digest, links.c.image_id).where(links.c.digest.in_(batch)))
                found |= {Digest.parse(row.digest) for row in rows if row.image_id not in known}
            return found

    def images(self) -> list[tuple[Source, RepositoryName]]:
        with self._reading() as connection:
            return [(to_source(row), RepositoryName(row.name)) for row in connection.execute(select(images)).all()]

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine, self._path) if self._connection is None else nullcontext(self._connection)

    def _writing(self) -> AbstractContextManager[Connection]:
        return writing(self._engine, self._path)


def _pins(connection: Connection, image_id: int | None) -> set[str]:
    """References of the pins of an image; none of one that there is not."""
    return set(connection.scalars(select(pins.c.reference).where(pins.c.image_id == image_id)))


def _collect(connection: Connection, digests: Iterable[Digest]) -> set[Digest]:
    orphans: set[Digest] = set()
    for batch in batches(digests):
        held = set(connection.scalars(select(links.c.digest).where(links.c.digest.in_(batch))))
        free = [digest for digest in batch if digest not in held]
        connection.execute(delete(manifests).where(manifests.c.digest.in_(free)))
        rows = connection.scalars(delete(blobs).where(blobs.c.digest.in_(free)).returning(blobs.c.digest))
        orphans |= {Digest.parse(digest) for digest in rows}
    return orphans
