"""Queries of purges of the caches of groups: a group has one an hour, and one process of the host goes on with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Row, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import schema
from gateway.db.dialects import insert_or_renew

_purges = schema.cache_purges

EVERY = timedelta(hours=1)
"""How often a purge of one group may be requested (GitLab, "Purge the dependency proxy for a group")."""


@dataclass(frozen=True, slots=True)
class CachePurge:
    """A purge of what a group has pulled until it was requested, by whom, and how far it has come.

    `images`: those that there are to purge; None before they are counted. `purged`: those that are done; `shared` of
    them are cached still, since other groups have pulled them too.
    """

    group_id: int
    requested_at: datetime
    who: str
    user: str | None = None
    client: str | None = None
    request_id: str | None = None
    images: int | None = None
    purged: int = 0
    shared: int = 0
    freed_bytes: int = 0
    completed_at: datetime | None = None


async def request(connection: AsyncConnection, wanted: CachePurge) -> bool:
    """Store a request; return whether it is taken: none is within an hour of the last one, or before that is done."""
    last = await find(connection, wanted.group_id)
    if last is not None:
        recent = wanted.requested_at - EVERY < last.requested_at <= wanted.requested_at
        if recent or last.completed_at is None:
            return False
    columns = [_purges.c[name] for name in _FIELDS[1:]]
    stored = insert_or_renew(connection.dialect.name, _purges, [_purges.c.group_id], columns)
    await connection.execute(stored.values({name: getattr(wanted, name) for name in _FIELDS}))
    return True


async def find(connection: AsyncConnection, group_id: int) -> CachePurge | None:
    """Find the last purge of a group."""
    row = (await connection.execute(select(_purges).where(_purges.c.group_id == group_id))).first()
    return None if row is None else _purge(row)


async def list_open(connection: AsyncConnection) -> Sequence[CachePurge]:
    """List the purges that are not complete, in the order in which they were requested."""
    rows = await connection.execute(
        select(_purges).where(_purges.c.completed_at.is_(None)).order_by(_purges.c.requested_at, _purges.c.group_id)
    )
    return [_purge(row) for row in rows]


async def note_progress(connection: AsyncConnection, purge: CachePurge) -> None:
    """Store how far a purge has come."""
    own = _purges.c.group_id == purge.group_id, _purges.c.requested_at == purge.requested_at
    values = {name: getattr(purge, name) for name in ("images", "purged", "shared", "freed_bytes", "completed_at")}
    await connection.execute(update_of(_purges).where(*own).values(values))


_FIELDS = tuple(column.name for column in _purges.c)


def _purge(row: "Row[tuple[object, ...]]") -> CachePurge:
    return CachePurge(**row._mapping)
