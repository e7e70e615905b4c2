"""Queries of the history of tags: each creation, move and deletion is an event, noted in the transaction that does it.

Events outlive the manifests whose digests they name; they go with their repository, when that is purged.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Integer,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.prepared import prepared
from gateway.db import schema
from gateway.db.windows import ListWindow, count, cut

_events = schema.tag_events
_manifests = schema.manifests
_tags = schema.tags


class TagChange(StrEnum):
    """What happened to a tag."""

    CREATE = "create"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class TagEvent:
    """One event of a tag. `before`, `after`: the digest that it pointed to, and points to since; None where there was
    no tag. `kept`: those of the two whose manifests the repository still has, or can have back."""

    id: int
    change: TagChange
    at: datetime
    actor: str
    before: Digest | None
    after: Digest | None
    kept: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class FormerTag:
    """A tag as it was at a moment: what it pointed to, and since when. `is_kept`: whether the repository still has
    that manifest."""

    tag: Tag
    digest: Digest
    moved_at: datetime
    is_kept: bool


def _digest_of(parameter: str) -> Any:
    manifest: BindParameter[int] = bindparam(parameter, type_=Integer)
    return select(_manifests.c.digest).where(_manifests.c.id == manifest).scalar_subquery()


_NOTE = prepared(
    insert(_events).values(
        repository_id=bindparam("repository"),
        name=bindparam("tag"),
        event=bindparam("change"),
        at=bindparam("now"),
        actor=bindparam("by"),
        from_digest=_digest_of("former"),
        to_digest=_digest_of("present"),
    )
)


async def note(
    connection: AsyncConnection,
    repository_id: int,
    tag: Tag,
    change: TagChange,
    now: datetime,
    actor: str,
    *,
    former: int | None = None,
    present: int | None = None,
) -> None:
    """Note an event of a tag. `former`, `present`: numbers of the manifests that it pointed to and points to."""
    values = {"repository": repository_id, "tag": tag.text, "change": change.value, "now": now, "by": actor}
    await connection.execute(_NOTE, values | {"former": former, "present": present})


async def note_deletions(
    connection: AsyncConnection, repository_id: int, manifest_id: int, now: datetime, actor: str
) -> None:
    """Note the deletion of every tag that points to a manifest; call it before that is deleted."""
    which = and_(_tags.c.manifest_id == manifest_id, _tags.c.repository_id == repository_id)
    await note_deletions_of(connection, which, now, actor)


async def note_deletions_of(connection: AsyncConnection, which: ColumnElement[bool], now: datetime, actor: str) -> None:
    """Note the deletion of some tags; call it before they are deleted."""
    values = (literal(TagChange.DELETE.value), literal(now, schema.Moment), literal(actor))
    pointing = select(_tags.c.repository_id, _tags.c.name, *values, _manifests.c.digest)
    pointing = pointing.join(_manifests, _manifests.c.id == _tags.c.manifest_id).order_by(_tags.c.name)
    names = ["repository_id", "name", "event", "at", "actor", "from_digest"]
    await connection.execute(insert(_events).from_select(names, pointing.where(which)))


async def list_page(
    connection: AsyncConnection, repository_id: int, tag: Tag, before: int | None = None, limit: int | None = None
) -> list[TagEvent]:
    """List the events of a tag, the latest first, or those before the event of a number."""
    page = _of_tag(repository_id, tag)
    if before is not None:
        page = page.where(_events.c.id < before)
    return [_event(row) for row in await connection.execute(page.order_by(_events.c.id.desc()).limit(limit))]


async def list_window(connection: AsyncConnection, repository_id: int, tag: Tag, window: ListWindow) -> list[TagEvent]:
    """List some events of a tag, in the order in which they happened."""
    rows = await connection.execute(cut(_of_tag(repository_id, tag), _events.c.id, window))
    return [_event(row) for row in rows]


async def count_of(connection: AsyncConnection, repository_id: int, tag: Tag) -> int:
    """Count the events of a tag, as `windows.count` does."""
    return await count(connection, _of_tag(repository_id, tag).with_only_columns(_events.c.id))


def _of_tag(repository_id: int, tag: Tag) -> "Select[Any]":
    kept = [
        or_(_has(digest), _can_have_back(digest)).label(label)
        for digest, label in ((_events.c.from_digest, "from_kept"), (_events.c.to_digest, "to_kept"))
    ]
    return select(_events, *kept).where(_events.c.repository_id == repository_id, _events.c.name == tag.text)


async def find_at(connection: AsyncConnection, repository_id: int, tag: Tag, moment: datetime) -> FormerTag | None:
    """Find a tag as it was at a moment; None where there was none."""
    found = await _read_former(connection, repository_id, moment, _events.c.name == tag.text, limit=1)
    return found[0] if found else None


async def list_at(
    connection: AsyncConnection, repository_id: int, moment: datetime, after: str = "", limit: int | None = None
) -> list[FormerTag]:
    """List a repository's tags as they were at a moment, in the byte order of their names, or the first ones after a
    name."""
    return await _read_former(connection, repository_id, moment, _events.c.name > after, limit)


async def _read_former(
    connection: AsyncConnection, repository_id: int, moment: datetime, which: ColumnElement[bool], limit: int | None
) -> list[FormerTag]:
    """Read some of the tags that were there at a moment."""
    of_repository = _events.c.repository_id == repository_id
    found = select_former(of_repository, moment).where(which).order_by(_events.c.name).limit(limit)
    rows = await connection.execute(found)
    return [FormerTag(Tag(row.name), Digest.parse(row.to_digest), row.at, bool(row.is_kept)) for row in rows]


def select_former(which: ColumnElement[bool], moment: datetime) -> Select[Any]:
    """Select `repository_id`, `name`, `to_digest`, `at` and `is_kept` of each tag that was there at a moment, from its
    last event until then. `which`: a condition on the repositories of events."""
    later = _events.alias("later")
    is_last = ~exists().where(
        later.c.repository_id == _events.c.repository_id,
        later.c.name == _events.c.name,
        later.c.id > _events.c.id,
        later.c.at <= moment,
    )
    columns = _events.c.repository_id, _events.c.name, _events.c.to_digest, _events.c.at
    chosen = which, _events.c.at <= moment, _events.c.to_digest.is_not(None)
    return select(*columns, _has(_events.c.to_digest).label("is_kept")).where(*chosen, is_last)


def _has(digest: "Column[str]") -> ColumnElement[bool]:
    """Whether the repository of an event still has the manifest of a digest."""
    return exists().where(_manifests.c.repository_id == _events.c.repository_id, _manifests.c.digest == digest)


def _can_have_back(digest: "Column[str]") -> ColumnElement[bool]:
    """Whether the manifest of a digest was deleted from the repository of an event, and is kept for a restore."""
    kept = schema.deleted_manifests
    return exists().where(kept.c.repository_id == _events.c.repository_id, kept.c.digest == digest)


def _event(row: Row[Any]) -> TagEvent:
    ends = ((row.from_digest, row.from_kept), (row.to_digest, row.to_kept))
    before, after = (Digest.parse(text) if text is not None else None for text, _ in ends)
    kept = frozenset(Digest.parse(text) for text, is_kept in ends if is_kept)
    return TagEvent(row.id, TagChange(row.event), row.at, row.actor, before, after, kept)
