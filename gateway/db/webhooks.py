"""Queries of webhooks: where events are sent, and how each stands."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.schema import webhooks as _webhooks
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.webhooks.event import Trigger
from gateway.webhooks.webhook import DISABLING, MOST, Webhook, WebhookInvalid, WebhookUnknown

_COLUMNS = {
    Trigger.PUSH: _webhooks.c.push_events,
    Trigger.PULL: _webhooks.c.pull_events,
    Trigger.DELETE: _webhooks.c.delete_events,
    Trigger.FILL: _webhooks.c.fill_events,
}


def wanted(trigger: Trigger) -> ColumnElement[bool]:
    """Whether any webhook is told of such events: of others nothing is written."""
    return select(_webhooks.c.id).where(_COLUMNS[trigger]).exists()


async def wanted_triggers(connection: AsyncConnection) -> frozenset[Trigger]:
    """What any webhook is told of."""
    found = select(*(wanted(trigger).label(trigger.name) for trigger in Trigger))
    row = (await connection.execute(found)).one()
    return frozenset(trigger for trigger in Trigger if getattr(row, trigger.name))


async def list_of(connection: AsyncConnection, node: NodeKey | None) -> list[Webhook]:
    """List the webhooks of a project, of a group itself, or of the server, in the order in which they were made."""
    rows = await connection.execute(select(_webhooks).where(_of(node)).order_by(_webhooks.c.id))
    return [_webhook(row) for row in rows]


async def list_all(connection: AsyncConnection) -> list[Webhook]:
    """List all webhooks."""
    return [_webhook(row) for row in await connection.execute(select(_webhooks).order_by(_webhooks.c.id))]


async def list_told(connection: AsyncConnection, projects: Iterable[int], groups: Iterable[int]) -> list[Webhook]:
    """List the webhooks of some projects and groups, and those of the server, that are not disabled."""
    told = or_(_of(None), _webhooks.c.project_id.in_(sorted(projects)), _webhooks.c.group_id.in_(sorted(groups)))
    query = select(_webhooks).where(told, _webhooks.c.failures < DISABLING).order_by(_webhooks.c.id)
    return [_webhook(row) for row in await connection.execute(query)]


def ids_of(node: NodeKey | None) -> Select[tuple[int]]:
    """The query for the ids of the webhooks of a project, of a group itself, or of the server."""
    return select(_webhooks.c.id).where(_of(node))


async def get(connection: AsyncConnection, node: NodeKey | None, id: int) -> Webhook:
    """Get a webhook of a project, a group or the server. Raises WebhookUnknown."""
    row = (await connection.execute(select(_webhooks).where(_of(node), _webhooks.c.id == id))).first()
    if row is None:
        raise WebhookUnknown(f"there is no webhook {id}")
    return _webhook(row)


async def find(connection: AsyncConnection, id: int) -> Webhook | None:
    """Find a webhook, whomever it belongs to."""
    row = (await connection.execute(select(_webhooks).where(_webhooks.c.id == id))).first()
    return None if row is None else _webhook(row)


async def create(connection: AsyncConnection, webhook: Webhook) -> Webhook:
    """Store a new webhook, whose id is given to it. Raises WebhookInvalid where there are too many."""
    count = await connection.scalar(select(func.count()).select_from(_webhooks).where(_of(webhook.node)))
    if (count or 0) >= MOST:
        raise WebhookInvalid("base", f"there are {MOST} webhooks already: delete one first")
    id = await connection.scalar(insert_into(_webhooks).values(_values(webhook)).returning(_webhooks.c.id))
    return await get(connection, webhook.node, int(id or 0))


async def update(connection: AsyncConnection, webhook: Webhook) -> Webhook:
    """Store the properties of a webhook, and how it stands. Raises WebhookUnknown."""
    stored = update_of(_webhooks).where(_webhooks.c.id == webhook.id).values(_values(webhook))
    if not (await connection.execute(stored)).rowcount:
        raise WebhookUnknown(f"there is no webhook {webhook.id}")
    return webhook


async def note_standing(connection: AsyncConnection, webhook: Webhook) -> None:
    """Store how a webhook stands, unless it was deleted meanwhile."""
    standing = {"failures": webhook.failures, "disabled_until": webhook.disabled_until}
    await connection.execute(update_of(_webhooks).where(_webhooks.c.id == webhook.id).values(standing))


async def delete(connection: AsyncConnection, node: NodeKey | None, id: int) -> Webhook:
    """Delete a webhook with what it was sent, and return it. Raises WebhookUnknown."""
    webhook = await get(connection, node, id)
    await connection.execute(delete_from(_webhooks).where(_webhooks.c.id == id))
    return webhook


def _of(node: NodeKey | None) -> ColumnElement[bool]:
    if node is None:
        return and_(_webhooks.c.project_id.is_(None), _webhooks.c.group_id.is_(None))
    return (_webhooks.c.project_id if node.kind is NodeKind.PROJECT else _webhooks.c.group_id) == node.id


def _values(webhook: Webhook) -> Mapping[str, object]:
    node = webhook.node
    return {
        "uid": webhook.uid,
        "project_id": node.id if node is not None and node.kind is NodeKind.PROJECT else None,
        "group_id": node.id if node is not None and node.kind is NodeKind.GROUP else None,
        "url": webhook.url,
        "name": webhook.name,
        "description": webhook.description,
        "verify_tls": webhook.verify_tls,
        **{column.name: trigger in webhook.triggers for trigger, column in _COLUMNS.items()},
        "token_sealed": webhook.token_sealed,
        "signing_sealed": webhook.signing_sealed,
        "created_at": webhook.created_at,
        "failures": webhook.failures,
        "disabled_until": webhook.disabled_until,
    }


def _webhook(row: Row[Any]) -> Webhook:
    node = None
    if row.project_id is not None:
        node = NodeKey(NodeKind.PROJECT, row.project_id)
    elif row.group_id is not None:
        node = NodeKey(NodeKind.GROUP, row.group_id)
    return Webhook(
        id=row.id,
        uid=row.uid,
        node=node,
        url=row.url,
        triggers=frozenset(trigger for trigger, column in _COLUMNS.items() if getattr(row, column.name)),
        created_at=row.created_at,
        name=row.name,
        description=row.description,
        verify_tls=row.verify_tls,
        token_sealed=row.token_sealed,
        signing_sealed=row.signing_sealed,
        failures=row.failures,
        disabled_until=row.disabled_until,
    )
