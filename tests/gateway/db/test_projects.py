"""Projects as they are stored: one suite for every database."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert

from gateway.db import groups, paths, projects, schema, users
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.namespaces.errors import (
    NodeNotEmpty,
    ParentUnknown,
    PathInvalid,
    PathTaken,
    ProjectUnknown,
    TreeError,
    VisibilityRefused,
)
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility
from gateway.namespaces.project import Project, RegistryAccess
from tests.gateway.db.announced import Announced

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
PUBLIC, INTERNAL, PRIVATE = Visibility.PUBLIC, Visibility.INTERNAL, Visibility.PRIVATE


@pytest.fixture(autouse=True)
async def tree(database: Database) -> None:
    """A user alice, the private group a with the group a/b in it, and the public group open."""
    async with database.write() as connection:
        await users.create(connection, "alice", NOW)
        for path in ("a", "a/b", "open"):
            await groups.create(connection, path, NOW)
        await groups.update(connection, replace(await groups.get(connection, "open"), visibility=PUBLIC))


async def create(database: Database, path: str, **properties: Any) -> Project:
    async with database.write() as connection:
        return await projects.create(connection, path, NOW, **properties)


async def update(database: Database, project: Project) -> Project:
    async with database.write() as connection:
        await projects.update(connection, project)
    async with database.read() as connection:
        return await projects.get(connection, project.path)


async def set_visibility(database: Database, group: str, visibility: Visibility) -> None:
    async with database.write() as connection:
        await groups.update(connection, replace(await groups.get(connection, group), visibility=visibility))


async def test_a_new_project_is_private_with_its_registry_enabled(database: Database) -> None:
    project = await create(database, "a/b/p", created_by=1)
    assert project == Project(1, "a/b/p", PRIVATE, RegistryAccess.ENABLED, NOW, 1)
    async with database.read() as connection:
        assert await projects.find(connection, "a/b/p") == await projects.find_by_id(connection, 1) == project
        assert await paths.find(connection, "a/b/p") == PathEntry("a/b/p", NodeKey(NodeKind.PROJECT, 1))
        assert await projects.find(connection, "a/b") is None
        assert await projects.find_by_id(connection, 2) is None


@pytest.mark.parametrize(
    ("path", "visibility", "error", "reason"),
    [
        ("a/p", PRIVATE, PathTaken, "project 'a/p' exists already"),
        ("a/b", PRIVATE, PathTaken, "group 'a/b' exists already"),
        ("x/p", PRIVATE, ParentUnknown, "project 'x/p' needs the group or user 'x' above it: create that first"),
        ("a/p/q", PRIVATE, ParentUnknown, "project 'a/p/q' cannot lie in the project 'a/p': only groups and users"),
        ("p", PRIVATE, PathInvalid, "'p' names no group or user that holds the project: use a path such as 'group/p'"),
        ("a/P", PRIVATE, PathInvalid, "'P' has the capital 'P': use a path such as 'a/p'"),
        ("a/q", PUBLIC, VisibilityRefused, "project 'a/q' cannot be public in the private group 'a': make it private"),
        ("a/q", INTERNAL, VisibilityRefused, "'a/q' cannot be internal in the private group 'a'.*, or the group int"),
    ],
)
async def test_a_project_that_cannot_be_created_is_refused(
    database: Database, path: str, visibility: Visibility, error: type[TreeError], reason: str
) -> None:
    await create(database, "a/p")
    with pytest.raises(error, match=reason):
        await create(database, path, visibility=visibility)
    async with database.read() as connection:
        assert [project.path for project in await projects.list_all(connection)] == ["a/p"]


@pytest.mark.parametrize("path", ["alice/p", "open/p"])
@pytest.mark.parametrize("visibility", list(Visibility))
async def test_a_user_and_a_public_group_hold_projects_of_every_visibility(
    database: Database, path: str, visibility: Visibility
) -> None:
    assert (await create(database, path, visibility=visibility)).visibility is visibility


async def test_an_update_stores_visibility_and_registry(database: Database) -> None:
    project = await create(database, "open/p")
    changed = replace(project, visibility=INTERNAL, registry=RegistryAccess.DISABLED)
    assert await update(database, changed) == changed
    with pytest.raises(ProjectUnknown, match="there is no project 'open/q'"):
        await update(database, replace(project, path="open/q"))
    hidden = await create(database, "a/p")
    with pytest.raises(VisibilityRefused, match="project 'a/p' cannot be public in the private group 'a'"):
        await update(database, replace(hidden, visibility=PUBLIC))


async def test_a_group_is_not_less_visible_than_what_it_holds(database: Database) -> None:
    async with database.write() as connection:
        await groups.create(connection, "open/sub", NOW)
        await groups.create(connection, "open-2", NOW)
    await set_visibility(database, "open/sub", INTERNAL)
    for path in ("open/sub/p", "open/q", "open/r"):
        await create(database, path, visibility=INTERNAL)
    with pytest.raises(
        VisibilityRefused,
        match="group 'open' cannot be private, because what it holds is more visible"
        r" \(open/q, open/r, open/sub and more\): make that private first",
    ):
        await set_visibility(database, "open", PRIVATE)
    await set_visibility(database, "open", INTERNAL)
    with pytest.raises(VisibilityRefused, match="group 'open/sub' cannot be public in the internal group 'open'"):
        await set_visibility(database, "open/sub", PUBLIC)


async def test_a_group_does_not_lie_in_a_user_or_a_project(database: Database) -> None:
    await create(database, "a/p")
    for path, above in (("alice/g", "user 'alice'"), ("a/p/g", "project 'a/p'")):
        with pytest.raises(ParentUnknown, match=f"group '{path}' cannot lie in the {above}: only groups hold groups"):
            async with database.write() as connection:
                await groups.create(connection, path, NOW)


async def test_a_group_with_projects_inside_is_not_deleted(database: Database) -> None:
    await create(database, "a/b/p")
    async with database.write() as connection:
        with pytest.raises(NodeNotEmpty, match="group 'a/b' holds a/b/p: delete what is inside it first"):
            await groups.delete(connection, "a/b")
        assert (await projects.delete(connection, "a/b/p", NOW)).path == "a/b/p"
        await groups.delete(connection, "a/b")
        with pytest.raises(ProjectUnknown):
            await projects.delete(connection, "a/b/p", NOW)


async def test_projects_are_listed_below_a_path_and_in_pages(database: Database) -> None:
    for path in ("open/z", "a/b/p", "a/b-c", "a/b/0", "alice/p"):
        await create(database, path)
    async with database.read() as connection:

        async def listed(*arguments: str, **page: Any) -> list[str]:
            return [project.path for project in await projects.list_all(connection, *arguments, **page)]

        assert await listed() == ["a/b-c", "a/b/0", "a/b/p", "alice/p", "open/z"]
        assert await listed("a") == ["a/b-c", "a/b/0", "a/b/p"]
        assert await listed("a/b") == ["a/b/0", "a/b/p"]
        assert await listed("a", after="a/b-c", limit=1) == ["a/b/0"]
        assert await listed("a/b", after="a") == await listed("a/b", after="a/b/") == ["a/b/0", "a/b/p"]
        assert await listed("a", after="open") == await listed("x") == []


# Job allowances


async def test_jobs_of_projects_and_groups_are_allowed_until_they_are_replaced(database: Database) -> None:
    project, other = await create(database, "a/p"), await create(database, "a/q")
    group = NodeKey(NodeKind.GROUP, 2)

    async def allowed() -> list[NodeKey]:
        async with database.read() as connection:
            return await projects.allowed_jobs(connection, project.id)

    assert await allowed() == []
    async with database.write() as connection:
        await projects.set_allowed_jobs(connection, project, [other.key, group, other.key])
        await projects.set_allowed_jobs(connection, other, [project.key])
    assert await allowed() == [group, other.key]
    async with database.write() as connection:
        await groups.delete(connection, "a/b")
    assert await allowed() == [other.key]
    async with database.write() as connection:
        await projects.set_allowed_jobs(connection, project, [])
    assert await allowed() == []


# Announcements


async def test_every_change_of_a_project_is_announced(database: Database) -> None:
    announced = Announced(database)
    project = await create(database, "a/p")
    assert announced.take() == {(Concern.PROJECT, "a/p")}
    await update(database, replace(project, registry=RegistryAccess.PRIVATE))
    assert announced.take() == {(Concern.PROJECT, "a/p")}
    async with database.write() as connection:
        await projects.set_allowed_jobs(connection, project, [NodeKey(NodeKind.GROUP, 1)])
    assert announced.take() == {(Concern.PROJECT, "a/p")}


@pytest.mark.parametrize(
    ("doomed", "expected"),
    [
        (
            NodeKey(NodeKind.PROJECT, 2),
            "member:1 project:a/p project:a/q deploy-q deploy:1 job-q job:2 job-p job:1 both-p job-deploy:1",
        ),
        (
            NodeKey(NodeKind.GROUP, 2),
            "member:1 project:a/p group:a/b deploy-b deploy:2 job-p job:1 both-p job-deploy:1",
        ),
        (
            NodeKey(NodeKind.USER, 1),
            "member:1 user:1 user:alice personal personal:1 job-p job:1 job-q job:2 both-p job-deploy:1",
        ),
    ],
)
async def test_what_the_database_deletes_with_a_node_is_announced(
    database: Database, doomed: NodeKey, expected: str
) -> None:
    """alice is a member of a/q and a/b, whose jobs a/p allows; a job of a/p presents a deploy token of the node."""
    p, q = await create(database, "a/p"), await create(database, "a/q")
    token = {"name": "t", "scopes": "read_registry", "created_at": NOW}
    job = {"user_id": 1, "created_at": NOW, "expires_at": NOW}
    async with database.write() as connection:
        await projects.set_allowed_jobs(connection, p, [q.key, NodeKey(NodeKind.GROUP, 2)])
        for where in ({"project_id": q.id}, {"group_id": 2}):
            row = {**where, "user_id": 1, "role": 30, "created_at": NOW}
            await connection.execute(insert(schema.members).values(row))
        await connection.execute(insert(schema.personal_tokens).values(**token, user_id=1, hash="personal"))
        deploy = insert(schema.deploy_tokens)
        await connection.execute(deploy.values(**token, id=1, project_id=q.id, username="u", hash="deploy-q"))
        await connection.execute(deploy.values(**token, id=2, group_id=2, username="u", hash="deploy-b"))
        stands_in = {"deploy_token_id": 2 if doomed.kind is NodeKind.GROUP else 1, "deploy_hash": "both-p"}
        await connection.execute(insert(schema.jobs).values(**job, **stands_in, project_id=p.id, hash="job-p"))
        await connection.execute(insert(schema.jobs).values(**job, project_id=q.id, hash="job-q"))
    announced = Announced(database)
    async with database.write() as connection:
        if doomed.kind is NodeKind.USER:
            await users.delete(connection, "alice")
        elif doomed.kind is NodeKind.GROUP:
            await groups.delete(connection, "a/b")
        else:
            await projects.delete(connection, "a/q", NOW)
    keys = {key if concern is Concern.CREDENTIAL else f"{concern}:{key}" for concern, key in announced.take()}
    assert keys == set(expected.split())
