"""The history of tags as it is stored: one suite for every database."""

from datetime import timedelta

import pytest

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.db import manifests, tag_events, tags
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.db.tag_events import FormerTag, TagChange
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest

HOUR = timedelta(hours=1)
V1, V2 = Tag("v1"), Tag("v2")
ONE, TWO = (new_manifest(text).descriptor.digest for text in ("one", "two"))


@pytest.fixture
async def repository(database: Database) -> StoredRepository:
    """A repository whose tag v1 was made, moved an hour later, not moved by a repeated push, and deleted after two."""
    async with database.write() as connection:
        repository = await add_repository(connection)
        first = await manifests.put(connection, repository.id, new_manifest("one"), NOW)
        second = await manifests.put(connection, repository.id, new_manifest("two"), NOW)
        await tags.point(connection, repository.id, V1, first, NOW, "ada")
        await tags.point(connection, repository.id, V2, first, NOW, "ada")
        await tags.point(connection, repository.id, V1, second, NOW + HOUR, "bob")
        await tags.point(connection, repository.id, V1, second, NOW + HOUR, "eve")
        await tags.delete(connection, repository.id, V1, NOW + 2 * HOUR, "ada")
    return repository


async def test_every_change_of_a_tag_is_an_event_and_nothing_else_is(
    database: Database, repository: StoredRepository
) -> None:
    async with database.read() as connection:
        events = await tag_events.list_page(connection, repository.id, V1)
        pages = [await tag_events.list_page(connection, repository.id, V1, limit=2)]
        pages.append(await tag_events.list_page(connection, repository.id, V1, pages[0][-1].id, 2))
    assert [(event.change, event.at, event.actor, event.before, event.after) for event in events] == [
        (TagChange.DELETE, NOW + 2 * HOUR, "ada", TWO, None),
        (TagChange.MOVE, NOW + HOUR, "bob", ONE, TWO),
        (TagChange.CREATE, NOW, "ada", None, ONE),
    ]
    assert [event.kept for event in events] == [{TWO}, {ONE, TWO}, {ONE}]
    assert [*pages[0], *pages[1]] == events


async def test_a_deleted_manifest_takes_its_tags_with_it_and_leaves_their_events(
    database: Database, repository: StoredRepository
) -> None:
    async with database.write() as connection:
        assert await manifests.delete(connection, repository.id, ONE, NOW + HOUR, "bob")
    async with database.read() as connection:
        [gone, made] = await tag_events.list_page(connection, repository.id, V2)
        assert (gone.change, gone.actor, gone.before, gone.after) == (TagChange.DELETE, "bob", ONE, None)
        assert made.after == ONE and made.kept == gone.kept == frozenset()


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        (-HOUR, []),
        (timedelta(0), [FormerTag(V1, ONE, NOW, True), FormerTag(V2, ONE, NOW, True)]),
        (HOUR, [FormerTag(V1, TWO, NOW + HOUR, True), FormerTag(V2, ONE, NOW, True)]),
        (2 * HOUR, [FormerTag(V2, ONE, NOW, True)]),
    ],
)
async def test_tags_are_read_as_they_were_at_a_moment(
    database: Database, repository: StoredRepository, passed: timedelta, expected: list[FormerTag]
) -> None:
    moment = NOW + passed
    async with database.read() as connection:
        assert await tag_events.list_at(connection, repository.id, moment) == expected
        paged: list[FormerTag] = []
        while page := await tag_events.list_at(
            connection, repository.id, moment, paged[-1].tag.text if paged else "", 1
        ):
            paged += page
        assert paged == expected
        found = await tag_events.find_at(connection, repository.id, V1, moment)
    assert found == next((tag for tag in expected if tag.tag == V1), None)


async def test_what_was_collected_is_not_kept(database: Database, repository: StoredRepository) -> None:
    async with database.write() as connection:
        await manifests.delete(connection, repository.id, TWO, NOW + 3 * HOUR, "")
    async with database.read() as connection:
        [v1, _] = await tag_events.list_at(connection, repository.id, NOW + HOUR)
    assert v1 == FormerTag(V1, TWO, NOW + HOUR, False)


async def test_the_history_of_one_repository_is_not_that_of_another(
    database: Database, repository: StoredRepository
) -> None:
    async with database.write() as connection:
        other = await add_repository(connection, "other/app")
        number = await manifests.put(connection, other.id, new_manifest("one"), NOW)
        await tags.point(connection, other.id, V1, number, NOW, "ada")
        assert [event.after for event in await tag_events.list_page(connection, other.id, V1)] == [ONE]
        assert [found.digest for found in await tag_events.list_at(connection, other.id, NOW + HOUR)] == [ONE]
        assert await manifests.delete(connection, other.id, Digest.of(new_manifest("one").raw), NOW, "ada")
        assert len(await tag_events.list_page(connection, repository.id, V2)) == 1
