"""Queries of garbage collection: which reviews are due, what of that is still needed, and the deletion of the rest.

A decision and what it deletes are one transaction, and no transaction deletes more than one manifest or one blob.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, bindparam, delete, exists, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.prepared import prepared
from gateway.db import blob_removals, blobs, manifests, reviews, schema
from gateway.db.reviews import ReviewEvent

_blob_reviews = schema.blob_reviews
_manifest_reviews = schema.manifest_reviews
_blobs = schema.blobs
_links = schema.blob_links
_manifests = schema.manifests
_references = schema.manifest_references
_tags = schema.tags

_DIGEST: BindParameter[str] = bindparam("which")
_REPOSITORY: BindParameter[int] = bindparam("repository")
_END_OF_BLOB = prepared(
    delete(_blob_reviews)
    .where(
        _blob_reviews.c.digest == _DIGEST,
        _blob_reviews.c.repository_id == _REPOSITORY,
        _blob_reviews.c.since == bindparam("since"),
    )
    .returning(_blob_reviews.c.digest)
)
_USE = prepared(
    select(literal(1)).where(
        or_(exists().where(_links.c.digest == _DIGEST), exists().where(_blob_reviews.c.digest == _DIGEST))
    )
)
_DELETE_BLOB = prepared(delete(_blobs).where(_blobs.c.digest == _DIGEST).returning(_blobs.c.size, _blobs.c.created_at))
_END_OF_MANIFEST = prepared(
    delete(_manifest_reviews)
    .where(_manifest_reviews.c.manifest_id == bindparam("number"), _manifest_reviews.c.since == bindparam("since"))
    .returning(_manifest_reviews.c.manifest_id)
)


@dataclass(frozen=True, slots=True)
class BlobReview:
    """The pending review of a blob of a repository, or of whether any repository has it: then that is EVERYWHERE."""

    repository_id: int
    digest: Digest
    since: datetime

    @property
    def key(self) -> str:
        """Text that no other pending review of a blob has."""
        return _blob_key(self.digest, self.repository_id)


@dataclass(frozen=True, slots=True)
class ManifestReview:
    """The pending review of a manifest, by its number."""

    manifest_id: int
    event: ReviewEvent
    since: datetime

    @property
    def key(self) -> str:
        """Text that no other pending review of a manifest has."""
        return str(self.manifest_id)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What one review deleted: a manifest of a repository, or a blob, and when that was stored."""

    digest: Digest
    stored_at: datetime


_FIRST_DUE = prepared(
    select(
        select(func.min(_manifest_reviews.c.since)).scalar_subquery().label("manifests"),
        select(func.min(_blob_reviews.c.since)).scalar_subquery().label("blobs"),
        select(func.min(schema.blob_removals.c.due_at)).scalar_subquery().label("files"),
        select(func.min(schema.repositories.c.deleted_at)).scalar_subquery().label("repositories"),
        select(func.min(schema.deleted_manifests.c.deleted_at)).scalar_subquery().label("deleted"),
    )
)


async def is_anything_due(connection: AsyncConnection, before: datetime, now: datetime) -> bool:
    """Whether a review was requested, or a repository or a manifest deleted, before a time, or a file is to be deleted
    by now."""
    row = (await connection.execute(_FIRST_DUE, {})).one()
    ended = [(first, before) for first in (row.manifests, row.blobs, row.repositories, row.deleted)]
    limits = [*ended, (row.files, now)]
    return any(first is not None and first <= limit for first, limit in limits)


async def list_manifests(
    connection: AsyncConnection, before: datetime, limit: int, after: ManifestReview | None = None
) -> list[ManifestReview]:
    """List the first reviews of manifests that were requested before a time, the oldest first; or those after one."""
    place = (_manifest_reviews.c.since, _manifest_reviews.c.manifest_id)
    due = select(_manifest_reviews).where(_manifest_reviews.c.since <= before).order_by(*place)
    if after is not None:
        due = due.where(tuple_(*place) > tuple_(literal(after.since, schema.Moment), literal(after.manifest_id)))
    rows = await connection.execute(due.limit(limit))
    return [ManifestReview(row.manifest_id, ReviewEvent(row.event), row.since) for row in rows]


