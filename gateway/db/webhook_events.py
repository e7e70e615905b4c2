"""Queries of the outbox: what webhooks are to be told of, written by the transaction that it tells of.

Nothing is written of what no webhook is told of, which the statement that writes finds out.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, func, insert, literal, null, select
from sqlalchemy import delete as delete_from
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.prepared import prepared
from gateway.db import schema
from gateway.db.schema import blobs, manifests, repositories, tags
from gateway.db.schema import webhook_events as _events
from gateway.db.webhooks import wanted
from gateway.webhooks.cause import Cause, current_cause
from gateway.webhooks.event import RegistryEvent, Trigger

BLOB_TYPE = "application/octet-stream"
_NAMES = ["at", "trigger", "path", "project_id", "tag", "digest", "media_type", "size", "cause"]


def _select(trigger: Trigger, tag: Any, digest: Any, media_type: Any, size: Any) -> Any:
    """Select an event of a repository, as the outbox has it, unless no webhook is told of such events."""
    when = bindparam("noted_at", type_=schema.Moment)
    of_repository = repositories.c.path, repositories.c.project_id
    cause = bindparam("facts", type_=_events.c.cause.type)
    values = when, literal(trigger.value), *of_repository, tag, digest, media_type, size, cause
    return select(*values).where(wanted(trigger), repositories.c.deleted_at.is_(None))


def _tag_parameter() -> ColumnElement[Any]:
    return bindparam("of_tag", type_=_events.c.tag.type)


_PUSHED = prepared(
    insert(_events).from_select(
        _NAMES,
        _select(
            Trigger.PUSH, _tag_parameter(), manifests.c.digest, manifests.c.media_type, func.length(manifests.c.raw)
        )
        .join_from(manifests, repositories, repositories.c.id == manifests.c.repository_id)
        .where(manifests.c.id == bindparam("of_manifest", type_=manifests.c.id.type)),
    )
)
_OF_MANIFEST = manifests.c.digest, manifests.c.media_type, func.length(manifests.c.raw)
_UNTAGGED = (
    _select(Trigger.DELETE, tags.c.name, *_OF_MANIFEST)
    .join_from(tags, manifests, manifests.c.id == tags.c.manifest_id)
    .join(repositories, repositories.c.id == tags.c.repository_id)
)
_UNTAGGED_ONE = prepared(
    insert(_events).from_select(
        _NAMES,
        _select(Trigger.DELETE, _tag_parameter(), *_OF_MANIFEST)
        .join_from(manifests, repositories, repositories.c.id == manifests.c.repository_id)
        .where(manifests.c.id == bindparam("of_manifest", type_=manifests.c.id.type)),
    )
)
_REPOSITORY_GONE = _select(Trigger.DELETE, null(), null(), null(), null()).select_from(repositories)


async def note_push(
    connection: AsyncConnection, manifest_id: int, pushed: Iterable[Tag], now: datetime, actor: str
) -> None:
    """Note that a manifest was pushed, or brought back, once for each of its tags, or once without any."""
    names: Sequence[str | None] = [tag.text for tag in pushed] or [None]
    for name in names:
        await connection.execute(_PUSHED, {**_common(now, actor), "of_manifest": manifest_id, "of_tag": name})


async def note_tag_deletion(connection: AsyncConnection, manifest_id: int, tag: Tag, now: datetime, actor: str) -> None:
    """Note that a tag was deleted that pointed to a manifest."""
    values = {**_common(now, actor), "of_manifest": manifest_id, "of_tag": tag.text}
    await connection.execute(_UNTAGGED_ONE, values)


async def note_tag_deletions(
    connection: AsyncConnection, which: ColumnElement[bool], now: datetime, actor: str
) -> None:
    """Note the deletion of some tags; call it before they are deleted."""
    chosen = _UNTAGGED.where(which).order_by(tags.c.name)
    await connection.execute(insert(_events).from_select(_NAMES, chosen), _common(now, actor))


async def note_manifest_deletion(
    connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime, actor: str
) -> None:
    """Note the deletion of a manifest by its digest, and of the tags that point to it; call it before it is deleted."""
    of_digest = manifests.c.repository_id == repository_id, manifests.c.digest == str(digest)
    await note_tag_deletions(connection, and_(*of_digest), now, actor)
    gone = (
        _select(Trigger.DELETE, null(), *_OF_MANIFEST)
        .join_from(manifests, repositories, repositories.c.id == manifests.c.repository_id)
        .where(*of_digest)
    )
    await connection.execute(insert(_events).from_select(_NAMES, gone), _common(now, actor))


async def note_blob_deletion(
    connection: AsyncConnection, repository_id: int, digest: Digest, now: datetime, actor: str
) -> None:
    """Note that a blob was deleted from a repository."""
    size = select(blobs.c.size).where(blobs.c.digest == str(digest)).scalar_subquery()
    text = literal(str(digest), _events.c.digest.type)
    gone = _select(Trigger.DELETE, null(), text, literal(BLOB_TYPE), size).select_from(repositories)
    own = gone.where(repositories.c.id == repository_id)
    await connection.execute(insert(_events).from_select(_NAMES, own), _common(now, actor))


async def note_repository_deletion(
    connection: AsyncConnection, which: ColumnElement[bool], now: datetime, actor: str
) -> None:
    """Note the deletion of whole repositories; call it before they are deleted."""
    gone = _REPOSITORY_GONE.where(which).order_by(repositories.c.path)
    await connection.execute(insert(_events).from_select(_NAMES, gone), _common(now, actor))


async def note_project_deletion(connection: AsyncConnection, project_id: int, now: datetime) -> None:
    """Note the deletion of every repository of a project; call it before they are deleted."""
    await note_repository_deletion(connection, repositories.c.project_id == project_id, now, "")


async def add(connection: AsyncConnection, events: Sequence[RegistryEvent]) -> None:
    """Write events that waited in memory. Those of a repository of a project are given its id by their path."""
    project = select(repositories.c.project_id).where(repositories.c.path == bindparam("of_path")).scalar_subquery()
    rows = [
        {
            "at": event.at,
            "trigger": event.trigger.value,
            "path": event.path,
            "of_path": event.path,
            "tag": event.tag,
            "digest": event.digest,
            "cause": _write(event.cause),
        }
        for event in events
    ]
    if rows:
        await connection.execute(insert(_events).values(project_id=project), rows)


async def take(connection: AsyncConnection, limit: int) -> list[RegistryEvent]:
    """Take the first events out of the outbox: whoever else does so at the same time is given others."""
    first = select(_events.c.id).order_by(_events.c.id).limit(limit)
    ids = list(await connection.scalars(first))
    if not ids:
        return []
    gone = delete_from(_events).where(_events.c.id.in_(ids)).returning(_events)
    events = [_event(row) for row in await connection.execute(gone)]
    return sorted(events, key=lambda event: event.id)


async def is_any(connection: AsyncConnection) -> bool:
    """Whether the outbox holds any event."""
    return (await connection.execute(select(_events.c.id).limit(1))).first() is not None


def _common(now: datetime, actor: str) -> dict[str, object]:
    cause = current_cause()
    known = cause if cause.actor or not actor else Cause(actor=actor)
    return {"noted_at": now, "facts": _write(known)}


def _write(cause: Cause) -> str:
    return json.dumps(cause.document(), ensure_ascii=True)


def _event(row: Row[Any]) -> RegistryEvent:
    return RegistryEvent(
        row.id,
        row.at,
        Trigger(row.trigger),
        row.path,
        row.project_id,
        row.tag,
        row.digest,
        row.media_type,
        row.size,
        Cause(**json.loads(row.cause)),
    )
