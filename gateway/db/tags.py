"""Queries of tags of native repositories: each points to one manifest of its repository."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Table, and_, bindparam, literal, select, tuple_
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.prepared import prepared
from gateway.db import reviews, tag_events, webhook_events
from gateway.db.changes import Concern, announce, announce_all, announce_selected, content_key
from gateway.db.dialects import among
from gateway.db.reviews import ReviewEvent
from gateway.db.schema import Moment, manifests, pinned_tags, tags
from gateway.db.storable import SOUGHT_TEXT
from gateway.db.tag_events import TagChange
from gateway.db.windows import ListWindow, count, cut, holds, in_order


def _select_names(table: Table) -> Select[Any]:
    after = table.c.name > bindparam("after", type_=SOUGHT_TEXT)
    return select(table.c.name).where(table.c.repository_id == bindparam("repository"), after).order_by(table.c.name)


_NAMES = prepared(_select_names(tags))
_FIRST_NAMES = prepared(_select_names(tags).limit(bindparam("count", type_=Integer)))
_OF_TAG = and_(tags.c.repository_id == bindparam("repository"), tags.c.name == bindparam("tag", type_=SOUGHT_TEXT))
_TARGET = prepared(
    select(manifests.c.id, manifests.c.digest).join(tags, tags.c.manifest_id == manifests.c.id).where(_OF_TAG)
)
_INSERT = prepared(insert_into(tags))
_MOVE = prepared(update_of(tags).where(_OF_TAG))
_FIRST_PINNED = prepared(_select_names(pinned_tags).limit(bindparam("count", type_=Integer)))

_BY_DATE = (
    select(tags.c.name, tags.c.moved_at)
    .where(tags.c.repository_id == bindparam("repository"))
    .order_by(tags.c.moved_at.desc(), tags.c.name.desc())
    .limit(bindparam("count", type_=Integer))
)
_LATEST = prepared(_BY_DATE)
_NEXT_BY_DATE = prepared(
    _BY_DATE.where(
        tuple_(tags.c.moved_at, tags.c.name)
        < tuple_(bindparam("moved", type_=Moment), bindparam("after", type_=SOUGHT_TEXT))
    )
)


_DETAILS = select(tags.c.name, manifests.c.digest, tags.c.created_at, tags.c.moved_at).join_from(
    tags, manifests, tags.c.manifest_id == manifests.c.id
)


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag, the manifest that it points to, and when it was made and last moved to another manifest."""

    tag: Tag
    digest: Digest
    created_at: datetime
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class DatedName:
    """The name of a tag, and when it last moved to another manifest."""

    name: str
    moved_at: datetime


async def point(
    connection: AsyncConnection, repository_id: int, tag: Tag, manifest_id: int, now: datetime, actor: str
) -> Digest | None:
    """Make a tag point to a manifest of its repository; return to what it pointed before, None where there was no such
    tag. Another manifest to which it pointed is reviewed. `actor`: who does it, for the tag's history."""
    which = {"repository": repository_id, "tag": tag.text}
    row = (await connection.execute(_TARGET, which)).first()
    if row is not None and row.id == manifest_id:
        return Digest.parse(row.digest)
    change, former = (TagChange.CREATE, None) if row is None else (TagChange.MOVE, row.id)
    if row is None:
        times = {"created_at": now, "moved_at": now}
        values = {"repository_id": repository_id, "name": tag.text, "manifest_id": manifest_id}
        await connection.execute(_INSERT, values | times)
    else:
        await connection.execute(_MOVE, which | {"manifest_id": manifest_id, "moved_at": now})
        await reviews.review_manifest(connection, row.id, ReviewEvent.TAG_SWITCH, now)
    await tag_events.note(connection, repository_id, tag, change, now, actor, former=former, present=manifest_id)
    await announce(connection, Concern.CONTENT, content_key(repository_id, tag))
    return None if row is None else Digest.parse(row.digest)


