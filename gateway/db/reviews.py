"""Queries of pending reviews: what garbage collection looks at once a delay has passed since an event.

Whatever may leave content without use requests its review in the transaction that does it; whoever is told that content
is there, and may rely on it, postpones the review that is pending in the transaction that reads it. A review that is
requested again begins anew. Content without a review is needed by something whose end will request one.
"""

from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Executable, Select, bindparam, literal, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.prepared import prepared
from gateway.db import schema
from gateway.db.dialects import insert_or_renew, insert_unless_taken

_blob_reviews = schema.blob_reviews
_manifest_reviews = schema.manifest_reviews
_manifests = schema.manifests
_references = schema.manifest_references
_links = schema.blob_links

EVERYWHERE = 0
"""In place of a repository's id: the review of whether any repository has a blob."""


class ReviewEvent(StrEnum):
    """What happened to the content that is reviewed."""

    BLOB_UPLOAD = "blob_upload"
    """A blob was pushed to a repository, or mounted."""
    BLOB_DELETE = "blob_delete"
    MANIFEST_UPLOAD = "manifest_upload"
    MANIFEST_DELETE = "manifest_delete"
    """A manifest was deleted that needed the content, or was its subject or referrer."""
    TAG_DELETE = "tag_delete"
    TAG_SWITCH = "tag_switch"
    """A tag that pointed to the manifest points to another one."""
    UNPIN = "unpin"
    """A pin no longer shows the manifest."""
    REPO_DELETE = "repo_delete"
    UPGRADE = "upgrade"
    """Nothing needed the content when the database was upgraded to a revision with reviews."""


async def review_blob(
    connection: AsyncConnection, repository_id: int, digest: Digest, event: ReviewEvent, now: datetime
) -> None:
    """Request the review of a blob of a repository, or, with EVERYWHERE, of whether any repository has it."""
    values = {"digest": str(digest), "repository_id": repository_id, "event": event, "since": now}
    await connection.execute(_review_of_blob(connection.dialect.name), values)


async def review_blobs_of(
    connection: AsyncConnection, repository_id: int, manifest_id: int, event: ReviewEvent, now: datetime
) -> None:
    """Request the review of each blob that a manifest of a repository refers to."""
    of_manifest = _references.c.manifest_id == manifest_id, _references.c.is_manifest.is_(False)
    values = literal(repository_id), literal(event.value), literal(now, schema.Moment)
    await _review_blobs(connection, select(_references.c.digest, *values).where(*of_manifest))


async def review_linked_blobs(connection: AsyncConnection, which: ColumnElement[bool], now: datetime) -> None:
    """Request the review of whether any repository has the blobs of some links, which are about to be deleted."""
    values = literal(EVERYWHERE), literal(ReviewEvent.REPO_DELETE.value), literal(now, schema.Moment)
    await _review_blobs(connection, select(_links.c.digest, *values).where(which).distinct())


async def review_manifest(connection: AsyncConnection, manifest_id: int, event: ReviewEvent, now: datetime) -> None:
    """Request the review of a manifest."""
    values = {"manifest_id": manifest_id, "event": event, "since": now}
    await connection.execute(_review_of_manifest(connection.dialect.name), values)


async def review_tagged_manifests(
    connection: AsyncConnection, which: ColumnElement[bool], event: ReviewEvent, now: datetime
) -> None:
    """Request the review of each manifest that some tags point to; call it before they are deleted."""
    values = literal(event.value), literal(now, schema.Moment)
    some = select(schema.tags.c.manifest_id, *values).where(which).distinct()
    await connection.execute(_renew_manifests(connection.dialect.name, some))


async def review_related_manifests(
    connection: AsyncConnection, repository_id: int, manifest_id: int, event: ReviewEvent, now: datetime
) -> None:
    """Request the review of the manifests that an index lists, and of those that a manifest has as subject or referrer.

    Call it before the manifest is deleted.
    """
    own = select(_manifests.c.digest, _manifests.c.subject).where(_manifests.c.id == manifest_id)
    digest, subject = (await connection.execute(own)).one()
    children = select(_references.c.digest).where(
        _references.c.manifest_id == manifest_id, _references.c.is_manifest.is_(True)
    )
    related = _manifests.c.digest.in_(children) | (_manifests.c.subject == digest)
    if subject is not None:
        related |= _manifests.c.digest == subject
    values = literal(event.value), literal(now, schema.Moment)
    some = select(_manifests.c.id, *values).where(_manifests.c.repository_id == repository_id, related)
    await connection.execute(_renew_manifests(connection.dialect.name, some))


async def review_unpinned(connection: AsyncConnection, repositories: Select[tuple[int]], now: datetime) -> None:
    """Request the review of each manifest that a pin shows in some repositories; call it before the pin is lifted."""
    values = literal(ReviewEvent.UNPIN.value), literal(now, schema.Moment)
    shown = schema.pinned_tags.c.repository_id.in_(repositories)
    some = select(schema.pinned_tags.c.manifest_id, *values).where(shown).distinct()
    await connection.execute(_renew_manifests(connection.dialect.name, some))


