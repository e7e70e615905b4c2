"""Native repositories as they are stored: one suite for every database."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName, Tag
from gateway.db import blobs, manifests, moves, projects, quotas, repositories, schema, tags, uploads
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.db.manifests import NewManifest
from gateway.db.repositories import StoredRepository
from gateway.namespaces.errors import PathReserved, RestoreRefused
from gateway.namespaces.node import Visibility
from gateway.namespaces.project import Project
from gateway.namespaces.reach import PullReach
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW, add_group, add_project
from tests.gateway.db.native_rows import new_manifest
from tests.gateway.db.plans import plans_of


@pytest.fixture
async def project(database: Database) -> Project:
    async with database.write() as connection:
        await add_group(connection)
        return await add_project(connection)


async def create(database: Database, project: Project, *paths: str) -> list[StoredRepository]:
    async with database.write() as connection:
        return [await repositories.find_or_create(connection, project.id, RepositoryName(path), NOW) for path in paths]


async def test_a_repository_is_created_once_and_found_by_its_path(database: Database, project: Project) -> None:
    announced = Announced(database)
    [created] = await create(database, project, "team/app/cache")
    assert created == StoredRepository(1, project.id, "team/app/cache", NOW)
    assert announced.take() == {(Concern.REPOSITORY, "team/app/cache")}
    async with database.write() as connection:
        later = NOW + timedelta(days=1)
        again = await repositories.find_or_create(connection, project.id, RepositoryName("team/app/cache"), later)
    assert again == created
    assert announced.take() == set()
    async with database.read() as connection:
        assert await repositories.find(connection, RepositoryName("team/app/cache")) == created
        assert await repositories.find(connection, RepositoryName("team/app")) is None


async def test_repositories_are_listed_in_byte_order_and_in_pages(database: Database, project: Project) -> None:
    async with database.write() as connection:
        other = await add_project(connection, "team/app-2")
    await create(database, project, "team/app/b", "team/app", "team/app/a_c", "team/app/a-c")
    await create(database, other, "team/app-2")
    ordered = ["team/app", "team/app-2", "team/app/a-c", "team/app/a_c", "team/app/b"]
    async with database.read() as connection:
        assert [found.path for found in await repositories.list_page(connection)] == ordered
        for size in (1, 2, 5):
            seen: list[str] = []
            while page := await repositories.list_page(connection, seen[-1] if seen else "", size):
                assert len(page) <= size
                seen += [found.path for found in page]
            assert seen == ordered
        [of_other] = [found.id for found in await repositories.list_page(connection) if found.path == "team/app-2"]
        assert await repositories.list_ids_of_project(connection, other.id, 0, 10) == [of_other]
        of_project = await repositories.list_ids_of_project(connection, project.id, 0, 10)
        assert await repositories.list_ids_of_project(connection, project.id, of_project[1], 1) == of_project[2:3]
        of_ids = await repositories.list_of_ids(connection, [1, 2, 999])
        assert [found.path for found in of_ids] == ["team/app", "team/app/b"]


async def test_lists_for_readers_search_nothing_in_between(database: Database, project: Project) -> None:
    """A search by an index of paths would take the longer, the more lies hidden between two paths."""
    await create(database, project, "team/app/b", "team/app", "team/app/a-c")
    reach = PullReach(frozenset({Visibility.PRIVATE}), (project.key,))
    async with database.read() as connection:
        with plans_of(connection) as plans:
            assert await projects.list_reached(connection, reach, "team", 10) == [(project.id, "team/app")]
            assert await projects.list_reached(connection, reach, "team/app", 10) == []
            assert await projects.list_reached(connection, reach, "team/app/a", 10, ["team/app"]) == [(1, "team/app")]
            assert await repositories.list_paths(connection, [project.id], "team/app", 1) == ["team/app/a-c"]
        assert [plan for plan in plans if "(path>?)" in plan or ("SCAN" in plan and "_autoindex" in plan)] == []


async def test_a_purged_repository_takes_its_content_with_it_and_no_other(database: Database, project: Project) -> None:
    doomed, other = await create(database, project, "team/app", "team/app/other")
    async with database.write() as connection:
        blob = Digest.of(b"layer")
        for repository in (doomed, other):
            await blobs.link(connection, repository.id, blob, len(b"layer"), NOW)
            number = await manifests.put(connection, repository.id, new_manifest(), NOW)
            await tags.point(connection, repository.id, Tag("latest"), number, NOW, "ada")
    announced = Announced(database)
    async with database.write() as connection:
        assert await repositories.purge(connection, doomed.id, NOW)
    assert announced.take() == {(Concern.REPOSITORY, "team/app")}
    async with database.write() as connection:
        assert not await repositories.purge(connection, doomed.id, NOW)
        for table in (schema.manifests, schema.tags, schema.blob_links):
            owners = await connection.scalars(select(table.c.repository_id))
            assert list(owners) == [other.id]
        assert list(await connection.scalars(select(schema.blobs.c.digest))) == [str(blob)]
        stored = len(b"layer") + len(new_manifest().raw)
        assert await quotas.stored_bytes(connection, project.id) == stored
    assert announced.take() == set()


async def test_a_deleted_repository_is_restored_as_it_was_while_it_is_kept(
    database: Database, project: Project
) -> None:
    doomed, other = await create(database, project, "team/app/web", "team/app")
    await fill(database, doomed)
    name = RepositoryName("team/app/web")
    async with database.read() as connection:
        before, stored = (
            await tags.list_details(connection, doomed.id),
            await quotas.stored_bytes(connection, project.id),
        )
    announced = Announced(database)
    async with database.write() as connection:
        assert await repositories.delete(connection, name, NOW, "ada")
        assert not await repositories.delete(connection, name, NOW, "ada")
    assert announced.take() == {(Concern.REPOSITORY, "team/app/web")}
    async with database.read() as connection:
        assert await repositories.find(connection, name) is None
        assert [found.path for found in await repositories.list_page(connection)] == ["team/app"]
        assert await repositories.list_paths(connection, [project.id], "", 10) == ["team/app"]
        assert await blobs.repositories_with(connection, Digest.of(b"layer 0"), 5) == []
        assert await manifests.repositories_with(connection, before[0].digest, 5) == []
        assert await quotas.stored_bytes(connection, project.id) == stored
        [found] = await repositories.find_deleted(connection, name)
        assert await repositories.find_deleted(connection, RepositoryName("team/app")) == []
        assert await repositories.list_deleted(connection, NOW, 10) == [found]
        assert await repositories.list_deleted(connection, NOW - timedelta(seconds=1), 10) == []
    assert (found.path, found.deleted_at, found.deleted_by) == ("team/app/web", NOW, "ada")
    async with database.write() as connection:
        await repositories.restore(connection, found, RepositoryName(found.path), NOW)
    assert announced.take() == {(Concern.REPOSITORY, "team/app/web")}
    async with database.read() as connection:
        assert await repositories.find(connection, name) == doomed
        assert await tags.list_details(connection, doomed.id) == before
        assert await repositories.find_deleted(connection, name) == []
        assert other.path == "team/app"


async def test_a_repository_is_not_restored_over_another_one_or_once_its_purge_has_begun(
    database: Database, project: Project
) -> None:
    [first] = await create(database, project, "team/app")
    name = RepositoryName("team/app")
    async with database.write() as connection:
        assert await repositories.delete(connection, name, NOW, "ada")
        second = await repositories.find_or_create(connection, project.id, name, NOW)
        [kept] = await repositories.find_deleted(connection, name)
        with pytest.raises(RestoreRefused, match="another repository has the path 'team/app' since"):
            await repositories.restore(connection, kept, RepositoryName(kept.path), NOW)
        assert await repositories.delete(connection, name, NOW + timedelta(hours=1), "ada")
        latest, earlier = await repositories.find_deleted(connection, name)
        assert (latest.id, earlier.id) == (second.id, first.id)
        assert await repositories.begin_purge(connection, latest)
        assert await repositories.find_deleted(connection, name) == [earlier]
        await repositories.restore(connection, earlier, RepositoryName(earlier.path), NOW)
        assert not await repositories.begin_purge(connection, earlier)
        assert await repositories.list_deleted(connection, NOW + timedelta(days=9), 9) != []


async def test_what_was_being_added_to_a_repository_that_was_deleted_is_refused(
    database: Database, project: Project
) -> None:
    [gone] = await create(database, project, "team/app")
    async with database.write() as connection:
        await uploads.insert(connection, "an upload", gone.id, "user:1", NOW)
        assert await repositories.delete(connection, RepositoryName("team/app"), NOW, "ada")
        assert not await uploads.delete(connection, "an upload")
        with pytest.raises(NameUnknown, match="the repository was deleted meanwhile: push again"):
            await blobs.link(connection, gone.id, Digest.of(b"layer"), 5, NOW)


async def fill(database: Database, repository: StoredRepository) -> None:
    """Push four manifests with a blob and two tags each to a repository."""
    async with database.write() as connection:
        for number in range(4):
            content = f"layer {number}".encode()
            await blobs.link(connection, repository.id, Digest.of(content), len(content), NOW)
            raw = f'{{"number": {number}}}'.encode()
            descriptor = Descriptor("application/json", Digest.of(raw), len(raw))
            id = await manifests.put(connection, repository.id, NewManifest(descriptor, raw), NOW)
            for tag in (f"a{number}", f"b{number}"):
                await tags.point(connection, repository.id, Tag(tag), id, NOW, "ada")


async def test_a_repository_is_deleted_in_parts_that_are_counted_at_once(
    database: Database, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, count in (("TAGS_OF_PART", 3), ("MANIFESTS_OF_PART", 3), ("BATCH", 3)):
        monkeypatch.setattr(repositories, limit, count)
    doomed, other = await create(database, project, "team/app", "team/app/other")
    for repository in (doomed, other):
        await fill(database, repository)

    async def left() -> tuple[int, ...]:
        """Rows of the doomed repository, and what the project stores."""
        async with database.read() as connection:
            counted = [
                await connection.scalar(select(func.count()).where(table.c.repository_id == doomed.id))
                for table in (schema.tags, schema.tag_events, schema.manifests, schema.blob_links)
            ]
            return (*counted, await quotas.stored_bytes(connection, project.id))

    raw, blob = len('{"number": 0}'), len(b"layer 0")
    steps, announced = [await left()], Announced(database)
    for _ in range(10):
        async with database.write() as connection:
            assert await repositories.delete_part(connection, doomed.id, NOW)
        assert announced.take() == {(Concern.REPOSITORY, "team/app")}
        steps.append(await left())
    assert [step[:4] for step in steps] == [
        *[(8, 8, 4, 4), (5, 8, 4, 4), (2, 8, 4, 4), (0, 8, 4, 4)],
        *[(0, 5, 4, 4), (0, 2, 4, 4), (0, 0, 4, 4)],
        *[(0, 0, 1, 4), (0, 0, 0, 4)],
        *[(0, 0, 0, 1), (0, 0, 0, 0)],
    ]
    assert [step[4] for step in steps] == [
        *[4 * (2 * raw + blob)] * 7,
        *[5 * raw + 4 * blob, 4 * (raw + blob), 4 * (raw + blob), 4 * (raw + blob)],
    ]
    async with database.write() as connection:
        assert not await repositories.delete_part(connection, doomed.id, NOW)
        assert await repositories.purge(connection, doomed.id, NOW)
        assert await quotas.stored_bytes(connection, project.id) == 4 * (raw + blob)
        assert await connection.scalar(select(func.count()).select_from(schema.tags)) == 8
        while await repositories.delete_part(connection, other.id, NOW):
            pass
        assert await quotas.stored_bytes(connection, project.id) == 0


async def test_what_is_added_to_a_deleted_repository_is_refused(database: Database, project: Project) -> None:
    [gone] = await create(database, project, "team/app")
    async with database.write() as connection:
        await repositories.purge(connection, gone.id, NOW)
    refused = pytest.raises(NameUnknown, match="the repository was deleted meanwhile: push again")
    with refused, repositories.adding_to_repository():
        async with database.write() as connection:
            await blobs.link(connection, gone.id, Digest.of(b"layer"), 5, NOW)
    async with database.read() as connection:
        assert await blobs.stored_size(connection, Digest.of(b"layer")) is None


async def test_the_id_of_a_deleted_repository_does_not_return(database: Database, project: Project) -> None:
    [first] = await create(database, project, "team/app")
    async with database.write() as connection:
        await repositories.purge(connection, first.id, NOW)
    [second] = await create(database, project, "team/app")
    assert second.id > first.id


async def test_repositories_that_go_with_their_project_are_announced(database: Database, project: Project) -> None:
    await create(database, project, "team/app", "team/app/a")
    announced = Announced(database)
    async with database.write() as connection:
        await projects.delete(connection, "team/app", NOW)
        assert await connection.scalar(select(func.count()).select_from(schema.repositories)) == 0
    assert {(Concern.REPOSITORY, "team/app"), (Concern.REPOSITORY, "team/app/a")} <= announced.take()


async def test_a_repository_is_not_restored_where_another_one_has_an_old_path(
    database: Database, project: Project
) -> None:
    await create(database, project, "team/app/web")
    name = RepositoryName("team/app/web")
    async with database.write() as connection:
        assert await repositories.delete(connection, name, NOW, "ada")
        await repositories.find_or_create(connection, project.id, name, NOW)
        await moves.move_repository(connection, "team/app/web", "team/app/moved", NOW, timedelta(days=90))
        [kept] = await repositories.find_deleted(connection, name)
        with pytest.raises(PathReserved):
            await repositories.restore(connection, kept, RepositoryName(kept.path), NOW)
        await repositories.restore(connection, kept, RepositoryName(kept.path), NOW + timedelta(days=91))
