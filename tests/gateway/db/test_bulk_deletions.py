"""Bulk deletions as they are stored: one an hour of a repository, and one owner at a time; on every database."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from gateway.db import bulk_deletions, repositories
from gateway.db.bulk_deletions import EVERY, LEASE, BulkDeletion, BulkLeaseLost, BulkRun
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository


@pytest.fixture
async def repository(database: Database) -> StoredRepository:
    async with database.write() as connection:
        return await add_repository(connection)


def wanted(repository: StoredRepository, at: datetime = NOW) -> BulkDeletion:
    return BulkDeletion(repository.id, at, ".*", "v.+", 3, "7d", "ann", "user 'ann'", "ann", "127.0.0.1", "one")


async def request(database: Database, deletion: BulkDeletion) -> bool:
    async with database.write() as connection:
        return await bulk_deletions.request(connection, deletion)


async def claim(database: Database, owner: str, now: datetime = NOW) -> BulkRun | None:
    async with database.write() as connection:
        is_due = await bulk_deletions.is_any_due(connection, now)
        run = await bulk_deletions.claim(connection, owner, now)
        assert is_due is (run is not None)
        return run


async def test_a_request_is_taken_once_an_hour(database: Database, repository: StoredRepository) -> None:
    assert await request(database, wanted(repository))
    assert not await request(database, wanted(repository, NOW + EVERY - timedelta(seconds=1)))
    assert await request(database, wanted(repository, NOW + EVERY))
    assert await request(database, wanted(repository, NOW))  # by a clock that was put back


async def test_a_request_is_claimed_as_it_was_made(database: Database, repository: StoredRepository) -> None:
    assert await claim(database, "a") is None
    await request(database, wanted(repository))
    run = await claim(database, "a")
    assert run == BulkRun(wanted(repository), repository.path, repository.project_id, "a")
    assert await claim(database, "b") is None


async def test_another_owner_goes_on_once_the_lease_has_ended(database: Database, repository: StoredRepository) -> None:
    await request(database, wanted(repository))
    first = await claim(database, "a")
    assert first is not None
    later = NOW + LEASE / 2
    async with database.write() as connection:
        await bulk_deletions.renew(connection, first, later, 5)
    assert await claim(database, "b", NOW + LEASE) is None
    second = await claim(database, "b", later + LEASE)
    assert second == replace(first, owner="b")
    async with database.write() as connection:
        with pytest.raises(BulkLeaseLost):
            await bulk_deletions.renew(connection, first, later, 1)
        await bulk_deletions.renew(connection, second, later, 2)
        assert await bulk_deletions.complete(connection, second, later) == 7
    assert await claim(database, "a", NOW + timedelta(days=1)) is None


async def test_one_that_was_released_is_due_at_once(database: Database, repository: StoredRepository) -> None:
    await request(database, wanted(repository))
    run = await claim(database, "a")
    assert run is not None
    async with database.write() as connection:
        await bulk_deletions.release(connection, run)
    assert await claim(database, "b") is not None


async def test_a_request_within_a_run_that_takes_long_is_refused(
    database: Database, repository: StoredRepository
) -> None:
    await request(database, wanted(repository))
    run = await claim(database, "a", NOW)
    assert run is not None
    late = NOW + 2 * EVERY
    async with database.write() as connection:
        await bulk_deletions.renew(connection, run, late, 1)
    assert not await request(database, wanted(repository, late + LEASE / 2))
    assert await request(database, wanted(repository, late + LEASE))
    async with database.write() as connection:
        with pytest.raises(BulkLeaseLost):
            await bulk_deletions.complete(connection, run, late)


async def test_it_goes_with_its_repository(database: Database, repository: StoredRepository) -> None:
    await request(database, wanted(repository))
    async with database.write() as connection:
        await repositories.purge(connection, repository.id, NOW)
    assert await claim(database, "a") is None