def _renew_manifests(dialect: str, some: Select[Any]) -> Executable:
    """Make a statement that requests reviews of manifests; `some`: selects number, event and time, with a WHERE."""
    requested = insert_or_renew(dialect, _manifest_reviews, [_manifest_reviews.c.manifest_id], _RENEWED_OF_MANIFEST)
    return requested.from_select(["manifest_id", "event", "since"], some)


async def review_unless_pending(
    connection: AsyncConnection, manifest_id: int, event: ReviewEvent, now: datetime
) -> None:
    """Request the review of a manifest unless one is pending. It is due one delay from now, like any other: meanwhile
    somebody may have been told that the manifest is there."""
    values = {"manifest_id": manifest_id, "event": event, "since": now}
    await connection.execute(insert_unless_taken(connection.dialect.name, _manifest_reviews).values(values))


_PENDING_OF_BLOB = prepared(
    select(true()).where(
        _blob_reviews.c.digest == bindparam("which"), _blob_reviews.c.repository_id == bindparam("repository")
    )
)
_POSTPONE_BLOB = prepared(
    update(_blob_reviews).where(
        _blob_reviews.c.digest == bindparam("which"), _blob_reviews.c.repository_id == bindparam("repository")
    )
)


async def is_blob_reviewed(connection: AsyncConnection, repository_id: int, digest: Digest) -> bool:
    """Whether a review of a blob of a repository is pending."""
    found = await connection.execute(_PENDING_OF_BLOB, {"which": str(digest), "repository": repository_id})
    return found.first() is not None


async def postpone_blob(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime) -> None:
    """Let the pending review of a blob of a repository begin anew."""
    await connection.execute(_POSTPONE_BLOB, {"which": str(digest), "repository": repository_id, "since": now})


async def is_manifest_reviewed(connection: AsyncConnection, repository_id: int, digest: Digest) -> bool:
    """Whether a review of a manifest of a repository is pending."""
    reviewed = select(_manifest_reviews.c.manifest_id).where(
        _manifest_reviews.c.manifest_id.in_(_numbers_of(repository_id, digest))
    )
    return (await connection.execute(reviewed)).first() is not None


async def postpone_manifest(connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime) -> None:
    """Let the pending review of a manifest of a repository begin anew."""
    reviewed = _manifest_reviews.c.manifest_id.in_(_numbers_of(repository_id, digest))
    await connection.execute(update(_manifest_reviews).where(reviewed).values(since=now))


async def postpone_all(connection: AsyncConnection, repository_id: int, now: datetime) -> None:
    """Let the pending reviews of all that a repository holds begin anew."""
    blobs = update(_blob_reviews).where(_blob_reviews.c.repository_id == repository_id)
    own = select(_manifests.c.id).where(_manifests.c.repository_id == repository_id)
    for postponed in (blobs, update(_manifest_reviews).where(_manifest_reviews.c.manifest_id.in_(own))):
        await connection.execute(postponed.values(since=now))


async def date_back(connection: AsyncConnection, latest: datetime, now: datetime) -> None:
    """Date to now the reviews that were requested later than a moment."""
    for reviews in (_blob_reviews, _manifest_reviews):
        await connection.execute(update(reviews).where(reviews.c.since > latest).values(since=now))


def _numbers_of(repository_id: int, digest: Digest) -> Select[tuple[int]]:
    return select(_manifests.c.id).where(
        _manifests.c.repository_id == repository_id, _manifests.c.digest == str(digest)
    )


_RENEWED_OF_BLOB = [_blob_reviews.c.event, _blob_reviews.c.since]
_RENEWED_OF_MANIFEST = [_manifest_reviews.c.event, _manifest_reviews.c.since]


@cache
def _review_of_blob(dialect: str) -> Executable:
    keys = [_blob_reviews.c.digest, _blob_reviews.c.repository_id]
    return prepared(insert_or_renew(dialect, _blob_reviews, keys, _RENEWED_OF_BLOB))


@cache
def _review_of_manifest(dialect: str) -> Executable:
    keys = [_manifest_reviews.c.manifest_id]
    return prepared(insert_or_renew(dialect, _manifest_reviews, keys, _RENEWED_OF_MANIFEST))


async def _review_blobs(connection: AsyncConnection, some: Select[tuple[str, int, str, datetime]]) -> None:
    """Request reviews of blobs; `some`: selects digest, repository, event and time of each, with a WHERE."""
    keys = [_blob_reviews.c.digest, _blob_reviews.c.repository_id]
    requested = insert_or_renew(connection.dialect.name, _blob_reviews, keys, _RENEWED_OF_BLOB)
    await connection.execute(requested.from_select(["digest", "repository_id", "event", "since"], some))
