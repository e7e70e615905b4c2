"""Queries that find content without use and without a review, as an interrupted deletion of a repository leaves it."""

from datetime import datetime

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from gateway.db import reviews, schema
from gateway.db.collection import is_anchored, is_needed_blob
from gateway.db.reviews import EVERYWHERE, ReviewEvent

_blob_reviews = schema.blob_reviews
_manifest_reviews = schema.manifest_reviews
_blobs = schema.blobs
_links = schema.blob_links
_manifests = schema.manifests


async def review_manifests(connection: AsyncConnection, after: int, limit: int, now: datetime) -> int | None:
    """Request the reviews that the first manifests after a number lack; return the last number, None where there is no
    manifest any more."""
    later = select(_manifests.c.id).where(_manifests.c.id > after).order_by(_manifests.c.id).limit(limit)
    page: list[int] = list(await connection.scalars(later))
    if not page:
        return None
    subject = _manifests.alias("subjects")
    reviewed = exists().where(_manifest_reviews.c.manifest_id == _manifests.c.id)
    refers = exists().where(
        subject.c.repository_id == _manifests.c.repository_id, subject.c.digest == _manifests.c.subject
    )
    forgotten = select(_manifests.c.id).where(_manifests.c.id.in_(page), ~is_anchored(), ~reviewed, ~refers)
    for number in (await connection.scalars(forgotten)).all():
        await reviews.review_manifest(connection, number, ReviewEvent.TAG_DELETE, now)
    return page[-1]


async def review_blobs(connection: AsyncConnection, after: str, limit: int, now: datetime) -> str | None:
    """Request the reviews that the first blobs after the text of a digest lack; return the last digest, None where
    there is no blob any more."""
    later = select(_blobs.c.digest).where(_blobs.c.digest > after).order_by(_blobs.c.digest).limit(limit)
    page: list[str] = list(await connection.scalars(later))
    if not page:
        return None
    reviewed = exists().where(
        _blob_reviews.c.digest == _links.c.digest, _blob_reviews.c.repository_id == _links.c.repository_id
    )
    needed = is_needed_blob(_links.c.repository_id, _links.c.digest)
    unused = select(_links.c.repository_id, _links.c.digest).where(_links.c.digest.in_(page), ~needed, ~reviewed)
    forgotten = [(row.repository_id, row.digest) for row in await connection.execute(unused)]
    linked = exists().where(_links.c.digest == _blobs.c.digest)
    waits = exists().where(_blob_reviews.c.digest == _blobs.c.digest)
    unlinked = select(_blobs.c.digest).where(_blobs.c.digest.in_(page), ~linked, ~waits)
    forgotten += [(EVERYWHERE, digest) for digest in await connection.scalars(unlinked)]
    for repository_id, digest in forgotten:
        await reviews.review_blob(connection, repository_id, Digest.parse(digest), ReviewEvent.BLOB_DELETE, now)
    return page[-1]
