"""Virtual registries as they are stored, on each engine."""

from typing import Any

import pytest

from gateway.db import groups, virtual_registries
from gateway.db.engine import Database
from gateway.db.windows import ListWindow
from gateway.namespaces.errors import VirtualRegistryRefused
from gateway.namespaces.node import NodeKey
from gateway.namespaces.virtual_registry import (
    KEPT_UPSTREAMS,
    REGISTRIES,
    UPSTREAMS,
    RegistryUpstream,
    VirtualRegistry,
    VirtualUpstream,
)

from .identity_rows import NOW, add_group

VALUES: dict[str, Any] = {
    "url": "https://registry.example",
    "description": "",
    "cache_validity_hours": 24,
    "username": None,
    "password_sealed": None,
}


@pytest.fixture
async def group(database: Database) -> NodeKey:
    async with database.write() as connection:
        return await add_group(connection)


async def make(database: Database, group: NodeKey, name: str = "all") -> VirtualRegistry:
    async with database.write() as connection:
        return await virtual_registries.create_registry(connection, group.id, name, "", NOW)


async def add(database: Database, registry: VirtualRegistry, name: str) -> tuple[VirtualUpstream, RegistryUpstream]:
    async with database.write() as connection:
        return await virtual_registries.create_upstream(connection, registry, {**VALUES, "name": name}, NOW)


async def order(database: Database, registry: VirtualRegistry) -> list[tuple[str, int]]:
    async with database.read() as connection:
        upstreams = await virtual_registries.upstreams_of(connection, registry.id)
        shares = await virtual_registries.shares_of(connection, registry.id)
    return [(upstream.name, share.position) for upstream, share in zip(upstreams, shares, strict=True)]


async def test_upstreams_keep_their_order_whatever_moves(database: Database, group: NodeKey) -> None:
    registry = await make(database, group)
    shares = {name: (await add(database, registry, name))[1] for name in "abc"}
    assert await order(database, registry) == [("a", 1), ("b", 2), ("c", 3)]
    async with database.write() as connection:
        await virtual_registries.move_share(connection, group.id, shares["c"], 1)
    assert await order(database, registry) == [("c", 1), ("a", 2), ("b", 3)]
    async with database.write() as connection:
        await virtual_registries.move_share(connection, group.id, shares["c"], 20)
        await virtual_registries.unshare(connection, group.id, shares["a"])
    assert await order(database, registry) == [("b", 1), ("c", 2)]
    async with database.write() as connection:
        found = await virtual_registries.find_upstream(connection, shares["b"].upstream_id)
        assert found is not None
        await virtual_registries.delete_upstream(connection, found)
    assert await order(database, registry) == [("c", 1)]


async def test_there_are_as_many_as_there_may_be(database: Database, group: NodeKey) -> None:
    registries = [await make(database, group, f"r{number}") for number in range(REGISTRIES)]
    with pytest.raises(VirtualRegistryRefused, match="at most 5 virtual registries"):
        await make(database, group, "more")
    for number in range(UPSTREAMS):
        await add(database, registries[0], f"u{number}")
    with pytest.raises(VirtualRegistryRefused, match="at most 5 upstreams"):
        await add(database, registries[0], "more")
    async with database.write() as connection:
        listed = await virtual_registries.list_upstreams(connection, group.id, ListWindow(100), counted=True)
        assert (len(listed.rows), listed.total) == (UPSTREAMS, UPSTREAMS)
        for _ in range(KEPT_UPSTREAMS - UPSTREAMS):
            _, share = await virtual_registries.create_upstream(connection, registries[1], {**VALUES, "name": "x"}, NOW)
            await virtual_registries.unshare(connection, group.id, share)
        with pytest.raises(VirtualRegistryRefused, match="at most 50 upstreams"):
            await virtual_registries.create_upstream(connection, registries[1], {**VALUES, "name": "x"}, NOW)


async def test_a_name_is_that_of_one_registry_of_a_group(database: Database, group: NodeKey) -> None:
    await make(database, group)
    with pytest.raises(VirtualRegistryRefused, match="has already been taken"):
        await make(database, group)
    other = await make(database, group, "other")
    async with database.write() as connection:
        with pytest.raises(VirtualRegistryRefused, match="has already been taken"):
            await virtual_registries.update_registry(connection, other.id, {"name": "all"}, NOW)
        changed = await virtual_registries.update_registry(connection, other.id, {"description": "x"}, NOW)
        assert (changed.name, changed.description) == ("other", "x")


async def test_an_upstream_is_once_in_a_registry_and_in_several(database: Database, group: NodeKey) -> None:
    first, second = await make(database, group, "first"), await make(database, group, "second")
    upstream, _ = await add(database, first, "a")
    async with database.write() as connection:
        with pytest.raises(VirtualRegistryRefused, match="in this registry already"):
            await virtual_registries.share(connection, first, upstream)
        await virtual_registries.share(connection, second, upstream)
        place = await virtual_registries.find_place(connection, second.id)
    assert place is not None and place.upstreams == (upstream,)


async def test_keys_of_caches_are_of_one_upstream_and_are_renewed(database: Database, group: NodeKey) -> None:
    registry = await make(database, group)
    first, second = (await add(database, registry, "a"))[0], (await add(database, registry, "b"))[0]
    assert len(first.cache_key) == 32 and first.cache_key != second.cache_key
    async with database.write() as connection:
        await virtual_registries.renew_cache_key(connection, first)
        renewed = await virtual_registries.find_upstream(connection, first.id)
    assert renewed is not None and renewed.cache_key not in (first.cache_key, second.cache_key)


async def test_they_end_with_their_group(database: Database, group: NodeKey) -> None:
    registry = await make(database, group)
    upstream, share = await add(database, registry, "a")
    async with database.write() as connection:
        await groups.delete(connection, "team")
        assert await virtual_registries.find_place(connection, registry.id) is None
        assert await virtual_registries.find_upstream(connection, upstream.id) is None
        assert await virtual_registries.find_share(connection, share.id) is None