async def list_page(
    connection: AsyncConnection, repository_id: int, after: str = "", limit: int | None = None
) -> list[str]:
    """List the names of a repository's tags in their byte order, or the first ones after a name."""
    values = {"repository": repository_id, "after": after}
    if limit is None:
        return list((await connection.execute(_NAMES, values)).scalars())
    return list((await connection.execute(_FIRST_NAMES, values | {"count": limit})).scalars())


async def list_pinned(connection: AsyncConnection, repository_id: int, after: str, limit: int) -> list[str]:
    """List the names of the first tags after a name that a pin shows in a repository, in their byte order."""
    values = {"repository": repository_id, "after": after, "count": limit}
    return list((await connection.execute(_FIRST_PINNED, values)).scalars())


async def list_details(
    connection: AsyncConnection, repository_id: int, after: str = "", limit: int | None = None
) -> list[StoredTag]:
    """List a repository's tags with what they point to, in the byte order of their names."""
    after_name = tags.c.repository_id == repository_id, tags.c.name > after
    page = _DETAILS.where(*after_name).order_by(tags.c.name).limit(limit)
    return [_stored(row) for row in await connection.execute(page)]


async def list_of_names(connection: AsyncConnection, repository_id: int, names: Sequence[str]) -> list[StoredTag]:
    """List those of some names that are tags of a repository, with what they point to, in no order."""
    of_names = tags.c.repository_id == repository_id, among(connection.dialect.name, tags.c.name, names)
    return [_stored(row) for row in await connection.execute(_DETAILS.where(*of_names))]


async def list_window(connection: AsyncConnection, repository_id: int, window: ListWindow) -> list[str]:
    """List the names of some tags of a repository in their byte order, or from the last one on."""
    return list(await connection.scalars(cut(_searched(repository_id, window.search), tags.c.name, window)))


async def list_dated(
    connection: AsyncConnection, repository_id: int, window: ListWindow, after: DatedName | None = None
) -> list[DatedName]:
    """List some tags of a repository by when they last moved, and by their names where that was at once. `after`: the
    tag after which the window begins, instead of a value."""
    query = _searched(repository_id, window.search).add_columns(tags.c.moved_at)
    if after is not None:
        query = query.where(_comes_after(after, window))
    columns = (tags.c.moved_at, tags.c.name)
    ordered = query.order_by(*(column.desc() if window.descending else column for column in columns))
    rows = await connection.execute(ordered.limit(window.limit).offset(window.offset or None))
    return [DatedName(name, moved_at) for name, moved_at in rows]


async def count_all(connection: AsyncConnection, repository_id: int, search: str) -> int:
    """Count the tags of a repository, as `windows.count` does."""
    return await count(connection, _searched(repository_id, search))


async def count_after(
    connection: AsyncConnection, repository_id: int, window: ListWindow, last: str | DatedName
) -> int:
    """Count the tags that come after one in the list of a window, as `windows.count` does: after a name in one that
    `list_window` lists, after a date and name in one of `list_dated`."""
    query = _searched(repository_id, window.search)
    if isinstance(last, DatedName):
        return await count(connection, query.where(_comes_after(last, window)))
    return await count(connection, in_order(query, tags.c.name, replace(window, after=last)))


async def find_details(connection: AsyncConnection, repository_id: int, tag: Tag) -> StoredTag | None:
    """Find a tag with what it points to."""
    row = (await connection.execute(_DETAILS.where(_is(repository_id, tag)))).first()
    return _stored(row) if row else None


async def delete(connection: AsyncConnection, repository_id: int, tag: Tag, now: datetime, actor: str) -> bool:
    """Delete a tag, whose manifest stays until it is reviewed; return whether there was one. `actor`: who does it."""
    gone = delete_from(tags).where(_is(repository_id, tag)).returning(tags.c.manifest_id)
    manifest_id: int | None = await connection.scalar(gone)
    if manifest_id is None:
        return False
    await reviews.review_manifest(connection, manifest_id, ReviewEvent.TAG_DELETE, now)
    await tag_events.note(connection, repository_id, tag, TagChange.DELETE, now, actor, former=manifest_id)
    await webhook_events.note_tag_deletion(connection, manifest_id, tag, now, actor)
    await announce(connection, Concern.CONTENT, content_key(repository_id, tag))
    return True


