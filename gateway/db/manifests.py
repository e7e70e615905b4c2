"""Queries of manifests of native repositories, which are stored byte for byte."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.db import quotas, reviews, tag_events, tags
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce, content_key
from gateway.db.dialects import insert_unless_taken
from gateway.db.reviews import ReviewEvent
from gateway.db.schema import manifest_references, manifests, pinned_tags, repositories
from gateway.db.schema import tags as _tags


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it is stored: its descriptor and its bytes."""

    descriptor: Descriptor
    raw: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    """Content that a manifest needs for a complete pull: a blob, or a manifest of the same repository."""

    digest: Digest
    is_manifest: bool


@dataclass(frozen=True, slots=True)
class NewManifest:
    """A manifest that is about to be stored. `references` names each digest once.

    `artifact_type`: the type by which lists of referrers are filtered; None for none.
    """

    descriptor: Descriptor
    raw: bytes
    references: Sequence[Reference] = ()
    subject: Digest | None = None
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that refers to a subject: its number, by which pages are cut, its digest, and its size in bytes."""

    id: int
    digest: Digest
    size: int


async def put(connection: AsyncConnection, repository_id: int, manifest: NewManifest, now: datetime) -> int:
    """Store a manifest unless the repository has it, and return its number. Raises Denied where a quota has no room.

    One that is stored already changes in its media type alone, as whoever pushes it states it now, and in references
    that were not here before. The pending reviews of it and of its subject begin anew.
    """
    digest, media_type = manifest.descriptor.digest, manifest.descriptor.media_type
    values = {
        "repository_id": repository_id,
        "digest": str(digest),
        "media_type": media_type,
        "raw": manifest.raw,
        "subject": manifest.subject and str(manifest.subject),
        "artifact_type": manifest.artifact_type,
        "pushed_at": now,
    }
    made = insert_unless_taken(connection.dialect.name, manifests).values(values).returning(manifests.c.id)
    number: int | None = (await connection.execute(made)).scalar()
    if manifest.subject is not None:
        await reviews.postpone_manifest(connection, repository_id, manifest.subject, now)
    if number is None:
        await reviews.postpone_manifest(connection, repository_id, digest, now)
        return await _put_again(connection, repository_id, manifest)
    await reviews.review_manifest(connection, number, ReviewEvent.MANIFEST_UPLOAD, now)
    if rows := _references_of(repository_id, number, manifest):
        await connection.execute(insert_into(manifest_references), rows)
    await quotas.charge(connection, repository_id, len(manifest.raw), now)
    await announce(connection, Concern.CONTENT, content_key(repository_id, digest))
    return number


def _references_of(repository_id: int, number: int, manifest: NewManifest) -> list[dict[str, object]]:
    """The rows of what a manifest refers to."""
    own = {"manifest_id": number, "repository_id": repository_id}
    return [
        own | {"digest": str(reference.digest), "is_manifest": reference.is_manifest}
        for reference in manifest.references
    ]


async def _put_again(connection: AsyncConnection, repository_id: int, manifest: NewManifest) -> int:
    digest, media_type = manifest.descriptor.digest, manifest.descriptor.media_type
    found = select(manifests.c.id, manifests.c.media_type).where(_is(repository_id, digest))
    row = (await connection.execute(found)).one()
    number: int = row.id
    of_manifest = select(func.count()).where(manifest_references.c.manifest_id == number)
    if await connection.scalar(of_manifest) != len(manifest.references):
        # What was not here the first time, such as a non-distributable layer, may be by now, and is needed from now on.
        added = insert_unless_taken(connection.dialect.name, manifest_references)
        await connection.execute(added, _references_of(repository_id, number, manifest))
    if row.media_type != media_type:
        changed = update_of(manifests).where(manifests.c.id == number)
        await connection.execute(changed.values(media_type=media_type, artifact_type=manifest.artifact_type))
        await tags.announce_of(connection, repository_id, number)
        await announce(connection, Concern.CONTENT, content_key(repository_id, digest))
    return number


async def find(
    connection: AsyncConnection, repository_id: int, reference: Tag | Digest, *, pinned: bool = False
) -> StoredManifest | None:
    """Find a manifest by its digest, or by a tag that points to it; `pinned`: that did so at the moment of the pin."""
    row = (await connection.execute(_select(repository_id, reference, pinned, manifests.c.raw))).first()
    return StoredManifest(_descriptor(row), row.raw) if row else None


async def stat(
    connection: AsyncConnection, repository_id: int, reference: Tag | Digest, *, pinned: bool = False
) -> Descriptor | None:
    """Find the descriptor of what `find` finds."""
    row = (await connection.execute(_select(repository_id, reference, pinned))).first()
    return _descriptor(row) if row else None


async def find_number(connection: AsyncConnection, repository_id: int, digest: Digest) -> int | None:
    """Find the number of a manifest of the repository; None if it has none of this digest."""
    number: int | None = await connection.scalar(select(manifests.c.id).where(_is(repository_id, digest)))
    return number


async def missing(connection: AsyncConnection, repository_id: int, digests: Iterable[Digest]) -> set[Digest]:
    """Find the digests of which the repository has no manifest."""
    wanted, found = set(digests), set[str]()
    for batch in batches(map(str, wanted)):
        here = manifests.c.repository_id == repository_id, manifests.c.digest.in_(batch)
        found.update(await connection.scalars(select(manifests.c.digest).where(*here)))
    return {digest for digest in wanted if str(digest) not in found}


async def repositories_with(connection: AsyncConnection, digest: Digest, limit: int) -> list[str]:
    """List the paths of the first `limit` repositories, in the order of their paths, that have a manifest."""
    holders = select(repositories.c.path).join(manifests, manifests.c.repository_id == repositories.c.id)
    here = manifests.c.digest == str(digest), repositories.c.deleted_at.is_(None)
    first = holders.where(*here).order_by(repositories.c.path).limit(limit)
    return list(await connection.scalars(first))


async def find_needing(connection: AsyncConnection, repository_id: int, reference: Reference) -> Digest | None:
    """Find a manifest of the repository that refers to a blob or manifest; None if there is none."""
    needing = select(manifests.c.digest).join(manifest_references, manifest_references.c.manifest_id == manifests.c.id)
    needing = needing.where(
        manifest_references.c.repository_id == repository_id,
        manifest_references.c.digest == str(reference.digest),
        manifest_references.c.is_manifest == reference.is_manifest,
    )
    found: str | None = await connection.scalar(needing.limit(1))
    return Digest.parse(found) if found is not None else None


async def list_referrers(
    connection: AsyncConnection,
    repository_id: int,
    subject: Digest,
    artifact_type: str | None = None,
    *,
    after: int = 0,
    limit: int | None = None,
) -> list[Referrer]:
    """List the manifests that refer to a subject in the order in which they were pushed, or the first ones after a
    number. `artifact_type`: only those of this type; None for all."""
    which = [manifests.c.repository_id == repository_id, manifests.c.subject == str(subject), manifests.c.id > after]
    if artifact_type is not None:
        which.append(manifests.c.artifact_type == artifact_type)
    listed = select(manifests.c.id, manifests.c.digest, func.length(manifests.c.raw).label("size")).where(*which)
    rows = await connection.execute(listed.order_by(manifests.c.id).limit(limit))
    return [Referrer(row.id, Digest.parse(row.digest), row.size) for row in rows]


async def read_some(
    connection: AsyncConnection, repository_id: int, digests: Iterable[Digest]
) -> dict[Digest, StoredManifest]:
    """Read those of the digests of which the repository has manifests; as many as may be held in memory."""
    found: dict[Digest, StoredManifest] = {}
    columns = manifests.c.digest, manifests.c.media_type, manifests.c.raw, func.length(manifests.c.raw).label("size")
    for batch in batches(map(str, digests)):
        own = manifests.c.digest.in_(batch), manifests.c.repository_id == repository_id
        for row in await connection.execute(select(*columns).where(*own)):
            described = _descriptor(row)
            found[described.digest] = StoredManifest(described, row.raw)
    return found


async def read_all(connection: AsyncConnection, ids: Sequence[int]) -> list[StoredManifest]:
    """Read manifests by their numbers, the lowest first; at most a page of them."""
    columns = (manifests.c.digest, manifests.c.media_type, manifests.c.raw)
    found = select(*columns, func.length(manifests.c.raw).label("size")).where(manifests.c.id.in_(ids))
    rows = await connection.execute(found.order_by(manifests.c.id))
    return [StoredManifest(_descriptor(row), row.raw) for row in rows]


async def delete(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime, actor: str) -> bool:
    """Delete a manifest with every tag that points to it, and let what it needed be reviewed; return whether there was
    one. `actor`: who does it, for the history of these tags."""
    doomed = select(manifests.c.id, func.length(manifests.c.raw).label("size")).where(_is(repository_id, digest))
    row = (await connection.execute(doomed)).first()
    if row is None:
        return False
    await tags.announce_of(connection, repository_id, row.id)
    await tag_events.note_deletions(connection, repository_id, row.id, now, actor)
    await reviews.review_blobs_of(connection, repository_id, row.id, ReviewEvent.MANIFEST_DELETE, now)
    await reviews.review_related_manifests(connection, repository_id, row.id, ReviewEvent.MANIFEST_DELETE, now)
    await connection.execute(delete_from(manifests).where(manifests.c.id == row.id))
    await quotas.release(connection, repository_id, row.size)
    await announce(connection, Concern.CONTENT, content_key(repository_id, digest))
    return True


def _select(repository_id: int, reference: Tag | Digest, pinned: bool, *more: ColumnElement[Any]) -> Select[Any]:
    size = func.length(manifests.c.raw).label("size")
    found = select(manifests.c.digest, manifests.c.media_type, size, *more)
    if isinstance(reference, Digest):
        return found.where(_is(repository_id, reference))
    named = pinned_tags if pinned else _tags
    pointing = found.join_from(named, manifests, named.c.manifest_id == manifests.c.id)
    return pointing.where(named.c.repository_id == repository_id, named.c.name == reference.text)


def _is(repository_id: int, digest: Digest) -> ColumnElement[bool]:
    return and_(manifests.c.repository_id == repository_id, manifests.c.digest == str(digest))


def _descriptor(row: Any) -> Descriptor:
    return Descriptor(row.media_type, Digest.parse(row.digest), row.size)
