"""The directory where groups and projects have moved: old names lead to the new places, at no other cost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from cache.oci.names import RepositoryName
from gateway.db import groups, moves, projects
from gateway.db.engine import Database
from gateway.directory.directory import Directory
from gateway.directory.places import GroupPlace, Located, ProjectPlace
from gateway.namespaces.locate import NativeLocation, ProxiedLocation, Root
from gateway.upstreams import Upstream

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
KEPT = timedelta(days=90)
IMAGE = "dependency_proxy/containers"


@pytest.fixture
async def moved(database: Database) -> Database:
    """The group `a` with the project `a/p` has moved to `b`, and from there to `c/b`."""
    async with database.write() as connection:
        for path in ("a", "c"):
            await groups.create(connection, path, NOW)
        await projects.create(connection, "a/p", NOW)
        await moves.move_group(connection, "a", "b", NOW, KEPT)
        await moves.move_group(connection, "b", "c/b", NOW + timedelta(days=1), KEPT)
    return database


@pytest.fixture
def directory(moved: Database) -> Directory:
    return Directory(moved, ["docker.io", "quay.io"], ["a", "c"])


async def twice(directory: Directory, name: str, root: Root | None = None) -> Located:
    """Where a name leads, as it is read and as it is remembered."""
    parsed = RepositoryName.parse(name)
    assert directory.remembered(parsed, root) is None
    located = await directory.locate(parsed, root)
    assert directory.remembered(parsed, root) == located
    return located


@pytest.mark.parametrize("old", ["a", "b"])
async def test_the_old_name_of_a_project_leads_to_it(directory: Directory, old: str) -> None:
    located = await twice(directory, f"{old}/p/x/y")
    assert isinstance(located.place, ProjectPlace) and located.place.project.path == "c/b/p"
    assert located.location == NativeLocation(RepositoryName("c/b/p/x/y"))
    assert located.name == f"{old}/p/x/y"
    assert located.former is not None and located.former.present == "c/b/p/x/y"
    assert located.former.until == NOW + KEPT + timedelta(days=0 if old == "a" else 1)
    other = directory.remembered(RepositoryName(f"{old}/p"))
    assert other is not None and other.location == NativeLocation(RepositoryName("c/b/p"))
    assert len(located.place.way) == 3


@pytest.mark.parametrize(
    ("name", "root", "canonical", "upstream"),
    [
        (f"a/{IMAGE}/x", None, f"a/{IMAGE}/library/x", "docker.io"),
        (f"b/{IMAGE}/quay.io/x", None, f"b/{IMAGE}/quay.io/x", "quay.io"),
        (f"b/{IMAGE}/docker.io/x", None, f"b/{IMAGE}/library/x", "docker.io"),
        ("x/y", Root("a", "quay.io"), f"a/{IMAGE}/quay.io/x/y", "quay.io"),
    ],
)
async def test_the_old_name_of_an_image_leads_through_the_group(
    directory: Directory, name: str, root: Root | None, canonical: str, upstream: str
) -> None:
    located = await twice(directory, name, root)
    assert isinstance(located.place, GroupPlace) and located.place.group.path == "c/b"
    assert isinstance(located.location, ProxiedLocation)
    assert (located.location.group.path, located.location.upstream) == ("c/b", upstream)
    assert located.former is not None and located.name == canonical
    assert located.former.present == f"c/b{canonical[1:]}"
    plain = await directory.locate(RepositoryName(located.former.present))
    assert (plain.location, plain.name, plain.former) == (located.location, located.former.present, None)


async def test_an_old_path_of_a_project_is_no_group(directory: Directory) -> None:
    assert (await directory.locate(RepositoryName(f"a/p/{IMAGE}/x"))).place is None


async def test_an_old_name_means_nothing_after_its_end(directory: Directory) -> None:
    located = await directory.locate(RepositoryName("b/p/x"))
    assert located.at(NOW + KEPT) is located
    ended = located.at(NOW + KEPT + timedelta(days=1))
    assert ended == Located("b/p/x", None)


async def test_a_later_move_of_another_process_is_noticed(directory: Directory, moved: Database) -> None:
    names = [RepositoryName(name) for name in ("a/p/x", "c/b/p/x", f"b/{IMAGE}/x", f"c/b/{IMAGE}/x")]
    for name in names:
        assert (await directory.locate(name)).place is not None
    async with Database.open(moved.address) as other, other.write() as connection:
        await moves.move_group(connection, "c/b", "d", NOW + timedelta(days=2), KEPT)
    await moved.changes.refresh()
    for name in names:
        located = await directory.locate(name)
        assert located.former is not None and located.former.present.startswith("d/")
    assert await directory.find_group("c/b") is None


async def test_a_new_node_at_an_ended_path_is_found(directory: Directory, moved: Database) -> None:
    name = RepositoryName("a/p/x")
    assert (await directory.locate(name)).former is not None
    async with moved.write() as connection:
        await groups.create(connection, "a", NOW + KEPT)
        await projects.create(connection, "a/p", NOW + KEPT)
    located = await directory.locate(name)
    assert located.former is None and located.location == NativeLocation(name)


async def test_an_old_name_costs_the_statements_of_an_absent_one(directory: Directory) -> None:
    seen: list[str] = []

    def note(*given: Any) -> None:
        seen.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)
    counts = []
    try:
        for name in ("a/p/x", "b/p/x", "absent/p/x", f"a/{IMAGE}/x", f"absent/{IMAGE}/x"):
            seen.clear()
            await directory.locate_all([RepositoryName(name)])
            counts.append(len([statement for statement in seen if "FROM changes" not in statement]))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert counts[0] == counts[1] == counts[2] > 0 and counts[3] == counts[4] > 0


async def test_a_group_keeps_the_account_that_settings_lend_it_by_an_old_path(directory: Directory) -> None:
    group = await directory.find_group("c/b")
    other = await directory.find_group("c")
    assert group is not None and other is not None and group.listed_as == {"a"}
    lending = Upstream("quay.io", "https://quay.io", username="robot", groups=frozenset({"a"}))
    assert lending.lends_to(group) and not lending.lends_to(other)
    assert not replace(lending, groups=frozenset({"b"})).lends_to(group)
