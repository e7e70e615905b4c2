"""Queries of deliveries: what is sent to each webhook, when it is due, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, literal, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.schema import groups, projects
from gateway.db.schema import webhook_deliveries as _deliveries
from gateway.db.schema import webhooks as _webhooks
from gateway.db.webhooks import ids_of
from gateway.db.windows import ListPart, ListWindow, in_order
from gateway.namespaces.node import NodeKey
from gateway.webhooks.event import Trigger
from gateway.webhooks.webhook import DISABLING

LEASE = timedelta(minutes=1)
"""How long nobody else sends a delivery whose sender has stopped: longer than any attempt takes."""
KEPT = timedelta(days=7)
"""How long a delivery is kept that has ended (GitLab, "View webhook request history")."""
MOST_WAITING = 5_000
"""Deliveries that wait for all webhooks of a project, of a group, or of the server; beyond it the oldest are dead. With
the limit of an envelope they take some hundred megabytes at most."""
MOST_ENDED = 1_000
"""Deliveries of one webhook that are kept once they have ended: whoever has a webhook makes them at will."""
MOST_ENDED_TOGETHER = 5_000
"""Deliveries of all webhooks of a project, of a group, or of the server that are kept once they have ended."""
_TRIMMED = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery. `next_at`: when it is due; None once it has ended. `delivered`: whether it ended well.
    `response_status`: of the last attempt; None where there was no response. `problem`: why that failed."""

    id: int
    webhook_id: int
    uid: str
    trigger: Trigger
    payload: str
    created_at: datetime
    attempts: int = 0
    next_at: datetime | None = None
    ended_at: datetime | None = None
    delivered: bool = False
    response_status: int | None = None
    problem: str | None = None

    @property
    def status(self) -> str:
        """`pending`, `delivered` or `dead`."""
        if self.next_at is not None:
            return "pending"
        return "delivered" if self.delivered else "dead"


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook that something is due for. `owner`: the top of the path of its project or group; empty for the
    server."""

    id: int
    owner: str


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery before it is stored."""

    webhook_id: int
    uid: str
    trigger: Trigger
    payload: str


async def add(connection: AsyncConnection, deliveries: Sequence[NewDelivery], now: datetime) -> None:
    """Store deliveries, which are due at once."""
    begun = {"created_at": now, "next_at": now, "attempts": 0, "delivered": False}
    rows = [
        {"webhook_id": new.webhook_id, "uid": new.uid, "trigger": new.trigger.value, "payload": new.payload, **begun}
        for new in deliveries
    ]
    if rows:
        await connection.execute(insert_into(_deliveries), rows)


async def drop_beyond(connection: AsyncConnection, node: NodeKey | None, now: datetime) -> int:
    """Let the oldest deliveries be dead of which too many wait for the webhooks of a node; return how many."""
    waiting = and_(_deliveries.c.webhook_id.in_(ids_of(node)), _deliveries.c.next_at.is_not(None))
    last = await _last_beyond(connection, waiting, MOST_WAITING)
    if last is None:
        return 0
    problem = f"more than {MOST_WAITING} deliveries waited for this webhook and those beside it"
    return await _end_all(connection, and_(waiting, _deliveries.c.id <= last), now, problem)


async def forget_beyond(connection: AsyncConnection, webhook_id: int) -> None:
    """Delete the oldest deliveries of a webhook that have ended, of which too many are kept."""
    await _forget_beyond(connection, _deliveries.c.webhook_id == webhook_id, MOST_ENDED)


async def forget_beyond_together(connection: AsyncConnection, node: NodeKey | None) -> None:
    """Delete the oldest deliveries of the webhooks of a node that have ended, of which too many are kept."""
    await _forget_beyond(connection, _deliveries.c.webhook_id.in_(ids_of(node)), MOST_ENDED_TOGETHER)


async def end_of_webhook(connection: AsyncConnection, webhook_id: int, now: datetime, problem: str) -> int:
    """Let all deliveries of a webhook be dead that wait; return how many."""
    waiting = and_(_deliveries.c.webhook_id == webhook_id, _deliveries.c.next_at.is_not(None))
    return await _end_all(connection, waiting, now, problem)


async def due_webhooks(connection: AsyncConnection, now: datetime, but: Sequence[int]) -> list[DueWebhook]:
    """List webhooks for which a delivery is due and that have no pause, whichever waits for longest first.

    `but`: those that are left out.
    """
    no_pause = or_(_webhooks.c.disabled_until.is_(None), _webhooks.c.disabled_until <= now)
    path = func.coalesce(projects.c.path, groups.c.path, "")
    due = (
        select(_deliveries.c.webhook_id, path)
        .join(_webhooks, _webhooks.c.id == _deliveries.c.webhook_id)
        .outerjoin(projects, projects.c.id == _webhooks.c.project_id)
        .outerjoin(groups, groups.c.id == _webhooks.c.group_id)
        .where(_webhooks.c.failures < DISABLING, no_pause)
        .where(_deliveries.c.next_at <= now, _deliveries.c.webhook_id.not_in(list(but)))
        .group_by(_deliveries.c.webhook_id, projects.c.path, groups.c.path)
        .order_by(func.min(_deliveries.c.next_at))
    )
    return [DueWebhook(id, path.partition("/")[0]) for id, path in await connection.execute(due)]


