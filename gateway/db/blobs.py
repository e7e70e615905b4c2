"""Queries of native blobs: which are stored, and which repositories they are linked to."""

from collections.abc import Collection
from datetime import datetime
from functools import cache

from sqlalchemy import Executable, bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.prepared import prepared
from gateway.db import quotas, repositories, reviews, schema
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce, content_key
from gateway.db.dialects import insert_or_correct, insert_unless_taken
from gateway.db.reviews import EVERYWHERE, ReviewEvent

_blobs = schema.blobs
_links = schema.blob_links
_repositories = schema.repositories

_SIZE = prepared(select(_blobs.c.size).where(_blobs.c.digest == bindparam("digest")))
_TAKE_OUT = prepared(
    delete(_links)
    .where(_links.c.repository_id == bindparam("repository"), _links.c.digest == bindparam("which"))
    .returning(_links.c.digest)
)
_LINKED_SIZE = prepared(
    select(_blobs.c.size)
    .join(_links, _links.c.digest == _blobs.c.digest)
    .where(_links.c.repository_id == bindparam("repository"), _links.c.digest == bindparam("digest"))
)


async def size(connection: AsyncConnection, repository_id: int, digest: Digest) -> int | None:
    """Find the size of a blob that is linked to a repository, in bytes; None where it is not linked."""
    values = {"repository": repository_id, "digest": str(digest)}
    return (await connection.execute(_LINKED_SIZE, values)).scalar_one_or_none()


async def confirm(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime) -> int | None:
    """Find what `size` finds, for somebody who relies on it: a pending review begins anew."""
    found = await size(connection, repository_id, digest)
    if found is not None:
        await reviews.postpone_blob(connection, repository_id, digest, now)
    return found


async def stored_size(connection: AsyncConnection, digest: Digest) -> int | None:
    """Find the size of a blob in bytes, whichever repository it is linked to; None where it is not stored."""
    return (await connection.execute(_SIZE, {"digest": str(digest)})).scalar_one_or_none()


async def missing(connection: AsyncConnection, repository_id: int, digests: Collection[Digest]) -> set[Digest]:
    """Find the digests whose blobs are not linked to a repository."""
    sought, found = sorted(set(digests)), set[str]()
    for batch in batches(map(str, sought)):
        linked = select(_links.c.digest).where(_links.c.repository_id == repository_id, _links.c.digest.in_(batch))
        found.update((await connection.execute(linked)).scalars())
    return {digest for digest in sought if str(digest) not in found}


async def repositories_with(connection: AsyncConnection, digest: Digest, limit: int) -> list[str]:
    """List the paths of the first `limit` repositories, in the order of their paths, that a blob is linked to."""
    linked = select(_repositories.c.path).join(_links, _links.c.repository_id == _repositories.c.id)
    here = _links.c.digest == str(digest), _repositories.c.deleted_at.is_(None)
    first = linked.where(*here).order_by(_repositories.c.path).limit(limit)
    return list((await connection.execute(first)).scalars())


async def link(connection: AsyncConnection, repository_id: int, digest: Digest, size: int, now: datetime) -> None:
    """Link a blob whose verified file is in the store to a repository; one that is linked already has its review put
    off.

    `size`: bytes of the file, which become the blob's recorded size. Raises Denied where a quota has no room for it,
    NameUnknown where the repository was deleted.
    """
    store, link = _inserts(connection.dialect.name)
    values = {"digest": str(digest), "created_at": now}
    is_changed = (await connection.execute(store, values | {"size": size})).first() is not None
    is_new = (await connection.execute(link, values | {"repository_id": repository_id})).first() is not None
    if is_new:
        await repositories.require_present(connection, repository_id)
        await quotas.charge_blob(connection, repository_id, digest, size, now)
        await reviews.review_blob(connection, repository_id, digest, ReviewEvent.BLOB_UPLOAD, now)
    else:
        await reviews.postpone_blob(connection, repository_id, digest, now)
    if is_new or is_changed:
        await announce(connection, Concern.CONTENT, content_key(repository_id, digest))


@cache
def _inserts(dialect: str) -> tuple[Executable, Executable]:
    """The statements that store a blob, or correct its size, and that link it; either returns what it changed."""
    stored = insert_or_correct(dialect, _blobs, _blobs.c.digest, _blobs.c.size).returning(_blobs.c.digest)
    return prepared(stored), prepared(insert_unless_taken(dialect, _links).returning(_links.c.digest))


async def unlink(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime) -> bool:
    """Take a blob out of a repository; whether it was linked. The blob stays stored for others, and for a review."""
    is_linked = await take_out(connection, repository_id, digest)
    if is_linked:
        await reviews.review_blob(connection, EVERYWHERE, digest, ReviewEvent.BLOB_DELETE, now)
    return is_linked


async def take_out(connection: AsyncConnection, repository_id: int, digest: Digest) -> bool:
    """Take a blob out of a repository without a review of whether it is still needed; whether it was linked."""
    taken_out = await connection.execute(_TAKE_OUT, {"repository": repository_id, "which": str(digest)})
    if taken_out.first() is None:
        return False
    await quotas.release_blob(connection, repository_id, digest, await stored_size(connection, digest) or 0)
    await announce(connection, Concern.CONTENT, content_key(repository_id, digest))
    return True
