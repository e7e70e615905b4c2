"""Quotas as they are stored and counted: one suite for every database."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import event, insert, select, text

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import Denied, UploadUnknown
from cache.oci.names import RepositoryName
from gateway.db import blobs, groups, manifests, projects, quotas, repositories, schema, uploads, users
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.manifests import NewManifest
from gateway.namespaces.node import NodeKind
from gateway.namespaces.quota import STEP, QuotaLevel

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LAYER, CONFIG = Digest.of(b"layer"), Digest.of(b"config")
MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Tree:
    """Ids of the projects team/app and team/sub/tool, and of repositories: two of team/app, one of the other."""

    app: int
    tool: int
    web: int
    api: int
    other: int


async def add_repository(connection: Connection, project_id: int, path: str) -> int:
    row = {"project_id": project_id, "path": path, "created_at": NOW}
    made = insert(schema.repositories).values(row).returning(schema.repositories.c.id)
    return int((await connection.execute(made)).scalar_one())


@pytest.fixture
async def tree(database: Database) -> Tree:
    async with database.write() as connection:
        for path in ("team", "team/sub"):
            await groups.create(connection, path, NOW)
        app = (await projects.create(connection, "team/app", NOW)).id
        tool = (await projects.create(connection, "team/sub/tool", NOW)).id
        web = await add_repository(connection, app, "team/app/web")
        api = await add_repository(connection, app, "team/app/api")
        return Tree(app, tool, web, api, await add_repository(connection, tool, "team/sub/tool"))


async def set_quotas(database: Database, *, app: int | None = None, team: int | None = None) -> None:
    async with database.write() as connection:
        await projects.update(connection, replace(await projects.get(connection, "team/app"), quota=app))
        await groups.update(connection, replace(await groups.get(connection, "team"), quota=team))


async def link(database: Database, repository: int, digest: Digest, size: int) -> None:
    async with database.write() as connection:
        await blobs.link(connection, repository, digest, size, NOW)


async def unlink(database: Database, repository: int, digest: Digest) -> None:
    async with database.write() as connection:
        await blobs.unlink(connection, repository, digest, NOW)


async def begin(database: Database, repository: int, id: str, received: int = 0) -> None:
    async with database.write() as connection:
        await uploads.insert(connection, id, repository, "user 1", NOW)
        await uploads.advance(connection, id, received, None, NOW)


async def reserve(
    database: Database, id: str, received: int = 0, now: datetime = NOW, coming: int | None = None
) -> int | None:
    async with database.write() as connection:
        return await quotas.reserve(connection, id, received, now, coming)


async def levels(database: Database, repository: int, now: datetime = NOW) -> Sequence[QuotaLevel]:
    async with database.read() as connection:
        return await quotas.levels_of(connection, repository, now)


async def stored(database: Database, project: int) -> int:
    async with database.read() as connection:
        return await quotas.stored_bytes(connection, project)


async def test_the_quotas_of_a_project_and_of_the_groups_above_apply(database: Database, tree: Tree) -> None:
    assert await levels(database, tree.web) == []
    await set_quotas(database, app=0, team=5_000_000_000)
    assert await levels(database, tree.web) == [
        QuotaLevel(NodeKind.PROJECT, "team/app", 0, 0, 0),
        QuotaLevel(NodeKind.GROUP, "team", 5_000_000_000, 0, 0),
    ]
    assert [level.path for level in await levels(database, tree.other)] == ["team"]
    await set_quotas(database)
    assert await levels(database, tree.web) == []


async def test_the_project_of_a_users_namespace_has_its_own_quota_alone(database: Database, tree: Tree) -> None:
    async with database.write() as connection:
        await users.create(connection, "alice", NOW)
        project = await projects.create(connection, "alice/p", NOW)
        await projects.update(connection, replace(project, quota=7))
        repository = await add_repository(connection, project.id, "alice/p")
    assert await levels(database, repository) == [QuotaLevel(NodeKind.PROJECT, "alice/p", 7, 0, 0)]


async def test_a_blob_counts_once_in_a_project_and_once_in_every_project(database: Database, tree: Tree) -> None:
    await set_quotas(database, team=GIB)
    await link(database, tree.web, LAYER, 100)
    await link(database, tree.api, LAYER, 100)
    await link(database, tree.api, CONFIG, 10)
    await link(database, tree.other, LAYER, 100)
    assert (await stored(database, tree.app), await stored(database, tree.tool)) == (110, 100)
    assert [level.stored for level in await levels(database, tree.other)] == [210]
    await unlink(database, tree.api, LAYER)
    assert await stored(database, tree.app) == 110
    await unlink(database, tree.web, LAYER)
    assert (await stored(database, tree.app), await stored(database, tree.tool)) == (10, 100)


async def total(database: Database, tree: Tree) -> int:
    """What the group `team` stores, as its quota counts it."""
    [level] = [level for level in await levels(database, tree.other) if level.path == "team"]
    return level.stored


async def test_a_group_counts_what_was_stored_before_it_had_a_quota(database: Database, tree: Tree) -> None:
    await link(database, tree.web, LAYER, 100)
    await link(database, tree.other, CONFIG, 10)
    await set_quotas(database, team=GIB)
    assert await total(database, tree) == 110
    await set_quotas(database)
    await unlink(database, tree.web, LAYER)
    await set_quotas(database, team=GIB)
    assert await total(database, tree) == 10


async def test_a_deleted_project_is_stored_no_more_by_its_groups(database: Database, tree: Tree) -> None:
    await set_quotas(database, team=GIB)
    await link(database, tree.web, LAYER, 100)
    await link(database, tree.other, LAYER, 100)
    async with database.write() as connection:
        await projects.delete(connection, "team/app", NOW)
    assert await total(database, tree) == 100


async def test_no_write_adds_up_what_the_projects_of_a_group_store(database: Database, tree: Tree) -> None:
    await set_quotas(database, app=GIB, team=GIB)
    statements: list[str] = []
    async with database.write() as connection:
        noted = connection.sync_engine
    event.listen(noted, "before_cursor_execute", lambda *given: statements.append(given[2]))
    await link(database, tree.web, LAYER, 100)
    await begin(database, tree.web, "a")
    await reserve(database, "a", 10)
    await unlink(database, tree.web, LAYER)
    assert len(statements) > 10
    assert [statement for statement in statements if "sum(projects.stored_bytes)" in statement] == []


async def test_a_blob_without_room_for_it_is_refused_and_not_counted(database: Database, tree: Tree) -> None:
    await set_quotas(database, app=100)
    await link(database, tree.web, LAYER, 100)
    await link(database, tree.api, LAYER, 100)
    with pytest.raises(Denied, match="project 'team/app' has a quota of 100 bytes, of which 100 bytes are stored"):
        await link(database, tree.api, CONFIG, 1)
    assert await stored(database, tree.app) == 100
    await set_quotas(database, team=150)
    with pytest.raises(Denied, match="group 'team' has a quota of 150 bytes, of which 100 bytes are stored"):
        await link(database, tree.other, LAYER, 100)
    assert await stored(database, tree.tool) == 0


async def counted(database: Database) -> dict[int, int]:
    """What each project stores, counted from the rows of its blobs and manifests."""
    of_blobs = text(
        "SELECT COALESCE(SUM(size), 0) FROM blobs WHERE digest IN (SELECT digest FROM blob_links l "
        "JOIN repositories r ON r.id = l.repository_id WHERE r.project_id = :project)"
    )
    of_manifests = text(
        "SELECT COALESCE(SUM(LENGTH(raw)), 0) FROM manifests m "
        "JOIN repositories r ON r.id = m.repository_id WHERE r.project_id = :project"
    )
    async with database.read() as connection:
        return {
            project.id: sum(
                [
                    int((await connection.scalar(query, {"project": project.id})) or 0)
                    for query in (of_blobs, of_manifests)
                ]
            )
            for project in await projects.list_all(connection)
        }


async def test_what_a_project_stores_is_right_after_any_changes(database: Database, tree: Tree) -> None:
    chance = Random(7)
    await set_quotas(database, team=GIB)
    paths = ["team/app/web", "team/app/api", "team/sub/tool"]
    owners = dict(zip(paths, (tree.app, tree.app, tree.tool), strict=True))
    seen = set()
    for _ in range(150):
        path, number = chance.choice(paths), chance.randrange(6)
        content = b"x" * number + b"content"
        async with database.write() as connection:
            repository = await repositories.find_or_create(connection, owners[path], RepositoryName.parse(path), NOW)
            match change := chance.choice(["link", "link", "unlink", "put", "put", "delete", "delete repository"]):
                case "link":
                    await blobs.link(connection, repository.id, Digest.of(content), len(content), NOW)
                case "unlink":
                    await blobs.unlink(connection, repository.id, Digest.of(content), NOW)
                case "put":
                    descriptor = Descriptor("application/json", Digest.of(content), len(content))
                    await manifests.put(connection, repository.id, NewManifest(descriptor, content), NOW)
                case "delete":
                    await manifests.delete(connection, repository.id, Digest.of(content), NOW, "ada")
                case "delete repository" if chance.random() < 0.3:
                    assert await repositories.purge(connection, repository.id, NOW)
            seen.add(change)
        expected = await counted(database)
        assert {project: await stored(database, project) for project in expected} == expected
        async with database.read() as connection:
            found = await connection.scalar(select(schema.groups.c.stored_bytes).where(schema.groups.c.path == "team"))
        assert found == sum(expected.values())
    assert len(seen) == 5


async def test_an_upload_reserves_step_by_step(database: Database, tree: Tree) -> None:
    await begin(database, tree.web, "one")
    assert await reserve(database, "one") is None
    await set_quotas(database, app=GIB, team=10 * GIB)
    assert await reserve(database, "one") == STEP
    assert await reserve(database, "one", STEP) == 2 * STEP
    assert [level.reserved for level in await levels(database, tree.other)] == [2 * STEP]
    assert await reserve(database, "one", STEP, coming=1000) == STEP + 1000
    assert [level.reserved for level in await levels(database, tree.api)] == [STEP + 1000] * 2
    with pytest.raises(UploadUnknown):
        await reserve(database, "unknown")


async def test_parallel_uploads_reserve_no_more_than_the_quota(database: Database, tree: Tree) -> None:
    await set_quotas(database, app=3 * MIB)
    limits = []
    for id in ("one", "two", "three"):
        await begin(database, tree.web, id)
        limits.append(await reserve(database, id))
    assert limits == [MIB] * 3
    await begin(database, tree.api, "four")
    with pytest.raises(Denied, match=r"of which 0 bytes are stored and 3\.0 MiB are reserved by unfinished uploads"):
        await reserve(database, "four")
    with pytest.raises(Denied):
        await reserve(database, "one", MIB)
    await begin(database, tree.other, "elsewhere")
    assert await reserve(database, "elsewhere") is None


async def test_what_an_upload_no_longer_uses_is_free_an_hour_later(database: Database, tree: Tree) -> None:
    await set_quotas(database, app=GIB)
    await begin(database, tree.web, "left", received=1000)
    await reserve(database, "left", 1000)
    soon, later = NOW + timedelta(minutes=59), NOW + timedelta(minutes=61)
    assert [level.reserved for level in await levels(database, tree.web, soon)] == [1000 + STEP]
    assert [level.reserved for level in await levels(database, tree.web, later)] == [1000]
