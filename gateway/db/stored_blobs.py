"""Queries of all native blobs and manifests, for those who look after them: backup, verification, scrub."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, and_, create_engine, exists, inspect, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from cache import sqlite
from cache.oci.digest import Digest
from gateway.db import schema
from gateway.db.batches import batches

_blobs = schema.blobs
_manifests = schema.manifests
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A native blob as it is recorded: the file of this digest has this size, in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RecordedManifest:
    """A manifest as it is stored in the repository of a path. `id`: its number, by which pages are cut."""

    id: int
    repository: str
    digest: Digest
    raw: bytes


@dataclass(frozen=True, slots=True)
class IncompleteManifest:
    """A manifest whose repository lacks something that it refers to, so that it cannot be pulled whole."""

    repository: str
    digest: Digest
    missing: Digest


async def list_page(connection: AsyncConnection, after: str, limit: int) -> list[RecordedBlob]:
    """List the first `limit` blobs after the text of a digest, in the order of their digests."""
    return [_blob(row) for row in await connection.execute(_after(after, limit))]


async def stored(connection: AsyncConnection, digests: Collection[Digest]) -> set[Digest]:
    """Find those of the digests that are recorded as blobs."""
    found = set[Digest]()
    for batch in batches(map(str, sorted(digests))):
        rows = await connection.scalars(select(_blobs.c.digest).where(_blobs.c.digest.in_(batch)))
        found.update(map(Digest.parse, rows))
    return found


async def list_manifests(connection: AsyncConnection, after: int, limit: int) -> list[RecordedManifest]:
    """List the first `limit` manifests after a number, those of all repositories, in the order of their numbers."""
    columns = (_manifests.c.id, schema.repositories.c.path, _manifests.c.digest, _manifests.c.raw)
    listed = select(*columns).join(schema.repositories, schema.repositories.c.id == _manifests.c.repository_id)
    page = listed.where(_manifests.c.id > after).order_by(_manifests.c.id).limit(limit)
    rows = await connection.execute(page)
    return [RecordedManifest(row.id, row.path, Digest.parse(row.digest), row.raw) for row in rows]


async def list_numbers(connection: AsyncConnection, after: int, limit: int) -> list[int]:
    """List the numbers of the first manifests after a number."""
    numbers = select(_manifests.c.id).where(_manifests.c.id > after).order_by(_manifests.c.id).limit(limit)
    return list(await connection.scalars(numbers))


async def find_incomplete(connection: AsyncConnection, numbers: Collection[int]) -> list[IncompleteManifest]:
    """Find those of some manifests, at most BATCH, that refer to what their repositories do not have."""
    references, links, child = schema.manifest_references, schema.blob_links, _manifests.alias("child")
    linked = exists().where(links.c.repository_id == _manifests.c.repository_id, links.c.digest == references.c.digest)
    present = exists().where(child.c.repository_id == _manifests.c.repository_id, child.c.digest == references.c.digest)
    lacking = or_(and_(references.c.is_manifest, ~present), and_(~references.c.is_manifest, ~linked))
    found = (
        select(schema.repositories.c.path, _manifests.c.digest, references.c.digest.label("missing"))
        .join(schema.repositories, schema.repositories.c.id == _manifests.c.repository_id)
        .join(references, references.c.manifest_id == _manifests.c.id)
        .where(_manifests.c.id.in_(numbers), lacking)
        .order_by(_manifests.c.id, references.c.digest)
    )
    rows = await connection.execute(found)
    return [IncompleteManifest(row.path, Digest.parse(row.digest), Digest.parse(row.missing)) for row in rows]


def read_copy(path: Path) -> Iterator[RecordedBlob]:
    """Read every blob from a copy of an SQLite file that nobody changes, in the order of their digests.

    A copy of a revision without native blobs has none. Raises DatabaseUnusable.
    """
    engine = create_engine(sqlite.url("sqlite", path), poolclass=NullPool)
    sqlite.listen(engine)
    with sqlite.reading(engine, path) as connection:
        if not inspect(connection).has_table(_blobs.name):
            return
        after = ""
        while page := [_blob(row) for row in connection.execute(_after(after, _PAGE))]:
            yield from page
            after = str(page[-1].digest)


def _after(after: str, limit: int) -> Select[Any]:
    later = select(_blobs.c.digest, _blobs.c.size).where(_blobs.c.digest > after)
    return later.order_by(_blobs.c.digest).limit(limit)


def _blob(row: Row[Any]) -> RecordedBlob:
    return RecordedBlob(Digest.parse(row.digest), row.size)
