"""Queries of the policies that purge from the cache of a group what was not pulled for long."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, or_, select
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import schema
from gateway.db.dialects import insert_or_renew
from gateway.namespaces.image_ttl import ImageTtlPolicy

_policies = schema.image_ttl_policies


async def find(connection: AsyncConnection, group_id: int) -> ImageTtlPolicy | None:
    """Find the policy of a group."""
    row = (await connection.execute(select(_policies).where(_policies.c.group_id == group_id))).first()
    return None if row is None else _policy(row)


async def put(connection: AsyncConnection, policy: ImageTtlPolicy) -> None:
    """Store the policy of a group; when it was first made stays."""
    changed = [_policies.c.enabled, _policies.c.ttl, _policies.c.updated_at]
    stored = insert_or_renew(connection.dialect.name, _policies, [_policies.c.group_id], changed)
    values = {column.name: getattr(policy, column.name) for column in _policies.c}
    await connection.execute(stored.values(values))


async def list_due(connection: AsyncConnection, before: datetime) -> Sequence[ImageTtlPolicy]:
    """List the policies that are enabled, and have not been applied since."""
    due = or_(_policies.c.completed_at.is_(None), _policies.c.completed_at < before)
    rows = await connection.execute(select(_policies).where(_policies.c.enabled, due).order_by(_policies.c.group_id))
    return [_policy(row) for row in rows]


async def note_applied(connection: AsyncConnection, group_id: int, now: datetime) -> None:
    """Store that the policy of a group was applied."""
    own = _policies.c.group_id == group_id
    await connection.execute(update_of(_policies).where(own).values(completed_at=now))


def _policy(row: "Row[tuple[object, ...]]") -> ImageTtlPolicy:
    return ImageTtlPolicy(**row._mapping)