async def list_of_manifest(connection: AsyncConnection, repository_id: int, digest: Digest) -> list[Tag]:
    """List the tags of a repository that point to the manifest of a digest, in the byte order of their names."""
    pointing = select(tags.c.name).join(manifests, manifests.c.id == tags.c.manifest_id)
    of_digest = manifests.c.repository_id == repository_id, manifests.c.digest == str(digest)
    return [Tag(name) for name in await connection.scalars(pointing.where(*of_digest).order_by(tags.c.name))]


async def list_by_date(
    connection: AsyncConnection, repository_id: int, after: DatedName | None, limit: int
) -> list[DatedName]:
    """List the first tags of a repository that come after one, by when they last moved, the latest first."""
    values = {"repository": repository_id, "count": limit}
    if after is None:
        rows = await connection.execute(_LATEST, values)
    else:
        rows = await connection.execute(_NEXT_BY_DATE, values | {"moved": after.moved_at, "after": after.name})
    return [DatedName(name, moved_at) for name, moved_at in rows]


async def delete_unmoved(
    connection: AsyncConnection, repository_id: int, chosen: Sequence[DatedName], now: datetime, actor: str
) -> list[tuple[str, str]]:
    """Delete those of some tags that have not moved since they were listed, a batch for one transaction; return their
    names, with the digests that they pointed to. Otherwise as `delete`."""
    listed = {tag.name: tag.moved_at for tag in chosen}
    found = select(tags.c.name, tags.c.moved_at, manifests.c.digest)
    found = found.join_from(tags, manifests, tags.c.manifest_id == manifests.c.id)
    own, dialect = tags.c.repository_id == repository_id, connection.dialect.name
    of_these = own, among(dialect, tags.c.name, list(listed))
    rows = [row for row in await connection.execute(found.where(*of_these)) if row.moved_at == listed[row.name]]
    if not rows:
        return []
    doomed = own & among(dialect, tags.c.name, [row.name for row in rows])
    await reviews.review_tagged_manifests(connection, doomed, ReviewEvent.TAG_DELETE, now)
    await tag_events.note_deletions_of(connection, doomed, now, actor)
    await webhook_events.note_tag_deletions(connection, doomed, now, actor)
    keys = select(literal(Concern.CONTENT.value), literal(content_key(repository_id, "")).concat(tags.c.name))
    await announce_selected(connection, keys.where(doomed))
    await connection.execute(delete_from(tags).where(doomed))
    return [(row.name, row.digest) for row in rows]


async def announce_of(connection: AsyncConnection, repository_id: int, manifest_id: int) -> None:
    """Announce every tag that points to a manifest; call it before the manifest is changed or deleted."""
    names: Any = select(tags.c.name).where(tags.c.manifest_id == manifest_id)
    keys = [content_key(repository_id, name) for name in await connection.scalars(names)]
    await announce_all(connection, Concern.CONTENT, keys)


def _searched(repository_id: int, search: str) -> "Select[Any]":
    found = select(tags.c.name).where(tags.c.repository_id == repository_id)
    return found.where(holds(tags.c.name, search)) if search else found


def _comes_after(tag: DatedName, window: ListWindow) -> ColumnElement[bool]:
    """Whether a row comes after a tag in a list by dates."""
    here = tuple_(tags.c.moved_at, tags.c.name)
    place = tuple_(literal(tag.moved_at, Moment), literal(tag.name, SOUGHT_TEXT))
    return here < place if window.descending else here > place


def _stored(row: Any) -> StoredTag:
    return StoredTag(Tag(row.name), Digest.parse(row.digest), row.created_at, row.moved_at)


def _is(repository_id: int, tag: Tag) -> ColumnElement[bool]:
    return and_(tags.c.repository_id == repository_id, tags.c.name == tag.text)
