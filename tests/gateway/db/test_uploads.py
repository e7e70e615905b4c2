"""Unfinished uploads as they are stored: one suite for every database."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete

from gateway.db import schema, uploads
from gateway.db.engine import Database
from gateway.db.uploads import StoredUpload
from tests.gateway.db.repository_rows import add_repositories

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


@pytest.fixture
async def repositories(database: Database) -> list[int]:
    """Ids of the repositories alice/p and alice/p/x."""
    return await add_repositories(database, NOW, "alice/p", "alice/p/x")


async def begin(database: Database, id: str, repository: int, owner: str = "user 1", now: datetime = NOW) -> None:
    async with database.write() as connection:
        await uploads.insert(connection, id, repository, owner, now)


async def test_an_upload_is_found_by_its_owner_in_its_repository_alone(
    database: Database, repositories: list[int]
) -> None:
    here, elsewhere = repositories
    await begin(database, "one", here)
    async with database.read() as connection:
        assert await uploads.find(connection, "one", here, "user 1") == StoredUpload(
            "one", here, "user 1", 0, None, NOW, NOW
        )
        assert await uploads.find(connection, "one", elsewhere, "user 1") is None
        assert await uploads.find(connection, "one", here, "user 2") is None
        assert await uploads.find(connection, "two", here, "user 1") is None
        assert await uploads.find(connection, "\0", here, "user 1") is None


async def test_an_upload_advances_with_the_hash_of_what_arrived(database: Database, repositories: list[int]) -> None:
    await begin(database, "one", repositories[0])
    async with database.write() as connection:
        assert await uploads.advance(connection, "one", 5_000_000_000, b"state", LATER)
        assert not await uploads.advance(connection, "two", 1, b"state", LATER)
    async with database.read() as connection:
        assert await uploads.find(connection, "one", repositories[0], "user 1") == StoredUpload(
            "one", repositories[0], "user 1", 5_000_000_000, b"state", NOW, LATER
        )


async def test_a_deleted_upload_is_gone(database: Database, repositories: list[int]) -> None:
    await begin(database, "one", repositories[0])
    async with database.write() as connection:
        assert await uploads.delete(connection, "one")
        assert not await uploads.delete(connection, "one")
    async with database.read() as connection:
        assert await uploads.existing(connection, ["one"]) == set()


async def test_uploads_are_counted_by_owner_over_every_repository(database: Database, repositories: list[int]) -> None:
    await begin(database, "one", repositories[0])
    await begin(database, "two", repositories[1])
    await begin(database, "three", repositories[1], "user 2")
    async with database.read() as connection:
        assert await uploads.count_of(connection, "user 1") == 2
        assert await uploads.count_of(connection, "user 3") == 0
        assert await uploads.existing(connection, ["one", "three", "four"]) == {"one", "three"}


async def test_abandoned_uploads_are_those_without_an_append_since(database: Database, repositories: list[int]) -> None:
    for age, id in enumerate(["newest", "newer", "old", "oldest"]):
        await begin(database, id, repositories[0], now=NOW - timedelta(days=age))
    async with database.write() as connection:
        await uploads.advance(connection, "old", 1, None, NOW)
    async with database.read() as connection:
        assert await uploads.list_abandoned(connection, NOW, 9) == ["oldest", "newer"]
        assert await uploads.list_abandoned(connection, NOW, 1) == ["oldest"]


async def test_a_deleted_repository_takes_its_uploads_along(database: Database, repositories: list[int]) -> None:
    await begin(database, "one", repositories[0])
    async with database.write() as connection:
        table = schema.repositories
        await connection.execute(delete(table).where(table.c.id == repositories[0]))
    async with database.read() as connection:
        assert await uploads.existing(connection, ["one"]) == set()
