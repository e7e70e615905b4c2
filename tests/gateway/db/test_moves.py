"""Moves of groups, projects and repositories as they are stored: one suite for every database."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

import pytest
from sqlalchemy import insert, select

from cache.oci.digest import Digest
from cache.oci.errors import Denied, NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import blobs, changes, groups, moves, old_paths, paths, projects, quotas, repositories, schema, uploads
from gateway.db import users as user_rows
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.moves import Moved
from gateway.namespaces.errors import (
    MoveRefused,
    ParentUnknown,
    PathInvalid,
    PathReserved,
    TreeError,
    VisibilityRefused,
)
from gateway.namespaces.node import NodeKind, Visibility
from tests.gateway.db.announced import Announced
from tests.gateway.db.identity_rows import NOW

DAY = timedelta(days=1)
KEPT = 90 * DAY
LAYER, OTHER = Digest.of(b"layer"), Digest.of(b"other")
Move = Callable[[Connection, str, str, datetime, timedelta], Awaitable[Moved]]


@pytest.fixture
async def tree(database: Database) -> Database:
    """The groups a, a/sub and b; the projects a/p and a/sub/q, each with repositories."""
    async with database.write() as connection:
        for path in ("a", "a/sub", "b"):
            await groups.create(connection, path, NOW)
        for path in ("a/p", "a/sub/q"):
            project = await projects.create(connection, path, NOW)
            for name in (path, f"{path}/web"):
                await repositories.find_or_create(connection, project.id, RepositoryName(name), NOW)
    return database


async def move(
    database: Database, old: str, new: str, *, now: datetime = NOW, kept: timedelta = KEPT, by: Move | None = None
) -> Moved:
    async with database.write() as connection:
        if by is None:
            place = await paths.get(connection, old)
            by = moves.move_group if place.key.kind is NodeKind.GROUP else moves.move_project
        return await by(connection, old, new, now, kept)


async def move_image(database: Database, old: str, new: str, *, now: datetime = NOW, kept: timedelta = KEPT) -> Moved:
    return await move(database, old, new, now=now, kept=kept, by=moves.move_repository)


async def ends(database: Database, *names: str) -> dict[str, str]:
    async with database.read() as connection:
        return {name: found.present for name, found in (await old_paths.follow_all(connection, names)).items()}


async def tree_of(database: Database) -> list[str]:
    async with database.read() as connection:
        listed = [row.path for row in await connection.execute(select(schema.paths)) if row.kind != "user"]
        assert sorted(listed) == sorted(
            [group.path for group in await groups.list_all(connection)]
            + [project.path for project in await projects.list_all(connection)]
        )
        return sorted(listed) + [found.path for found in await repositories.list_page(connection)]


async def test_a_group_moves_with_all_that_it_holds(tree: Database) -> None:
    announced = Announced(tree)
    moved = await move(tree, "a", "b/c")
    assert (moved.projects, moved.repositories, moved.until) == (2, 4, NOW + KEPT)
    nodes = ["b", "b/c", "b/c/p", "b/c/sub", "b/c/sub/q"]
    images = ["b/c/p", "b/c/p/web", "b/c/sub/q", "b/c/sub/q/web"]
    assert await tree_of(tree) == [*nodes, *images]
    assert announced.take() == {(Concern.MOVE, "b/c")}
    assert await ends(tree, "a/p/web", "a", "a/sub/q/new", "ab", "b/c/p") == {
        "a/p/web": "b/c/p/web",
        "a": "b/c",
        "a/sub/q/new": "b/c/sub/q/new",
    }


async def test_a_project_and_a_repository_move_alone(tree: Database) -> None:
    await move(tree, "a/p", "b/p")
    await move_image(tree, "b/p/web", "b/p/site")
    assert await ends(tree, "a/p/web", "a/p", "b/p/web", "b/p/web/x") == {
        "a/p/web": "b/p/site",
        "a/p": "b/p",
        "b/p/web": "b/p/site",
    }
    await move_image(tree, "b/p/site", "a/sub/q/site")
    async with tree.read() as connection:
        found = await repositories.find(connection, RepositoryName("a/sub/q/site"))
        project = await projects.get(connection, "a/sub/q")
        assert found is not None and found.project_id == project.id
    assert await ends(tree, "b/p/web", "b/p/site") == dict.fromkeys(["b/p/web", "b/p/site"], "a/sub/q/site")


async def test_a_chain_of_moves_leaves_every_name_and_moving_back_ends_one(tree: Database) -> None:
    await move(tree, "a", "x")
    await move(tree, "x", "y", now=NOW + DAY)
    assert await ends(tree, "a/p", "x/p") == {"a/p": "y/p", "x/p": "y/p"}
    await move(tree, "y", "a", now=NOW + 2 * DAY)
    assert await ends(tree, "a/p", "x/p", "y/p") == {"x/p": "a/p", "y/p": "a/p"}
    async with tree.write() as connection:
        await groups.create(connection, "a/new", NOW + 3 * DAY)


async def test_what_left_a_moved_group_is_found_by_all_its_names(tree: Database) -> None:
    await move(tree, "a", "x")
    await move(tree, "x/p", "b/p")
    assert await ends(tree, "a/p/web", "x/p/web") == dict.fromkeys(["a/p/web", "x/p/web"], "b/p/web")
    await move(tree, "x", "y")
    assert await ends(tree, "a/p/web", "x/p/web") == dict.fromkeys(["a/p/web", "x/p/web"], "b/p/web")
    await move(tree, "y", "a")
    assert await ends(tree, "a/p/web", "x/p/web") == dict.fromkeys(["a/p/web", "x/p/web"], "b/p/web")


async def test_a_repository_that_left_its_project_is_found_after_the_project_moved(tree: Database) -> None:
    await move_image(tree, "a/p", "a/p/app")
    await move(tree, "a/p", "b/p")
    assert await ends(tree, "a/p", "a/p/web") == {"a/p": "b/p/app", "a/p/web": "b/p/web"}


async def test_nothing_is_made_at_or_below_an_old_path_before_its_end(tree: Database) -> None:
    await move(tree, "a", "x")
    await move_image(tree, "x/p/web", "x/p/site")

    async def make(connection: Connection, path: str, now: datetime) -> None:
        project = await projects.get(connection, "x/p")
        await repositories.find_or_create(connection, project.id, RepositoryName(path), now)

    async def move_there(connection: Connection, path: str, now: datetime) -> None:
        await moves.move_group(connection, "b", path, now, KEPT)

    async def move_image_there(connection: Connection, path: str, now: datetime) -> None:
        await moves.move_repository(connection, "x/p", path, now, KEPT)

    attempts: list[tuple[Callable[[Connection, str, datetime], Awaitable[Any]], str]] = [
        *[(groups.create, "a"), (user_rows.create, "a"), (make, "x/p/web"), (make, "a/other")],
        *[(move_there, "a"), (move_image_there, "x/p/web")],
    ]
    for attempt, path in attempts:
        with pytest.raises(PathReserved, match=r"is the old path of \w+ 'x.*' until 2025-06-02T.*move 'x.*' back"):
            async with tree.write() as connection:
                await attempt(connection, path, NOW + KEPT - timedelta(seconds=1))
    for attempt, path in (attempts[0], attempts[2]):
        async with tree.write() as connection:
            await attempt(connection, path, NOW + KEPT)
    assert await ends(tree, "a", "a/p", "x/p/web") == {}


async def test_no_project_comes_to_lie_above_an_old_path(tree: Database) -> None:
    """Then its names would be those of another one, which clients still pull from."""
    await move(tree, "a/sub/q", "b/q")
    async with tree.write() as connection:
        await groups.delete(connection, "a/sub")
        for path in ("c", "d"):
            await groups.create(connection, path, NOW)
        await projects.create(connection, "c/sub", NOW)
        await projects.create(connection, "d/p", NOW)
        await projects.delete(connection, "a/p", NOW)
        await groups.delete(connection, "a")
    said = "project 'a/sub' is refused, because 'a/sub/q' is the old path of project 'b/q'"
    with pytest.raises(PathReserved, match=said):
        await move(tree, "c", "a")
    await move(tree, "d", "a")
    for new in (lambda connection: projects.create(connection, "a/sub", NOW), None):
        with pytest.raises(PathReserved, match=said):
            if new is None:
                await move(tree, "c/sub", "a/sub")
            else:
                async with tree.write() as connection:
                    await new(connection)


async def test_an_old_path_ends_with_what_had_it(tree: Database) -> None:
    await move(tree, "a/p", "b/p")
    async with tree.write() as connection:
        await projects.delete(connection, "b/p", NOW)
    assert await ends(tree, "a/p", "a/p/web") == {}
    async with tree.write() as connection:
        await projects.create(connection, "a/p", NOW)
    await move(tree, "a/p", "b/p")
    assert await ends(tree, "a/p") == {"a/p": "b/p"}


async def test_nothing_is_reserved_where_old_paths_last_no_time(tree: Database) -> None:
    moved = await move(tree, "a", "x", kept=timedelta(0))
    assert moved.until is None and await ends(tree, "a/p") == {}


async def test_what_has_ended_is_swept(tree: Database) -> None:
    await move(tree, "a", "x")
    await move(tree, "x", "y", now=NOW + DAY)
    announced = Announced(tree)
    async with tree.write() as connection:
        assert await old_paths.sweep(connection, NOW + KEPT - timedelta(seconds=1)) == 0
        assert await old_paths.sweep(connection, NOW + KEPT) == 1
    assert announced.take() == {(Concern.MOVE, "")}
    assert await ends(tree, "a/p", "x/p") == {"x/p": "y/p"}


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("a", "a", MoveRefused, "group 'a' has this path already"),
        ("a", "a/sub/a", MoveRefused, "cannot move below itself, to 'a/sub/a'"),
        ("a", "b", MoveRefused, "cannot move to 'b', which is the path of a group"),
        ("a", "ada", MoveRefused, "cannot move to 'ada', which is the path of a user"),
        ("a/p", "a/sub", MoveRefused, "cannot move to 'a/sub', which is the path of a group"),
        ("a", "c/d", ParentUnknown, "needs the group 'c' above it"),
        ("a", "ada/d", ParentUnknown, "cannot lie in the user 'ada'"),
        ("a/p", "a/sub/q/r", ParentUnknown, "cannot lie in the project"),
        ("a", "B", PathInvalid, "has the capital 'B'"),
        ("a/p", "b/edit", PathInvalid, "holds the reserved word 'edit'"),
        ("a/shown", "b/shown", VisibilityRefused, "cannot be public in the private group 'b'"),
        ("a", "n" * 250, MoveRefused, "a path below it would have 260 characters"),
        ("b", "/".join("a1234567890123456789"), MoveRefused, "would lie 21 levels deep"),
    ],
)
async def test_a_move_that_cannot_be_is_refused_and_changes_nothing(
    tree: Database, old: str, new: str, error: type[TreeError], said: str
) -> None:
    async with tree.write() as connection:
        await user_rows.create(connection, "ada", NOW)
        if "shown" in old:
            await groups.update(connection, replace(await groups.get(connection, "a"), visibility=Visibility.PUBLIC))
            await projects.create(connection, "a/shown", NOW, visibility=Visibility.PUBLIC)
        if "/1/" in new:
            await groups.create(connection, "b/deep", NOW)
            for depth in range(2, 20):
                await groups.create(connection, new[: 2 * depth - 1], NOW)
    before = await tree_of(tree)
    with pytest.raises(error, match=said):
        await move(tree, old, new)
    assert await tree_of(tree) == before and await ends(tree, old) == {}


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("a/p/web", "a/p/web", MoveRefused, "has this path already"),
        ("a/p/web", "a/p", MoveRefused, "which is the path of a repository"),
        ("a/p/web", "a/web", ParentUnknown, "lies in no project: create that first"),
        ("a/p/web", "a/p/1/2/3/4", NameUnknown, "4 components below project 'a/p'"),
        ("a/p/none", "a/p/x", NameUnknown, "there is no repository 'a/p/none'"),
    ],
)
async def test_a_repository_moves_to_a_free_name_of_a_project(
    tree: Database, old: str, new: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        await move_image(tree, old, new)
    assert said in f"{raised.value} {getattr(raised.value, 'detail', '')}"


async def totals(database: Database) -> dict[str, int]:
    async with database.read() as connection:
        rows = [*await connection.execute(select(schema.groups.c.path, schema.groups.c.stored_bytes))]
        rows += [*await connection.execute(select(schema.projects.c.path, schema.projects.c.stored_bytes))]
        return {row.path: row.stored_bytes for row in rows}


async def set_quotas(database: Database, **limits: int) -> None:
    async with database.write() as connection:
        for path, quota in limits.items():
            await groups.update(connection, replace(await groups.get(connection, path), quota=quota))


async def link(database: Database, path: str, digest: Digest, size: int) -> int:
    async with database.write() as connection:
        found = await repositories.find(connection, RepositoryName(path))
        assert found is not None
        await blobs.link(connection, found.id, digest, size, NOW)
        return found.id


async def test_what_a_node_stores_counts_in_the_groups_above_its_new_place(tree: Database) -> None:
    await link(tree, "a/p", LAYER, 100)
    await link(tree, "a/sub/q", LAYER, 100)
    await set_quotas(tree, a=1000, b=1000)
    await move(tree, "a/p", "b/p")
    assert await totals(tree) == {"a": 100, "a/sub": 0, "b": 100, "b/p": 100, "a/sub/q": 100}
    await move(tree, "a/sub", "b/sub")
    assert await totals(tree) == {"a": 0, "b/sub": 0, "b": 200, "b/p": 100, "b/sub/q": 100}
    await move(tree, "b/sub", "b/other")
    assert (await totals(tree))["b"] == 200
    await move(tree, "b", "a/b")
    assert await totals(tree) == {"a": 200, "a/b": 200, "a/b/other": 0, "a/b/p": 100, "a/b/other/q": 100}


async def test_a_move_to_where_no_room_is_left_is_refused_with_the_figures(tree: Database) -> None:
    repository = await link(tree, "a/p", LAYER, 100)
    async with tree.write() as connection:
        await uploads.insert(connection, "u", repository, "user 1", NOW)
        await uploads.advance(connection, "u", 50, None, NOW)
    await set_quotas(tree, b=149)
    for old, new in (("a/p", "b/p"), ("a", "b/a")):
        with pytest.raises(Denied, match="group 'b' has a quota of 149 bytes, of which 0 bytes are stored"):
            await move(tree, old, new)
    await set_quotas(tree, b=150)
    await move(tree, "a", "b/a")
    assert (await totals(tree))["b"] == 100


async def test_a_move_within_a_group_that_is_over_its_quota_is_allowed(tree: Database) -> None:
    await link(tree, "a/p", LAYER, 100)
    await set_quotas(tree, a=10)
    await move(tree, "a/p", "a/sub/p")
    await move_image(tree, "a/sub/p", "a/sub/q/p")
    await move(tree, "a", "c")
    assert (await totals(tree))["c"] == 100


async def test_a_repository_takes_what_it_has_for_itself_to_its_new_project(tree: Database) -> None:
    for path, digest, size in (("a/p", LAYER, 100), ("a/p", OTHER, 7), ("a/p/web", LAYER, 100), ("a/sub/q", OTHER, 7)):
        await link(tree, path, digest, size)
    await set_quotas(tree, a=1000)
    await move_image(tree, "a/p", "a/sub/q/p")
    assert await totals(tree) == {"a": 207, "a/sub": 0, "b": 0, "a/p": 100, "a/sub/q": 107}
    async with tree.read() as connection:
        assert await quotas.stored_bytes_below(connection, "a") == 207
    async with tree.write() as connection:
        await projects.update(connection, replace(await projects.get(connection, "a/p"), quota=100))
    with pytest.raises(Denied, match="project 'a/p' has a quota of 100 bytes, of which 100 bytes are stored"):
        await move_image(tree, "a/sub/q", "a/p/q")


async def test_a_group_with_1000_repositories_moves_within_a_second_by_one_announcement(tree: Database) -> None:
    async with tree.write() as connection:
        project = await projects.get(connection, "a/p")
        rows = [{"project_id": project.id, "path": f"a/p/{number}", "created_at": NOW} for number in range(1000)]
        await connection.execute(insert(schema.repositories), rows)
        last = (await connection.execute(changes.last_number())).scalar_one()
    began = perf_counter()
    assert (await move(tree, "a", "c")).repositories == 1004
    assert perf_counter() - began < 1
    async with tree.read() as connection:
        assert (await connection.execute(changes.last_number())).scalar_one() == last + 1
