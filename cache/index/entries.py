"""CacheEntries: what is cached under one credential, as a list of the paths by which clients request it. Blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import CompoundSelect, create_engine, func, literal, null, select, union_all
from sqlalchemy.pool import NullPool

from cache.index.images import to_source
from cache.index.schema import blobs, images, links, manifests, pointers
from cache.oci.names import RepositoryName
from cache.sqlite import listen, reading, url
from cache.values import CredentialId, ImageKey

_OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """Something cached of an image. `path`: IMAGE/manifests/REFERENCE or IMAGE/blobs/DIGEST. `checked_at`: when the
    upstream last confirmed a tag; None for what a digest names."""

    path: str
    digest: str
    media_type: str
    size: int
    checked_at: datetime | None


class CacheEntries:
    """Lists of the file of a SqlIndex, whether a server has it open or not. Raises DatabaseUnusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(url("sqlite", path), poolclass=NullPool)
        listen(self._engine, synchronous="NORMAL")

    def part(
        self, credential: CredentialId, search: str, offset: int, limit: int, counted: int
    ) -> tuple[list[CacheEntry], int]:
        """List some entries in the order of their paths, and count all, as far as `counted`. `search`: a text that
        paths hold; empty for all."""
        every = _select(credential).subquery()
        wanted = select(every)
        if search:
            wanted = wanted.where(every.c.path.contains(search, autoescape=True))
        page = wanted.order_by(every.c.path).limit(limit).offset(offset)
        number = select(func.count()).select_from(wanted.limit(counted).subquery())
        with reading(self._engine, self._path) as connection:
            rows: Sequence[Any] = connection.execute(page).all()
            total = int(connection.scalar(number) or 0)
        return [_entry(row) for row in rows], total

    def images(self, credential: CredentialId) -> list[ImageKey]:
        """The images of which anything was cached under a credential."""
        own = select(images).where(images.c.credential == str(credential))
        with reading(self._engine, self._path) as connection:
            return [ImageKey(to_source(row), RepositoryName(row.name)) for row in connection.execute(own)]


def _select(credential: CredentialId) -> "CompoundSelect[Any]":
    own = images.c.credential == str(credential)
    tagged = (
        select(
            images.c.name.concat("/manifests/").concat(pointers.c.tag).label("path"),
            pointers.c.digest,
            pointers.c.media_type,
            pointers.c.size,
            pointers.c.checked_at,
        )
        .join(pointers, pointers.c.image_id == images.c.id)
        .where(own)
    )
    documents = (
        select(
            images.c.name.concat("/manifests/").concat(links.c.digest).label("path"),
            links.c.digest,
            manifests.c.media_type,
            func.length(manifests.c.raw).label("size"),
            null().label("checked_at"),
        )
        .join(links, links.c.image_id == images.c.id)
        .join(manifests, manifests.c.digest == links.c.digest)
        .where(own)
    )
    contents = (
        select(
            images.c.name.concat("/blobs/").concat(links.c.digest).label("path"),
            links.c.digest,
            literal(_OCTET_STREAM).label("media_type"),
            blobs.c.size,
            null().label("checked_at"),
        )
        .join(links, links.c.image_id == images.c.id)
        .join(blobs, blobs.c.digest == links.c.digest)
        .where(own)
    )
    return union_all(tagged, documents, contents)


def _entry(row: Any) -> CacheEntry:
    checked_at = None if row.checked_at is None else datetime.fromtimestamp(row.checked_at, UTC)
    return CacheEntry(row.path, row.digest, row.media_type, row.size, checked_at)