async def list_blobs(
    connection: AsyncConnection, before: datetime, limit: int, after: BlobReview | None = None
) -> list[BlobReview]:
    """List the first reviews of blobs that were requested before a time, the oldest first; or those after one."""
    place = (_blob_reviews.c.since, _blob_reviews.c.digest, _blob_reviews.c.repository_id)
    due = select(_blob_reviews).where(_blob_reviews.c.since <= before).order_by(*place)
    if after is not None:
        known = (literal(after.since, schema.Moment), literal(str(after.digest)), literal(after.repository_id))
        due = due.where(tuple_(*place) > tuple_(*known))
    rows = await connection.execute(due.limit(limit))
    return [BlobReview(row.repository_id, Digest.parse(row.digest), row.since) for row in rows]


async def sample(connection: AsyncConnection, after: str, limit: int) -> list[Digest]:
    """List the first blobs after the text of a digest."""
    some = select(_blobs.c.digest).where(_blobs.c.digest > after).order_by(_blobs.c.digest).limit(limit)
    return [Digest.parse(text) for text in await connection.scalars(some)]


async def would_delete_manifest(connection: AsyncConnection, review: ManifestReview) -> bool:
    """Whether a review would delete its manifest now."""
    row = await _manifest_of(connection, review)
    return row is not None and not await _is_needed(connection, review, row, await _subject_of(connection, row))


async def would_delete_blob(connection: AsyncConnection, review: BlobReview, before: datetime) -> int | None:
    """The size of the blob that reviews which were requested before a time would delete, this one as the last of them,
    in bytes; None where it would stay, or another review of it comes later."""
    digest, pending, reviewed = str(review.digest), _blob_reviews.c, _blob_reviews.alias("reviewed")
    place = tuple_(literal(review.since, schema.Moment), literal(review.repository_id))
    later = exists().where(pending.digest == digest, tuple_(pending.since, pending.repository_id) > place)
    gives_up = exists().where(
        reviewed.c.digest == digest, reviewed.c.repository_id == _links.c.repository_id, reviewed.c.since <= before
    )
    keeps = or_(~gives_up, is_needed_blob(_links.c.repository_id, _links.c.digest))
    elsewhere = exists().where(_links.c.digest == digest, keeps)
    size: int | None = await connection.scalar(
        select(_blobs.c.size).where(_blobs.c.digest == digest, ~later, ~elsewhere)
    )
    return size


async def end_needless_of_manifests(
    connection: AsyncConnection, due: Sequence[ManifestReview], before: datetime
) -> set[str]:
    """End those of the reviews whose manifests have a tag or are listed by an index; return the keys of these reviews.

    A review that was postponed meanwhile stays.
    """
    needed = select(_manifests.c.id).where(_manifests.c.id.in_([review.manifest_id for review in due]), is_anchored())
    ended = delete(_manifest_reviews).where(
        _manifest_reviews.c.manifest_id.in_(needed), _manifest_reviews.c.since <= before
    )
    return set(map(str, await connection.scalars(ended.returning(_manifest_reviews.c.manifest_id))))


async def end_needless_of_blobs(connection: AsyncConnection, due: Sequence[BlobReview], before: datetime) -> set[str]:
    """End those of the reviews whose blobs a manifest of the repository needs; return the keys of these reviews.

    A review that was postponed meanwhile stays.
    """
    keys = tuple_(_blob_reviews.c.digest, _blob_reviews.c.repository_id)
    which = keys.in_([(str(review.digest), review.repository_id) for review in due])
    needed = is_needed_blob(_blob_reviews.c.repository_id, _blob_reviews.c.digest)
    linked = exists().where(
        _links.c.repository_id == _blob_reviews.c.repository_id, _links.c.digest == _blob_reviews.c.digest
    )
    ended = delete(_blob_reviews).where(which, _blob_reviews.c.since <= before, needed, linked)
    rows = await connection.execute(ended.returning(_blob_reviews.c.digest, _blob_reviews.c.repository_id))
    return {_blob_key(row.digest, row.repository_id) for row in rows}


async def collect_manifest(connection: AsyncConnection, review: ManifestReview, now: datetime) -> Deleted | None:
    """End a review, and delete the manifest unless something needs it; None where it stays, or the review was postponed
    meanwhile."""
    ended = await connection.execute(_END_OF_MANIFEST, {"number": review.manifest_id, "since": review.since})
    if ended.first() is None:
        return None
    row = await _manifest_of(connection, review)
    if row is None:
        return None
    subject = await _subject_of(connection, row)
    if subject is not None:
        await reviews.review_unless_pending(connection, subject, review.event, now)
    if await _is_needed(connection, review, row, subject):
        return None
    digest = Digest.parse(row.digest)
    await manifests.delete(connection, row.repository_id, digest, now, "")
    return Deleted(digest, row.pushed_at)


