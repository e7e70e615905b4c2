"""Pins of groups and projects to moments: one suite for every database."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import event

from cache.oci.errors import Denied
from cache.oci.names import RepositoryName, Tag
from gateway.db import collection, groups, manifests, moves, paths, pins, projects, repositories, reviews, tags
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.errors import PinRefused
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW
from tests.gateway.db.native_rows import add_repository, new_manifest

HOUR = timedelta(hours=1)
LATER = NOW + 9 * HOUR
V1 = Tag("v1")
NAME = RepositoryName("team/app")
ONE, TWO = (new_manifest(text).descriptor.digest for text in ("one", "two"))


@pytest.fixture
async def moved(database: Database) -> int:
    """The id of a repository whose tag v1 points to the second manifest since an hour."""
    async with database.write() as connection:
        repository = await add_repository(connection)
        for number, text in enumerate(("one", "two")):
            manifest = await manifests.put(connection, repository.id, new_manifest(text), NOW)
            await tags.point(connection, repository.id, V1, manifest, NOW + number * HOUR, "ada")
    return repository.id


async def pin(database: Database, path: str, moment: datetime | None) -> None:
    async with database.write() as connection:
        entry = await paths.get(connection, path)
        await pins.pin(connection, entry.key, path, moment, LATER)


async def pinned_at(connection: Connection) -> datetime | None:
    found = await repositories.find(connection, NAME)
    assert found is not None
    return found.pinned_at


@pytest.mark.parametrize("place", ["team", "team/app"])
async def test_a_pin_shows_the_tags_of_a_moment_until_it_is_lifted(database: Database, moved: int, place: str) -> None:
    announced = Announced(database)
    await pin(database, place, NOW)
    assert {(Concern.REPOSITORY, "team/app"), (Concern.PROJECT, "team/app")} <= announced.take()
    async with database.read() as connection:
        assert await pinned_at(connection) == NOW
        assert await tags.list_pinned(connection, moved, "", 10) == ["v1"]
        stat = await manifests.stat(connection, moved, V1, pinned=True)
        assert stat is not None and stat.digest == ONE
        present = await manifests.stat(connection, moved, V1)
        assert present is not None and present.digest == TWO
        with pytest.raises(Denied, match=f"{place} is pinned: what is pulled there is that of 2") as refused:
            await pins.require_unpinned(connection, moved)
        assert "until an administrator lifts the pin" in str(refused.value.detail)
    await pin(database, place, NOW - HOUR)
    async with database.read() as connection:
        assert await tags.list_pinned(connection, moved, "", 10) == []
    await pin(database, place, None)
    async with database.read() as connection:
        assert await pinned_at(connection) is None
        await pins.require_unpinned(connection, moved)


async def test_the_nearest_pin_counts(database: Database, moved: int) -> None:
    await pin(database, "team", NOW)
    await pin(database, "team/app", NOW + HOUR)
    async with database.read() as connection:
        assert await pinned_at(connection) == NOW + HOUR
        stat = await manifests.stat(connection, moved, V1, pinned=True)
        assert stat is not None and stat.digest == TWO
    await pin(database, "team/app", None)
    async with database.read() as connection:
        assert await pinned_at(connection) == NOW
        group = await groups.find(connection, "team")
        assert group is not None and group.as_of == NOW


async def test_what_comes_into_a_pinned_group_is_pinned(database: Database, moved: int) -> None:
    await pin(database, "team", NOW)
    async with database.write() as connection:
        await projects.create(connection, "team/new", LATER)
        new = await projects.get(connection, "team/new")
        with pytest.raises(Denied, match="group team is pinned"):
            await pins.refuse(connection, new.path, NOW)
        assert new.pinned_at == NOW


async def test_what_a_pin_shows_counts_as_tagged_and_is_reviewed_when_it_is_lifted(
    database: Database, moved: int
) -> None:
    await pin(database, "team", NOW)
    async with database.write() as connection:
        due = await collection.list_manifests(connection, LATER, 10)
        assert {await collection.collect_manifest(connection, review, LATER) for review in due} == {None}
        assert not await reviews.is_manifest_reviewed(connection, moved, ONE)
    await pin(database, "team", None)
    async with database.write() as connection:
        assert await reviews.is_manifest_reviewed(connection, moved, ONE)
        for review in await collection.list_manifests(connection, LATER, 10):
            await collection.collect_manifest(connection, review, LATER)
        assert await manifests.missing(connection, moved, [ONE, TWO]) == {ONE}


async def test_a_moment_of_which_something_is_collected_is_refused_with_what_that_is(
    database: Database, moved: int
) -> None:
    async with database.write() as connection:
        await manifests.delete(connection, moved, ONE, LATER, "")
    with pytest.raises(PinRefused, match="since the images of some tags are collected: v1"):
        await pin(database, "team", NOW)
    async with database.read() as connection:
        assert await pinned_at(connection) is None
        group = await groups.find(connection, "team")
        assert group is not None and group.as_of is None


async def test_what_moves_into_or_out_of_a_pinned_group_shows_what_the_nearest_pin_says(
    database: Database, moved: int
) -> None:
    async with database.write() as connection:
        await groups.create(connection, "released", NOW)
    await pin(database, "released", NOW)
    async with database.write() as connection:
        await moves.move_project(connection, "team/app", "released/app", LATER, HOUR)
        found = await repositories.find(connection, RepositoryName("released/app"))
        assert found is not None and found.pinned_at == NOW
        assert await tags.list_pinned(connection, moved, "", 10) == ["v1"]
        with pytest.raises(Denied, match="group released is pinned"):
            await moves.move_repository(connection, "released/app", "released/app/inner", LATER, HOUR)
        await moves.move_project(connection, "released/app", "team/app", LATER, HOUR)
        assert await pinned_at(connection) is None
        other = await projects.create(connection, "released/other", LATER)
        assert other.path == "released/other"
        with pytest.raises(Denied, match="group released is pinned"):
            await moves.move_repository(connection, "team/app", "released/other", LATER, HOUR)


async def statements_of_a_pin(database: Database, moment: datetime | None) -> int:
    """How many statements the transaction has that pins a group, and that others wait for."""
    counted = []

    def count(*_: object) -> None:
        counted.append(1)

    async with database.write() as connection:
        entry = await paths.get(connection, "team")
        sync = connection.sync_connection
        event.listen(sync, "before_cursor_execute", count)
        try:
            await pins.pin(connection, entry.key, "team", moment, LATER)
        finally:
            event.remove(sync, "before_cursor_execute", count)
    return len(counted)


async def test_a_pin_takes_as_many_statements_for_many_repositories_as_for_one(database: Database, moved: int) -> None:
    few = await statements_of_a_pin(database, NOW)
    await pin(database, "team", None)
    async with database.write() as connection:
        for number in range(20):
            project = await projects.create(connection, f"team/p{number}", NOW)
            for name in (f"team/p{number}", f"team/p{number}/more"):
                made = await repositories.find_or_create(connection, project.id, RepositoryName(name), NOW)
                manifest = await manifests.put(connection, made.id, new_manifest("one"), NOW)
                await tags.point(connection, made.id, V1, manifest, NOW, "ada")
    assert await statements_of_a_pin(database, NOW) <= few + 1
    async with database.read() as connection:
        for number in range(20):
            found = await repositories.find(connection, RepositoryName(f"team/p{number}/more"))
            assert found is not None and await tags.list_pinned(connection, found.id, "", 10) == ["v1"]
