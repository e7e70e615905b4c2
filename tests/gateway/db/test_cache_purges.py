"""Purges of groups and policies that purge, as they are stored; on every database."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete

from gateway.db import cache_purges, image_ttl_policies, schema
from gateway.db.cache_purges import EVERY, CachePurge
from gateway.db.engine import Database
from gateway.namespaces.image_ttl import ImageTtlPolicy
from tests.gateway.db.identity_rows import NOW, add_group


@pytest.fixture
async def group_id(database: Database) -> int:
    async with database.write() as connection:
        return (await add_group(connection)).id


def wanted(group_id: int, **fields: object) -> CachePurge:
    return replace(CachePurge(group_id, NOW, "user 'ann'", "ann", "127.0.0.1", "one"), **fields)  # type: ignore[arg-type]


async def request(database: Database, purge: CachePurge) -> bool:
    async with database.write() as connection:
        return await cache_purges.request(connection, purge)


async def find(database: Database, group_id: int) -> CachePurge | None:
    async with database.read() as connection:
        return await cache_purges.find(connection, group_id)


async def note(database: Database, purge: CachePurge) -> None:
    async with database.write() as connection:
        await cache_purges.note_progress(connection, purge)


async def test_a_purge_is_taken_once_an_hour_and_not_before_the_last_one_is_done(
    database: Database, group_id: int
) -> None:
    assert await find(database, group_id) is None
    assert await request(database, wanted(group_id))
    assert not await request(database, wanted(group_id, requested_at=NOW + EVERY))
    await note(database, wanted(group_id, completed_at=NOW))
    assert not await request(database, wanted(group_id, requested_at=NOW + EVERY - timedelta(seconds=1)))
    again = wanted(group_id, requested_at=NOW + EVERY, who="user 'bob'", user="bob")
    assert await request(database, again)
    assert await find(database, group_id) == again


async def test_progress_is_stored_until_the_end(database: Database, group_id: int) -> None:
    await request(database, wanted(group_id))
    progress = wanted(group_id, images=7, purged=3, shared=1, freed_bytes=2**40)
    await note(database, progress)
    async with database.read() as connection:
        assert await cache_purges.list_open(connection) == [progress]
    done = replace(progress, purged=7, completed_at=NOW + timedelta(seconds=1))
    await note(database, done)
    async with database.read() as connection:
        assert await cache_purges.list_open(connection) == []
    assert await find(database, group_id) == done


async def test_progress_of_an_earlier_purge_is_not_that_of_a_later_one(database: Database, group_id: int) -> None:
    await request(database, wanted(group_id))
    await note(database, wanted(group_id, requested_at=NOW - timedelta(hours=2), completed_at=NOW))
    assert await find(database, group_id) == wanted(group_id)


async def test_a_policy_is_due_once_a_day_while_it_is_enabled(database: Database, group_id: int) -> None:
    policy = ImageTtlPolicy(group_id, True, 30, NOW, NOW)
    async with database.write() as connection:
        assert await image_ttl_policies.find(connection, group_id) is None
        await image_ttl_policies.put(connection, policy)
        assert await image_ttl_policies.list_due(connection, NOW) == [policy]
        await image_ttl_policies.note_applied(connection, group_id, NOW)
        assert await image_ttl_policies.list_due(connection, NOW) == []
        applied = replace(policy, completed_at=NOW)
        assert await image_ttl_policies.list_due(connection, NOW + timedelta(seconds=1)) == [applied]
        later = NOW + timedelta(days=1)
        await image_ttl_policies.put(connection, ImageTtlPolicy(group_id, False, 60, later, later))
        found = await image_ttl_policies.find(connection, group_id)
        assert found == replace(applied, enabled=False, ttl=60, updated_at=later)
        assert await image_ttl_policies.list_due(connection, later) == []


async def test_both_go_with_their_group(database: Database, group_id: int) -> None:
    await request(database, wanted(group_id))
    async with database.write() as connection:
        await image_ttl_policies.put(connection, ImageTtlPolicy(group_id, True, 30, NOW, NOW))
        await connection.execute(delete(schema.groups).where(schema.groups.c.id == group_id))
        assert await cache_purges.find(connection, group_id) is None
        assert await image_ttl_policies.find(connection, group_id) is None
