"""Queries of groups; the rules that a change must keep are called inside its transaction, and written elsewhere."""

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, exists, or_, select, true, union_all
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.policy.gate import OPEN, Gate
from gateway.db import bots, cascades, old_paths, paths, quotas, schema
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce
from gateway.namespaces.errors import PathTaken
from gateway.namespaces.gate_document import gate_from_document, gate_to_document
from gateway.namespaces.group import HUB, Group, check_creation, check_deletion, check_update, new_group, unknown_group
from gateway.namespaces.node import NAMED_AT_MOST, NodeKey, NodeKind, Visibility, prefixes_of
from gateway.namespaces.old_path import MovedKind
from gateway.namespaces.paths import parent_path


async def prepare(connection: AsyncConnection, now: datetime) -> None:
    """Give a new database the group `hub` with an open dependency proxy; once ever, so that it can be deleted."""
    if (await connection.execute(select(schema.installation.c.id))).first():
        return
    await connection.execute(insert_into(schema.installation).values(id=1, prepared_at=now))
    hub = await create(connection, HUB, now)
    await update(connection, replace(hub, visibility=Visibility.PUBLIC, anonymous_pull=True))


async def create(connection: AsyncConnection, path: str, now: datetime) -> Group:
    """Store a private group with its dependency proxy on; `update` changes it further.

    Raises PathInvalid, PathTaken, PathReserved, ParentUnknown.
    """
    group = new_group(path, now)
    check_creation(group, await paths.find(connection, parent_path(path)))
    if taken := await paths.find(connection, path):
        raise PathTaken(path, taken.key.kind)
    await old_paths.check_free(connection, path, MovedKind.GROUP, now)
    values = {**_columns(group), "path": path, "created_at": now}
    row = (await connection.execute(insert_into(schema.groups).values(values).returning(schema.groups))).one()
    await paths.take(connection, path, NodeKey(NodeKind.GROUP, row.id))
    await announce(connection, Concern.GROUP, path)
    return _group(row)


async def with_listings(connection: AsyncConnection, found: Collection[Group], listed: Collection[str]) -> list[Group]:
    """The groups, each with those of its old paths by which settings list it; a statement, if anything is listed."""
    formers = await old_paths.follow_all(connection, listed)
    return [
        replace(group, listed_as=frozenset(path for path, former in formers.items() if former.present == group.path))
        for group in found
    ]


async def list_all(connection: AsyncConnection, below: str | None = None) -> list[Group]:
    """List groups, each after the one above it: all, or those below a path."""
    listed = select(schema.groups)
    if below is not None:
        listed = listed.where(paths.is_below(schema.groups.c.path, below))
    return sorted(map(_group, await connection.execute(listed)), key=lambda group: group.path.split("/"))


async def list_lending(connection: AsyncConnection, listed: Collection[str]) -> list[Group]:
    """List the groups that may show everybody what an account reads: those with anonymous pull that have an upstream
    login of their own, or that are `listed` by their paths, also by old ones, by upstreams that lend theirs."""
    formers = await old_paths.follow_all(connection, listed)
    named = {*listed, *(former.present for former in formers.values())}
    open_ones = schema.groups.c.proxy_enabled, schema.groups.c.anonymous_pull
    with_account = or_(schema.groups.c.upstream_username.is_not(None), schema.groups.c.path.in_(named))
    lending = select(schema.groups).where(*open_ones, with_account).order_by(schema.groups.c.path)
    return await with_listings(connection, [_group(row) for row in await connection.execute(lending)], listed)


async def list_open(connection: AsyncConnection, limit: int) -> list[Group]:
    """List groups through which everybody may pull, `hub` first."""
    is_open = schema.groups.c.proxy_enabled, schema.groups.c.anonymous_pull
    listed = select(schema.groups).where(*is_open).order_by(schema.groups.c.path != HUB, schema.groups.c.path)
    return [_group(row) for row in await connection.execute(listed.limit(limit))]


async def any_requires_login(connection: AsyncConnection) -> bool:
    """Whether a group with a dependency proxy requires a login for pulls."""
    closed = select(schema.groups.c.id).where(schema.groups.c.proxy_enabled, ~schema.groups.c.anonymous_pull)
    return (await connection.execute(closed.limit(1))).first() is not None


LOOKED_BELOW = 100
"""Groups whose projects are looked at for somebody who may pull: a few are enough to tell of, and a start waits."""


async def list_unreachable(connection: AsyncConnection, now: datetime) -> list[str]:
    """Paths of the groups through whose dependency proxies nobody but administrators can pull: they require a login,
    and neither such a group, nor one above it, nor a project below it has a member or a deploy token. Of many, some."""
    named = schema.groups.c.path
    closed = select(named).where(schema.groups.c.proxy_enabled, ~schema.groups.c.anonymous_pull).order_by(named)
    paths_of_closed = (await connection.scalars(closed)).all()
    if not paths_of_closed:
        return []
    joined = set((await connection.scalars(select(named).where(_has_party(schema.groups, "group_id", now)))).all())
    alone = [path for path in paths_of_closed if joined.isdisjoint(prefixes_of(path))]
    return [path for path in alone[:LOOKED_BELOW] if not await _has_party_below(connection, path, now)]