async def collect_blob(connection: AsyncConnection, review: BlobReview, now: datetime) -> Deleted | None:
    """End a review: take the blob out of the repository unless a manifest of it needs the blob, and delete the blob
    that no repository has any more. None where the blob stays stored, or the review was postponed meanwhile.

    A deleted blob is listed by `list_removals` until its file is deleted.
    """
    which = {"which": str(review.digest)}
    ended = await connection.execute(_END_OF_BLOB, which | {"repository": review.repository_id, "since": review.since})
    if ended.first() is None:
        return None
    if await _is_needed_by_repository(connection, review):
        return None
    await blobs.take_out(connection, review.repository_id, review.digest)
    if (await connection.execute(_USE, which)).first() is not None:
        return None
    row = (await connection.execute(_DELETE_BLOB, which)).first()
    if row is None:
        return None
    await blob_removals.add(connection, review.digest, row.size, now)
    return Deleted(review.digest, row.created_at)


async def _manifest_of(connection: AsyncConnection, review: ManifestReview) -> Any:
    """The row of the manifest of a review; None where it was deleted."""
    columns = (_manifests.c.repository_id, _manifests.c.digest, _manifests.c.subject, _manifests.c.pushed_at)
    return (await connection.execute(select(*columns).where(_manifests.c.id == review.manifest_id))).first()


async def _subject_of(connection: AsyncConnection, row: Any) -> int | None:
    """The number of the manifest that is the subject of one, if the repository has it."""
    if row.subject is None:
        return None
    subject = select(_manifests.c.id).where(
        _manifests.c.repository_id == row.repository_id, _manifests.c.digest == row.subject
    )
    number: int | None = await connection.scalar(subject)
    return number


async def _is_needed(connection: AsyncConnection, review: ManifestReview, row: Any, subject: int | None) -> bool:
    """Whether something needs a manifest: a tag, an index, its subject, or a referrer that is needed itself.

    `subject`: the number of its subject, if the repository has it. A referrer, such as a signature, stays with its
    subject, whose own review then decides about both.
    """
    own = _manifests.c.id == review.manifest_id
    if (await connection.execute(select(_manifests.c.id).where(own, is_anchored()))).first() is not None:
        return True
    if subject is not None:
        return True
    return await _has_needed_referrer(connection, row.repository_id, row.digest)


async def _is_needed_by_repository(connection: AsyncConnection, review: BlobReview) -> bool:
    """Whether a manifest of the repository of a review refers to the blob."""
    values = {"which": str(review.digest), "repository": review.repository_id}
    return (await connection.execute(_REFERENCE, values)).first() is not None


async def _has_needed_referrer(connection: AsyncConnection, repository_id: int, digest: str) -> bool:
    """Whether a tag or an index keeps a manifest whose subject is this one, or the subject of which is such a one."""
    referrers = (
        select(_manifests.c.id, _manifests.c.digest)
        .where(_manifests.c.repository_id == repository_id, _manifests.c.subject == digest)
        .cte("referrers", recursive=True)
    )
    further = select(_manifests.c.id, _manifests.c.digest).where(
        _manifests.c.repository_id == repository_id, _manifests.c.subject == referrers.c.digest
    )
    all_referrers = referrers.union(further)
    needed = select(_manifests.c.id).where(_manifests.c.id == all_referrers.c.id, is_anchored())
    return (await connection.execute(needed.limit(1))).first() is not None


def is_anchored() -> ColumnElement[bool]:
    """Whether a manifest has a tag, now or in what a pin shows, or an index of its repository lists it."""
    tagged = exists().where(_tags.c.manifest_id == _manifests.c.id)
    pinned = exists().where(schema.pinned_tags.c.manifest_id == _manifests.c.id)
    listed = exists().where(
        _references.c.repository_id == _manifests.c.repository_id,
        _references.c.digest == _manifests.c.digest,
        _references.c.is_manifest.is_(True),
    )
    return or_(tagged, pinned, listed)


def is_needed_blob(repository_id: ColumnElement[int], digest: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a manifest of a repository refers to a digest.

    A digest may be that of a blob and of a manifest, as where a layer has the media type of one: either needs both.
    """
    return exists().where(_references.c.repository_id == repository_id, _references.c.digest == digest)


_REFERENCE = prepared(select(literal(1)).where(is_needed_blob(_REPOSITORY, _DIGEST)))


def _blob_key(digest: Digest | str, repository_id: int) -> str:
    return f"{digest} {repository_id}"
