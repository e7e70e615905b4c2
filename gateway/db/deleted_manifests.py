"""Queries of manifests that were deleted by their digests: their bytes are kept for one delay, in which whatever they
alone needed waits for its review, so that they can be stored again as they were. Nothing is pulled from here."""

from datetime import datetime

from sqlalchemy import and_, delete, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from gateway.db import schema
from gateway.db.dialects import insert_or_renew
from gateway.db.manifests import StoredManifest

_kept = schema.deleted_manifests
_manifests = schema.manifests


async def keep(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime) -> None:
    """Keep the bytes of a manifest that is about to be deleted."""
    columns = _manifests.c.repository_id, _manifests.c.digest, _manifests.c.media_type, _manifests.c.raw
    doomed = select(*columns, literal(now, schema.Moment)).where(
        _manifests.c.repository_id == repository_id, _manifests.c.digest == str(digest)
    )
    keys, renewed = (_kept.c.repository_id, _kept.c.digest), (_kept.c.media_type, _kept.c.deleted_at)
    kept = insert_or_renew(connection.dialect.name, _kept, keys, renewed)
    await connection.execute(kept.from_select(["repository_id", "digest", "media_type", "raw", "deleted_at"], doomed))


async def find(connection: AsyncConnection, repository_id: int, digest: Digest) -> StoredManifest | None:
    """Find a manifest that was deleted, as it was."""
    found = select(_kept.c.media_type, _kept.c.raw).where(
        _kept.c.repository_id == repository_id, _kept.c.digest == str(digest)
    )
    row = (await connection.execute(found)).first()
    return None if row is None else StoredManifest(Descriptor(row.media_type, digest, len(row.raw)), row.raw)


async def forget(connection: AsyncConnection, repository_id: int, digest: Digest) -> None:
    """Keep a manifest no longer, which is stored again."""
    await connection.execute(delete(_kept).where(_kept.c.repository_id == repository_id, _kept.c.digest == str(digest)))


async def any_deleted(connection: AsyncConnection, before: datetime) -> bool:
    """Whether a manifest that is kept was deleted before a time."""
    return (await connection.scalar(select(_kept.c.digest).where(_kept.c.deleted_at <= before).limit(1))) is not None


async def purge(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """Forget the first manifests that were deleted before a time; return how many there were."""
    keys = tuple_(_kept.c.repository_id, _kept.c.digest)
    due = select(_kept.c.repository_id, _kept.c.digest).where(_kept.c.deleted_at <= before)
    some = due.order_by(_kept.c.deleted_at).limit(limit)
    return (await connection.execute(delete(_kept).where(keys.in_(some)))).rowcount


async def purge_part(connection: AsyncConnection, repository_id: int, limit: int) -> bool:
    """Forget some of the deleted manifests of a repository; return whether there were any."""
    some = select(_kept.c.digest).where(_kept.c.repository_id == repository_id).limit(limit)
    gone = delete(_kept).where(and_(_kept.c.repository_id == repository_id, _kept.c.digest.in_(some)))
    return (await connection.execute(gone)).rowcount > 0
