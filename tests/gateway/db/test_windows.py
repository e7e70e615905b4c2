"""Windows of lists: by offset and after a value, in both directions, searched and counted; on every database."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from gateway.db import manifests, projects, repositories, repository_figures, repository_lists, schema, tags, windows
from gateway.db.dialects import POSTGRESQL, among
from gateway.db.engine import Database
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.tags import StoredTag
from gateway.db.windows import ListWindow
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.reach import PullReach
from gateway.registry.inventory import Inventory
from gateway.registry.native_store import parse_stored
from tests.gateway.db.identity_rows import NOW, add_group, add_project
from tests.gateway.db.native_rows import add_repository, new_manifest
from tests.gateway.db.plans import plans_of

PATHS = ["team/app/b", "team/app", "team/app/a_c", "team/app/a-c", "team/app/A%".lower().replace("%", "x")]
NAMES = ["B", "a", "a%b", "a_b", "b10", "b2"]
TOTALS = {"": 6, "B": 5, "_": 1, "none": 0}
"""How many of NAMES hold a text."""
EVERYTHING = PullReach(everything=True)


async def add_repositories(database: Database) -> int:
    """Store the repositories of a project, another one with one, and a deleted one; return the id of the project."""
    async with database.write() as connection:
        await add_group(connection)
        project, other = await add_project(connection), await add_project(connection, "team/app-2")
        for path in PATHS:
            await repositories.find_or_create(connection, project.id, RepositoryName(path), NOW)
        await repositories.find_or_create(connection, other.id, RepositoryName("team/app-2"), NOW)
        await repositories.find_or_create(connection, project.id, RepositoryName("team/app/gone"), NOW)
        await repositories.delete(connection, RepositoryName("team/app/gone"), NOW, "ann")
        return project.id


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order", RepositoryOrder)
async def test_repositories_of_a_project_are_cut(database: Database, order: RepositoryOrder, descending: bool) -> None:
    project = await add_repositories(database)
    ordered = sorted(PATHS) if order is RepositoryOrder.PATH else PATHS
    ordered = ordered[::-1] if descending else ordered
    async with database.read() as connection:
        for offset in range(len(PATHS) + 1):
            window = ListWindow(2, offset, descending=descending)
            found = await repository_lists.list_of_project(connection, project, order, window)
            assert [row.path for row in found] == ordered[offset : offset + 2]
        whole = await repository_lists.list_of_project(connection, project, order, ListWindow(9, descending=descending))
        for number, row in enumerate(whole):
            after = row.path if order is RepositoryOrder.PATH else row.id
            window = ListWindow(2, after=after, descending=descending)
            found = await repository_lists.list_of_project(connection, project, order, window)
            assert found == whole[number + 1 : number + 3]


@pytest.mark.parametrize(("search", "expected"), [("A-C", ["team/app/a-c"]), ("a_c", ["team/app/a_c"]), ("gone", [])])
async def test_repositories_are_searched_and_counted(database: Database, search: str, expected: list[str]) -> None:
    project = await add_repositories(database)
    async with database.read() as connection:
        window = ListWindow(9, search=search)
        found = await repository_lists.list_of_project(connection, project, RepositoryOrder.PATH, window)
        assert [row.path for row in found] == expected
        assert await repository_lists.count_of_project(connection, project, search) == len(expected)
        assert await repository_lists.count_of_project(connection, project, "") == len(PATHS)


async def test_rows_beyond_what_is_counted_are_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    project = await add_repositories(database)
    monkeypatch.setattr(windows, "COUNTED", 3)
    async with database.read() as connection:
        assert await repository_lists.count_of_project(connection, project, "") == 4


async def test_repositories_below_a_group_are_those_in_reach(database: Database) -> None:
    project = await add_repositories(database)
    own = PullReach(nodes=(NodeKey(NodeKind.PROJECT, project),))
    many = PullReach(nodes=tuple(NodeKey(NodeKind.PROJECT, number) for number in range(1, 200)))
    async with database.read() as connection:
        for reach, expected in (
            (EVERYTHING, sorted([*PATHS, "team/app-2"])),
            (own, sorted(PATHS)),
            (many, sorted([*PATHS, "team/app-2"])),
            (PullReach(), []),
        ):
            found = await repository_lists.list_below(connection, "team", reach, RepositoryOrder.PATH, ListWindow(99))
            assert [row.path for row in found] == expected
            assert await repository_lists.count_below(connection, "team", reach, "") == len(expected)
            assert await projects.is_any_viewable(connection, reach, "team") is bool(expected)
            assert await projects.is_any_viewable(connection, reach, "other") is False


async def test_many_memberships_make_one_query(database: Database) -> None:
    async with database.write() as connection:
        await add_group(connection)
        nodes = []
        for number in range(120):
            project = await add_project(connection, f"team/p{number:03}")
            await repositories.find_or_create(connection, project.id, RepositoryName(project.path), NOW)
            nodes.append(project.key)
        reach = PullReach(nodes=tuple(nodes[::2]))
        window = ListWindow(99, descending=True)
        found = await repository_lists.list_below(connection, "team", reach, RepositoryOrder.PATH, window)
    assert [row.path for row in found] == [f"team/p{number:03}" for number in range(118, -2, -2)]


async def add_tags(database: Database) -> int:
    async with database.write() as connection:
        repository = await add_repository(connection)
        number = await manifests.put(connection, repository.id, new_manifest(), NOW)
        for name in NAMES:
            await tags.point(connection, repository.id, Tag(name), number, NOW, "ann")
        return repository.id


@pytest.mark.parametrize("descending", [False, True])
async def test_tags_are_cut(database: Database, descending: bool) -> None:
    repository, ordered = await add_tags(database), NAMES[::-1] if descending else NAMES
    async with database.read() as connection:
        for offset in range(len(NAMES) + 1):
            window = ListWindow(2, offset, descending=descending)
            assert await tags.list_window(connection, repository, window) == ordered[offset : offset + 2]
        for number, name in enumerate(ordered):
            window = ListWindow(3, after=name, descending=descending)
            assert await tags.list_window(connection, repository, window) == ordered[number + 1 : number + 4]


@pytest.mark.parametrize("descending", [False, True])
async def test_tags_are_cut_by_their_dates(database: Database, descending: bool) -> None:
    repository = await add_tags(database)
    async with database.write() as connection:
        number = await manifests.put(connection, repository, new_manifest("two"), NOW)
        for hours, name in enumerate(("b10", "a"), 1):
            await tags.point(connection, repository, Tag(name), number, NOW + timedelta(hours=hours), "ann")
    ordered = ["B", "a%b", "a_b", "b2", "b10", "a"]
    ordered = ordered[::-1] if descending else ordered
    async with database.read() as connection:
        whole = await tags.list_dated(connection, repository, ListWindow(9, descending=descending))
        assert [tag.name for tag in whole] == ordered
        for offset in range(len(ordered) + 1):
            found = await tags.list_dated(connection, repository, ListWindow(2, offset, descending=descending))
            assert found == whole[offset : offset + 2]
        for number, tag in enumerate(whole):
            found = await tags.list_dated(connection, repository, ListWindow(2, descending=descending), tag)
            assert found == whole[number + 1 : number + 3]
        searched = ListWindow(9, descending=descending, search="B1")
        assert [tag.name for tag in await tags.list_dated(connection, repository, searched)] == ["b10"]


@pytest.mark.parametrize(
    ("search", "expected"), [("b", ["B", "a%b", "a_b", "b10", "b2"]), ("%", ["a%b"]), ("_", ["a_b"])]
)
async def test_tags_are_searched_and_counted(database: Database, search: str, expected: list[str]) -> None:
    repository = await add_tags(database)
    async with database.read() as connection:
        assert await tags.list_window(connection, repository, ListWindow(9, search=search)) == expected
        assert await tags.count_all(connection, repository, search) == len(expected)
        assert await repository_figures.tag_counts_of(connection, [repository, 77]) == {repository: len(NAMES), 77: 0}


async def test_the_total_of_tags_is_the_same_on_every_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory, repository = Inventory(database, parse_stored), await add_tags(database)
    for counted, search, total, descending in (
        *((9, search, total, descending) for search, total in TOTALS.items() for descending in (False, True)),
        (4, "", None, False),
        (4, "_", 1, True),
    ):
        monkeypatch.setattr(windows, "COUNTED", counted)
        for offset in range(len(NAMES) + 2):
            window = ListWindow(2, offset, descending=descending, search=search)
            by_name = await inventory.tags(repository, window, counted=True)
            by_date = await inventory.dated_tags(repository, window, None, counted=True)
            assert by_name.total == by_date.total == total
            assert by_name.more == by_date.more == (TOTALS[search] > offset + 2)
        after = await inventory.tags(repository, ListWindow(2, after="b", search=search), counted=True)
        assert after.total == total


async def test_a_search_of_tags_looks_at_each_name_once(database: Database) -> None:
    repository = await add_tags(database)
    window = ListWindow(2, search="b")
    async with database.read() as connection:
        last = (await tags.list_dated(connection, repository, window))[-1]
        with plans_of(connection) as plans:
            await tags.count_after(connection, repository, window, last.name)
            await tags.count_after(connection, repository, window, last)
            await tags.count_after(connection, repository, replace(window, descending=True), last.name)
    if connection.dialect.name == "sqlite":
        read = [plan for plan in plans if "SEARCH tags" in plan]
        assert all("COVERING INDEX" in plan for plan in read), read
        assert [plan.rpartition(" AND ")[2] for plan in read] == ["name>?)", "(moved_at,name)>(?,?))", "name<?)"]


async def test_what_was_read_whole_is_not_counted(database: Database) -> None:
    async def rows(connection: AsyncConnection, window: ListWindow) -> list[int]:
        return list(range(5))[window.offset :][: window.limit]

    async def total(connection: AsyncConnection) -> int:
        asked.append("total")
        return 5

    async with database.read() as connection:
        for window, counts in (
            (ListWindow(5), 0),
            (ListWindow(2, 3), 0),
            (ListWindow(2), 1),
            (ListWindow(2, 7), 1),
            (ListWindow(5, after=0), 1),
        ):
            asked: list[str] = []
            assert (await windows.read_part(connection, rows, total, window, counted=True)).total == 5
            assert len(asked) == counts


@pytest.mark.parametrize(("search", "folds"), [("v1", True), ("1.2", False), ("É", True)])
def test_names_are_folded_only_where_like_heeds_their_case(search: str, folds: bool) -> None:
    condition = windows.holds(schema.tags.c.name, search)
    assert ("lower(" in str(condition.compile(dialect=postgresql.dialect()))) is folds  # type: ignore[no-untyped-call]
    assert "lower(" not in str(condition.compile(dialect=sqlite.dialect()))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("names", [["b2", "a", "B"], [], ["a"], ["none", "a_b"]])
async def test_tags_are_found_by_many_names_between_the_first_and_the_last(
    database: Database, names: list[str]
) -> None:
    repository = await add_tags(database)
    async with database.read() as connection:
        found = {tag.tag.text for tag in await tags.list_of_names(connection, repository, names)}
    assert found == set(names) & set(NAMES)
    bounded = among(POSTGRESQL, schema.tags.c.name, names).compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    assert [value for value in bounded.params.values() if isinstance(value, str)] == (
        [min(names), max(names)] if names else []
    )


async def test_a_tag_is_found_with_what_it_points_to(database: Database) -> None:
    repository, later = await add_tags(database), NOW + timedelta(days=1)
    first, second = new_manifest(), new_manifest("two")
    async with database.write() as connection:
        number = await manifests.put(connection, repository, second, NOW)
        await tags.point(connection, repository, Tag("a"), number, later, "ann")
    async with database.read() as connection:
        moved = await tags.find_details(connection, repository, Tag("a"))
        assert moved == StoredTag(Tag("a"), second.descriptor.digest, NOW, later)
        assert await tags.find_details(connection, repository, Tag("absent")) is None
        wanted = [first.descriptor.digest, second.descriptor.digest, Digest.of(b"absent")]
        read = await manifests.read_some(connection, repository, wanted)
        assert {digest: stored.raw for digest, stored in read.items()} == {
            first.descriptor.digest: first.raw,
            second.descriptor.digest: second.raw,
        }


async def test_a_repository_is_found_by_its_id_until_it_is_deleted(database: Database) -> None:
    async with database.write() as connection:
        stored = await add_repository(connection)
        assert await repositories.find_by_id(connection, stored.id) == stored
        await repositories.delete(connection, RepositoryName(stored.path), NOW, "ann")
        assert await repositories.find_by_id(connection, stored.id) is None
        assert await repositories.find_by_id(connection, 10**17) is None
