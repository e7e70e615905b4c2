"""Native blobs and their links as they are stored: one suite for every database."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import delete

from cache.oci.digest import Digest
from gateway.db import blobs, schema
from gateway.db.batches import BATCH
from gateway.db.changes import Concern, content_key
from gateway.db.engine import Database
from tests.gateway.db.announced import Announced
from tests.gateway.db.repository_rows import add_repositories

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LAYER, CONFIG, LONG = Digest.of(b"layer"), Digest.of(b"config"), Digest.of(b"layer", "sha512")


@pytest.fixture
async def repositories(database: Database) -> list[int]:
    """Ids of the repositories alice/p and alice/p/x."""
    return await add_repositories(database, NOW, "alice/p", "alice/p/x")


async def link(database: Database, repository: int, digest: Digest, size: int) -> None:
    async with database.write() as connection:
        await blobs.link(connection, repository, digest, size, NOW)


@pytest.mark.parametrize("digest", [LAYER, LONG], ids=["sha256", "sha512"])
async def test_a_linked_blob_has_its_size_in_its_repository_alone(
    database: Database, repositories: list[int], digest: Digest
) -> None:
    here, elsewhere = repositories
    await link(database, here, digest, 5)
    async with database.read() as connection:
        assert await blobs.size(connection, here, digest) == 5
        assert await blobs.size(connection, elsewhere, digest) is None
        assert await blobs.stored_size(connection, digest) == 5
        assert await blobs.stored_size(connection, CONFIG) is None


async def test_a_second_link_of_a_blob_changes_nothing(database: Database, repositories: list[int]) -> None:
    announced = Announced(database)
    await link(database, repositories[0], LAYER, 5)
    assert announced.take() == {(Concern.CONTENT, content_key(repositories[0], LAYER))}
    await link(database, repositories[0], LAYER, 5)
    assert announced.take() == set()


async def test_the_size_of_the_latest_verified_file_is_recorded(database: Database, repositories: list[int]) -> None:
    await link(database, repositories[0], LAYER, 4)
    announced = Announced(database)
    await link(database, repositories[0], LAYER, 5)
    assert announced.take() == {(Concern.CONTENT, content_key(repositories[0], LAYER))}
    async with database.read() as connection:
        assert await blobs.size(connection, repositories[0], LAYER) == 5


async def test_an_unlinked_blob_stays_in_other_repositories(database: Database, repositories: list[int]) -> None:
    here, elsewhere = repositories
    for repository in repositories:
        await link(database, repository, LAYER, 5)
    announced = Announced(database)
    async with database.write() as connection:
        assert await blobs.unlink(connection, here, LAYER, NOW)
        assert not await blobs.unlink(connection, here, LAYER, NOW)
    assert announced.take() == {(Concern.CONTENT, content_key(here, LAYER))}
    async with database.read() as connection:
        assert await blobs.size(connection, here, LAYER) is None
        assert await blobs.size(connection, elsewhere, LAYER) == 5


async def test_every_missing_blob_of_many_is_found(database: Database, repositories: list[int]) -> None:
    many = [Digest.of(b"%d" % number) for number in range(2 * BATCH + 1)]
    await link(database, repositories[0], many[0], 1)
    await link(database, repositories[0], many[-1], 1)
    await link(database, repositories[1], many[1], 1)
    async with database.read() as connection:
        assert await blobs.missing(connection, repositories[0], many) == set(many[1:-1])
        assert await blobs.missing(connection, repositories[0], []) == set()


async def test_the_repositories_with_a_blob_are_listed_in_order(database: Database, repositories: list[int]) -> None:
    for repository in reversed(repositories):
        await link(database, repository, LAYER, 5)
    async with database.read() as connection:
        assert await blobs.repositories_with(connection, LAYER, 9) == ["alice/p", "alice/p/x"]
        assert await blobs.repositories_with(connection, LAYER, 1) == ["alice/p"]
        assert await blobs.repositories_with(connection, CONFIG, 9) == []


async def test_a_deleted_repository_takes_its_links_along(database: Database, repositories: list[int]) -> None:
    await link(database, repositories[0], LAYER, 5)
    async with database.write() as connection:
        table = schema.repositories
        await connection.execute(delete(table).where(table.c.id == repositories[0]))
    async with database.read() as connection:
        assert await blobs.repositories_with(connection, LAYER, 9) == []
        assert await blobs.stored_size(connection, LAYER) == 5
