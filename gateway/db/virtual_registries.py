"""Queries of virtual registries and their upstreams. A change is announced as one of their group, with which a worker
forgets all of them: they are few, and change rarely."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import groups
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken
from gateway.db.schema import virtual_registries as _registries
from gateway.db.schema import virtual_registry_upstreams as _shares
from gateway.db.schema import virtual_upstreams as _upstreams
from gateway.db.windows import ListPart, ListWindow, holds, read_rows
from gateway.namespaces.errors import VirtualRegistryRefused
from gateway.namespaces.virtual_registry import (
    KEPT_UPSTREAMS,
    REGISTRIES,
    UPSTREAMS,
    RegistryUpstream,
    VirtualPlace,
    VirtualRegistry,
    VirtualUpstream,
)

Values = Mapping[str, object]


# Registries


async def create_registry(
    connection: AsyncConnection, group_id: int, name: str, description: str, now: datetime
) -> VirtualRegistry:
    """Make a virtual registry. Raises VirtualRegistryRefused."""
    await groups.lock(connection, group_id)
    if await _count(connection, select(_registries.c.id).where(_registries.c.group_id == group_id)) >= REGISTRIES:
        raise VirtualRegistryRefused("base", f"a group has at most {REGISTRIES} virtual registries")
    values = {"group_id": group_id, "name": name, "description": description, "created_at": now, "updated_at": now}
    made = insert_unless_taken(connection.dialect.name, _registries).values(values).returning(_registries)
    row = (await connection.execute(made)).first()
    if row is None:
        raise _taken()
    await _announce(connection, group_id)
    return _registry(row)


async def list_registries(connection: AsyncConnection, group_id: int) -> list[VirtualRegistry]:
    """List the virtual registries of a group, at most REGISTRIES, in the order in which they were made."""
    listed = select(_registries).where(_registries.c.group_id == group_id).order_by(_registries.c.id)
    return [_registry(row) for row in await connection.execute(listed)]


async def find_registry(connection: AsyncConnection, id: int) -> VirtualRegistry | None:
    row = (await connection.execute(select(_registries).where(_registries.c.id == id))).first()
    return _registry(row) if row else None


async def update_registry(connection: AsyncConnection, id: int, values: Values, now: datetime) -> VirtualRegistry:
    """Change the name or the description of a registry that is there. Raises VirtualRegistryRefused."""
    found = await find_registry(connection, id)
    assert found is not None, "its caller has found it in this transaction"
    name = values.get("name", found.name)
    others = _registries.c.group_id == found.group_id, _registries.c.name == name, _registries.c.id != id
    if await connection.scalar(select(_registries.c.id).where(*others)) is not None:
        raise _taken()
    changed = update_of(_registries).where(_registries.c.id == id).values({**values, "updated_at": now})
    row = (await connection.execute(changed.returning(_registries))).one()
    await _announce(connection, found.group_id)
    return _registry(row)


async def delete_registry(connection: AsyncConnection, registry: VirtualRegistry) -> None:
    """Delete a registry; its upstreams stay."""
    await connection.execute(delete_from(_registries).where(_registries.c.id == registry.id))
    await _announce(connection, registry.group_id)


async def find_place(connection: AsyncConnection, id: int) -> VirtualPlace | None:
    """Find a registry with its upstreams in their order."""
    registry = await find_registry(connection, id)
    return None if registry is None else VirtualPlace(registry, tuple(await upstreams_of(connection, id)))


# Upstreams


async def upstreams_of(connection: AsyncConnection, registry_id: int) -> list[VirtualUpstream]:
    """List the upstreams of a registry in their order."""
    listed = select(_upstreams).join(_shares, _shares.c.upstream_id == _upstreams.c.id)
    listed = listed.where(_shares.c.registry_id == registry_id).order_by(_shares.c.position, _shares.c.id)
    return [_upstream(row) for row in await connection.execute(listed)]


async def list_upstreams(
    connection: AsyncConnection, group_id: int, window: ListWindow, *, counted: bool
) -> ListPart[VirtualUpstream]:
    """A part of the upstreams of a group, in the order in which they were made."""
    listed = select(_upstreams).where(_upstreams.c.group_id == group_id)
    if window.search:
        listed = listed.where(holds(_upstreams.c.name, window.search))
    ordered = listed.order_by(_upstreams.c.id.desc() if window.descending else _upstreams.c.id)
    return await read_rows(connection, ordered, window, _upstream, counted=counted)


async def find_upstream(connection: AsyncConnection, id: int) -> VirtualUpstream | None:
    row = (await connection.execute(select(_upstreams).where(_upstreams.c.id == id))).first()
    return _upstream(row) if row else None


async def create_upstream(
    connection: AsyncConnection, registry: VirtualRegistry, values: Values, now: datetime
) -> tuple[VirtualUpstream, RegistryUpstream]:
    """Make an upstream, the last one of a registry. Raises VirtualRegistryRefused."""
    await groups.lock(connection, registry.group_id)
    of_group = select(_upstreams.c.id).where(_upstreams.c.group_id == registry.group_id)
    if await _count(connection, of_group) >= KEPT_UPSTREAMS:
        raise VirtualRegistryRefused("base", f"a group has at most {KEPT_UPSTREAMS} upstreams: delete one")
    own = {"group_id": registry.group_id, "cache_key": new_cache_key(), "created_at": now, "updated_at": now}
    made = insert_into(_upstreams).values({**values, **own}).returning(_upstreams)
    upstream = _upstream((await connection.execute(made)).one())
    return upstream, await share(connection, registry, upstream)


async def update_upstream(
    connection: AsyncConnection, upstream: VirtualUpstream, values: Values, now: datetime
) -> VirtualUpstream:
    """Change an upstream that is there."""
    changed = update_of(_upstreams).where(_upstreams.c.id == upstream.id).values({**values, "updated_at": now})
    row = (await connection.execute(changed.returning(_upstreams))).one()
    await _announce(connection, upstream.group_id)
    return _upstream(row)


async def delete_upstream(connection: AsyncConnection, upstream: VirtualUpstream) -> None:
    """Delete an upstream, and with it its places in registries."""
    registries = await connection.scalars(select(_shares.c.registry_id).where(_shares.c.upstream_id == upstream.id))
    touched = list(registries)
    await connection.execute(delete_from(_upstreams).where(_upstreams.c.id == upstream.id))
    for registry_id in touched:
        await _renumber(connection, [share.id for share in await shares_of(connection, registry_id)])
    await _announce(connection, upstream.group_id)


async def renew_cache_key(connection: AsyncConnection, upstream: VirtualUpstream) -> None:
    """Let an upstream have an empty cache."""
    renewed = update_of(_upstreams).where(_upstreams.c.id == upstream.id)
    await connection.execute(renewed.values(cache_key=new_cache_key()))
    await _announce(connection, upstream.group_id)


def new_cache_key() -> str:
    """A key under which nothing is cached."""
    return secrets.token_hex(16)


# Upstreams in registries


async def shares_of(connection: AsyncConnection, registry_id: int) -> list[RegistryUpstream]:
    """List the places of upstreams in a registry, in their order."""
    listed = select(_shares).where(_shares.c.registry_id == registry_id)
    rows = await connection.execute(listed.order_by(_shares.c.position, _shares.c.id))
    return [_share(row) for row in rows]


async def find_share(connection: AsyncConnection, id: int) -> RegistryUpstream | None:
    row = (await connection.execute(select(_shares).where(_shares.c.id == id))).first()
    return _share(row) if row else None


async def share(connection: AsyncConnection, registry: VirtualRegistry, upstream: VirtualUpstream) -> RegistryUpstream:
    """Put an upstream behind those that a registry has. Raises VirtualRegistryRefused."""
    await groups.lock(connection, registry.group_id)
    present = await shares_of(connection, registry.id)
    if any(one.upstream_id == upstream.id for one in present):
        raise VirtualRegistryRefused("upstream", "is in this registry already")
    if len(present) >= UPSTREAMS:
        raise VirtualRegistryRefused("base", f"a virtual registry has at most {UPSTREAMS} upstreams")
    values = {"registry_id": registry.id, "upstream_id": upstream.id, "position": len(present) + 1}
    row = (await connection.execute(insert_into(_shares).values(values).returning(_shares))).one()
    await _announce(connection, registry.group_id)
    return _share(row)


async def move_share(connection: AsyncConnection, group_id: int, moved: RegistryUpstream, position: int) -> None:
    """Put an upstream at a position of its registry, or at the end; the others make room."""
    ids = [one.id for one in await shares_of(connection, moved.registry_id) if one.id != moved.id]
    ids.insert(position - 1, moved.id)
    await _renumber(connection, ids)
    await _announce(connection, group_id)


async def unshare(connection: AsyncConnection, group_id: int, gone: RegistryUpstream) -> None:
    """Take an upstream out of a registry; it stays."""
    await connection.execute(delete_from(_shares).where(_shares.c.id == gone.id))
    await _renumber(connection, [one.id for one in await shares_of(connection, gone.registry_id)])
    await _announce(connection, group_id)


async def _renumber(connection: AsyncConnection, ids: list[int]) -> None:
    for place, id in enumerate(ids, 1):
        await connection.execute(update_of(_shares).where(_shares.c.id == id).values(position=place))


async def _count(connection: AsyncConnection, query: "Select[Any]") -> int:
    return int(await connection.scalar(select(func.count()).select_from(query.subquery())) or 0)


async def _announce(connection: AsyncConnection, group_id: int) -> None:
    group = await groups.find_by_id(connection, group_id)
    if group is not None:
        await announce(connection, Concern.GROUP, group.path)


def _taken() -> VirtualRegistryRefused:
    return VirtualRegistryRefused("name", "has already been taken")


def _registry(row: Row[Any]) -> VirtualRegistry:
    return VirtualRegistry(row.id, row.group_id, row.name, row.description, row.created_at, row.updated_at)


def _upstream(row: Row[Any]) -> VirtualUpstream:
    login = row.username, row.password_sealed
    times = row.created_at, row.updated_at
    described = row.id, row.group_id, row.url, row.name, row.description, row.cache_validity_hours
    return VirtualUpstream(*described, *login, row.cache_key, *times)


def _share(row: Row[Any]) -> RegistryUpstream:
    return RegistryUpstream(row.id, row.registry_id, row.upstream_id, row.position)