async def claim(connection: AsyncConnection, webhook_id: int, now: datetime) -> Delivery | None:
    """Take the lease of the first delivery that is due for a webhook; None where there is none."""
    own = and_(_deliveries.c.webhook_id == webhook_id, _deliveries.c.next_at <= now)
    row = (await connection.execute(select(_deliveries).where(own).order_by(_deliveries.c.id).limit(1))).first()
    if row is None:
        return None
    unchanged = and_(_deliveries.c.id == row.id, _deliveries.c.next_at == row.next_at)
    taken = update_of(_deliveries).where(unchanged).values(next_at=now + LEASE)
    return _delivery(row) if (await connection.execute(taken)).rowcount else None


async def note_attempt(
    connection: AsyncConnection,
    delivery: Delivery,
    now: datetime,
    *,
    next_at: datetime | None,
    delivered: bool,
    response_status: int | None,
    problem: str | None,
) -> None:
    """Note what became of an attempt. `next_at`: when the next one is due; None where this was the last."""
    values = {
        "attempts": delivery.attempts + 1,
        "next_at": next_at,
        "ended_at": now if next_at is None else None,
        "delivered": delivered,
        "response_status": response_status,
        "problem": None if problem is None else problem[:255],
    }
    await connection.execute(update_of(_deliveries).where(_deliveries.c.id == delivery.id).values(values))


async def list_part(connection: AsyncConnection, webhook_id: int, window: ListWindow) -> ListPart[Delivery]:
    """A part of the deliveries of a webhook."""
    own = select(_deliveries).where(_deliveries.c.webhook_id == webhook_id)
    query = in_order(own, _deliveries.c.id, window).limit(window.limit + 1).offset(window.offset or None)
    found = [_delivery(row) for row in await connection.execute(query)]
    return ListPart(found[: window.limit], len(found) > window.limit)


async def find(connection: AsyncConnection, webhook_id: int, id: int) -> Delivery | None:
    """Find a delivery of a webhook."""
    own = _deliveries.c.webhook_id == webhook_id, _deliveries.c.id == id
    row = (await connection.execute(select(_deliveries).where(*own))).first()
    return None if row is None else _delivery(row)


async def redeliver(connection: AsyncConnection, delivery: Delivery, now: datetime) -> None:
    """Let a delivery be due at once, with as many attempts as a new one has."""
    again = {"next_at": now, "ended_at": None, "attempts": 0, "delivered": False}
    await connection.execute(update_of(_deliveries).where(_deliveries.c.id == delivery.id).values(again))


async def trim(connection: AsyncConnection, now: datetime) -> int:
    """Delete some deliveries that ended long ago; return how many."""
    old = select(_deliveries.c.id).where(_deliveries.c.ended_at < now - KEPT).limit(_TRIMMED)
    return (await connection.execute(delete_from(_deliveries).where(_deliveries.c.id.in_(old)))).rowcount


async def _forget_beyond(connection: AsyncConnection, which: ColumnElement[bool], kept: int) -> None:
    ended = and_(which, _deliveries.c.ended_at.is_not(None))
    last = await _last_beyond(connection, ended, kept)
    if last is not None:
        await connection.execute(delete_from(_deliveries).where(ended, _deliveries.c.id <= last))


async def _last_beyond(connection: AsyncConnection, which: ColumnElement[bool], kept: int) -> int | None:
    """The id of the latest delivery of some that is beyond a number of them; None where there are no more."""
    ids = select(_deliveries.c.id).where(which).order_by(_deliveries.c.id.desc())
    id: int | None = await connection.scalar(ids.offset(kept).limit(1))
    return id


async def _end_all(connection: AsyncConnection, which: Any, now: datetime, problem: str) -> int:
    ended = {"next_at": None, "ended_at": now, "delivered": False, "problem": literal(problem)}
    return (await connection.execute(update_of(_deliveries).where(which).values(ended))).rowcount


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook_id=row.webhook_id,
        uid=row.uid,
        trigger=Trigger(row.trigger),
        payload=row.payload,
        created_at=row.created_at,
        attempts=row.attempts,
        next_at=row.next_at,
        ended_at=row.ended_at,
        delivered=row.delivered,
        response_status=row.response_status,
        problem=row.problem,
    )
