"""Tags as they are stored: one suite for every database."""

from datetime import timedelta

import pytest

from cache.oci.names import Tag
from gateway.db import manifests, tags
from gateway.db.changes import Concern, content_key
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.db.tags import StoredTag
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest

LATER = NOW + timedelta(hours=1)


@pytest.fixture
async def repository(database: Database) -> StoredRepository:
    async with database.write() as connection:
        return await add_repository(connection)


async def test_a_tag_is_made_moved_and_deleted_and_each_change_is_announced(
    database: Database, repository: StoredRepository
) -> None:
    announced, tag = Announced(database), Tag("v1")
    key = {(Concern.CONTENT, content_key(repository.id, tag))}
    one, two = new_manifest("one"), new_manifest("two")
    async with database.write() as connection:
        first = await manifests.put(connection, repository.id, one, NOW)
        second = await manifests.put(connection, repository.id, two, NOW)
    announced.take()
    async with database.write() as connection:
        assert await tags.point(connection, repository.id, tag, first, NOW, "ada") is None
    assert announced.take() == key
    async with database.write() as connection:
        assert await tags.point(connection, repository.id, tag, first, LATER, "ada") == one.descriptor.digest
    assert announced.take() == set()
    async with database.write() as connection:
        assert await tags.point(connection, repository.id, tag, second, LATER, "ada") == one.descriptor.digest
    assert announced.take() == key
    async with database.read() as connection:
        moved = StoredTag(tag, two.descriptor.digest, NOW, LATER)
        assert await tags.list_details(connection, repository.id) == [moved]
    async with database.write() as connection:
        assert await tags.delete(connection, repository.id, tag, NOW, "ada")
        assert not await tags.delete(connection, repository.id, tag, NOW, "ada")
    assert announced.take() == key
    async with database.read() as connection:
        assert await manifests.missing(connection, repository.id, [two.descriptor.digest]) == set()


async def test_tags_are_listed_in_byte_order_and_in_pages(database: Database, repository: StoredRepository) -> None:
    ordered = ["1.0", "1.10", "1.9", "A", "Z", "_", "a", "a-b", "a.b", "a_b", "ab"]
    async with database.write() as connection:
        number = await manifests.put(connection, repository.id, new_manifest(), NOW)
        for name in reversed(ordered):
            await tags.point(connection, repository.id, Tag(name), number, NOW, "ada")
        other = await add_repository(connection, "other/app")
        await tags.point(connection, other.id, Tag("b"), number, NOW, "ada")
    async with database.read() as connection:
        assert await tags.list_page(connection, repository.id) == ordered
        for size in (1, 3, 20):
            seen: list[str] = []
            while page := await tags.list_page(connection, repository.id, seen[-1] if seen else "", size):
                assert len(page) <= size
                seen += page
            assert seen == ordered
        assert await tags.list_page(connection, repository.id, "a-c", 2) == ["a.b", "a_b"]
        assert await tags.list_page(connection, repository.id, "a\0") == []
        details = await tags.list_details(connection, repository.id, "a.b", 1)
        assert [found.tag for found in details] == [Tag("a_b")]