def _has_party(table: Table, column: str, now: datetime) -> ColumnElement[bool]:
    """Whether a node of a table has an active member or deploy token."""
    found = []
    for party in (schema.members, schema.deploy_tokens):
        active = or_(party.c.expires_at.is_(None), party.c.expires_at > now)
        valid = party.c.revoked_at.is_(None) if "revoked_at" in party.c else true()
        found.append(exists().where(party.c[column] == table.c.id, active, valid))
    return or_(*found)


async def _has_party_below(connection: AsyncConnection, path: str, now: datetime) -> bool:
    below = paths.is_below(schema.projects.c.path, path)
    query = select(schema.projects.c.id).where(below, _has_party(schema.projects, "project_id", now))
    return (await connection.execute(query.limit(1))).first() is not None


async def find(connection: AsyncConnection, path: str) -> Group | None:
    row = (await connection.execute(select(schema.groups).where(schema.groups.c.path == path))).first()
    return _group(row) if row else None


async def find_all(connection: AsyncConnection, wanted: Collection[str]) -> list[Group]:
    """Find those of the paths that groups have."""
    found: list[Group] = []
    for batch in batches(wanted):
        rows = await connection.execute(select(schema.groups).where(schema.groups.c.path.in_(batch)))
        found += [_group(row) for row in rows]
    return found


async def find_by_id(connection: AsyncConnection, id: int) -> Group | None:
    row = (await connection.execute(select(schema.groups).where(schema.groups.c.id == id))).first()
    return _group(row) if row else None


async def lock(connection: AsyncConnection, id: int) -> None:
    """Let no other transaction that calls this for the group go on until this one ends; on SQLite none does anyway."""
    await connection.execute(select(schema.groups.c.id).where(schema.groups.c.id == id).with_for_update())


def read_rows(rows: Iterable[Row[Any]]) -> list[Group]:
    """The groups of rows with all columns."""
    return [_group(row) for row in rows]


async def get(connection: AsyncConnection, path: str) -> Group:
    """Get the group of a path. Raises GroupUnknown."""
    group = await find(connection, path)
    if group is None:
        raise unknown_group(path, await old_paths.find_present(connection, path))
    return group


async def update(connection: AsyncConnection, group: Group) -> None:
    """Store a changed group; its path stays. Raises GroupUnknown, and what `check_update` raises."""
    stored = await get(connection, group.path)
    parent, more_visible = None, []
    if group.visibility is not stored.visibility:
        parent = await find(connection, parent_path(group.path))
        more_visible = await _find_more_visible(connection, group)
    check_update(stored, group, parent, more_visible)
    values = _columns(group)
    if group.quota is not None:
        values["stored_bytes"] = await quotas.stored_bytes_below(connection, group.path)
    await connection.execute(update_of(schema.groups).where(schema.groups.c.id == stored.id).values(values))
    await announce(connection, Concern.GROUP, group.path)


async def delete(connection: AsyncConnection, path: str) -> Group:
    """Delete a group and return it. Raises GroupUnknown, NodeNotEmpty."""
    group = await get(connection, path)
    inside = await paths.find_inside(connection, path, NAMED_AT_MOST + 1)
    check_deletion(group, [place.path for place in inside])
    await cascades.announce_all(connection, group.key)
    await bots.delete_of(connection, group.key)
    await connection.execute(delete_from(schema.groups).where(schema.groups.c.id == group.id))
    await paths.release(connection, group.key)
    await announce(connection, Concern.GROUP, path)
    return group


async def _find_more_visible(connection: AsyncConnection, group: Group) -> list[str]:
    """Paths of some nodes below a group that have a larger audience than the group."""
    wider = [visibility for visibility in Visibility if visibility.openness > group.visibility.openness]
    if not wider:
        return []
    found = union_all(
        *(
            select(table.c.path).where(paths.is_below(table.c.path, group.path), table.c.visibility.in_(wider))
            for table in (schema.groups, schema.projects)
        )
    ).subquery()
    return list(await connection.scalars(select(found.c.path).order_by(found.c.path).limit(NAMED_AT_MOST + 1)))


def _columns(group: Group) -> dict[str, object]:
    """The columns that an update may change."""
    return {
        "visibility": group.visibility,
        "proxy_enabled": group.proxy_enabled,
        "anonymous_pull": group.anonymous_pull,
        "default_upstream": group.default_upstream,
        "upstream_username": group.upstream_username,
        "upstream_password_sealed": group.upstream_password_sealed,
        "fresh_only": group.fresh_only,
        "gate": _gate_text(group.gate),
        "quota": group.quota,
    }


def _gate_text(gate: Gate | None) -> str | None:
    return None if gate is None or gate == OPEN else json.dumps(gate_to_document(gate))


def _group(row: Row[Any]) -> Group:
    values = dict(row._mapping)
    del values["stored_bytes"]  # it changes with each push, unannounced
    gate = values["gate"] and gate_from_document(json.loads(values["gate"]))
    return Group(**values | {"visibility": Visibility(values["visibility"]), "gate": gate})
