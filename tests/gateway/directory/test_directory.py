"""The directory against a database that others write: what it keeps in memory, and what it reads again."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from timeit import timeit
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine, event, text

from cache.oci.names import RepositoryName
from gateway.db import groups
from gateway.db.changes import Concern, announce
from gateway.db.engine import Database, migrate
from gateway.db.sqlite_steps import Work
from gateway.directory.directory import Directory
from gateway.directory.places import Located
from gateway.namespaces.group import Group
from gateway.namespaces.locate import ProxiedLocation, Root
from gateway.namespaces.node import Visibility

T = TypeVar("T")
NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
UPSTREAMS = ("quay.io", "docker.io", "localhost")
HUB = Group(1, "hub", Visibility.PUBLIC, True, True, "docker.io", None, None, NOW)
NAME = RepositoryName.parse("hub/dependency_proxy/containers/x")
X = RepositoryName.parse("library/x")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    async with Database.open(tmp_path / "gateway.db") as database:
        async with database.write() as connection:
            await groups.prepare(connection, NOW)
        yield database


@pytest.fixture
def directory(database: Database) -> Directory:
    return Directory(database, UPSTREAMS)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements that read groups from now on."""
    seen: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if "FROM groups" in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


def at_once(lookup: Coroutine[Any, Any, Any]) -> Any:
    """The result of a lookup that does not switch tasks."""
    with pytest.raises(StopIteration) as ended:
        lookup.send(None)
    return ended.value.value


async def test_a_group_is_read_once_and_then_found_in_memory(directory: Directory, statements: list[str]) -> None:
    assert await directory.find_group("hub") == HUB
    assert (await directory.locate(NAME)).location == ProxiedLocation(HUB, "docker.io", X)
    assert at_once(directory.find_group("hub")) == HUB
    assert at_once(directory.locate(NAME)).location == ProxiedLocation(HUB, "docker.io", X)
    assert len(statements) == 1


async def test_an_absence_is_remembered_until_that_group_is_created(
    database: Database, directory: Directory, statements: list[str]
) -> None:
    name = RepositoryName.parse("other/dependency_proxy/containers/x")
    for _ in range(3):
        assert await directory.find_group("other") is None
        assert await directory.locate(name) == Located(name.text, None)
    assert len(statements) == 1
    async with database.write() as connection:
        await groups.create(connection, "other", NOW)
    assert isinstance((await directory.locate(name)).location, ProxiedLocation)


async def test_a_root_and_a_native_name_are_located_too(directory: Directory, statements: list[str]) -> None:
    quay = Root("hub", "quay.io")
    assert (await directory.locate(X, quay)).location == ProxiedLocation(HUB, "quay.io", X)
    assert await directory.locate(X) == Located(X.text, None)
    assert at_once(directory.locate(X, quay)).location == ProxiedLocation(HUB, "quay.io", X)
    assert await directory.locate(X, Root("none", "quay.io")) == Located(X.text, None)
    assert len(statements) == 2


def create_elsewhere(path: Path) -> None:
    """Work of another process: open, create, close."""

    async def create() -> None:
        async with Database.open(path) as database, database.write() as connection:
            await groups.create(connection, "other", NOW)

    asyncio.run(create())


@pytest.mark.usefixtures("processes")
async def test_a_commit_of_another_process_is_seen_by_the_next_lookup(database: Database, directory: Directory) -> None:
    assert await directory.find_group("other") is None
    other = multiprocessing.get_context("spawn").Process(target=create_elsewhere, args=(database.address,))
    other.start()
    await asyncio.to_thread(other.join)
    assert other.exitcode == 0
    assert await directory.find_group("other") is not None


async def test_a_change_of_this_process_is_seen_by_the_next_lookup(database: Database, directory: Directory) -> None:
    await directory.locate(NAME)
    async with database.write() as connection:
        await groups.update(connection, replace(HUB, default_upstream="quay.io"))
    assert (await directory.locate(NAME)).location == ProxiedLocation(
        replace(HUB, default_upstream="quay.io"), "quay.io", RepositoryName.parse("x")
    )
    async with database.write() as connection:
        await groups.delete(connection, "hub")
    assert (await directory.locate(NAME)).place is None


async def test_a_commit_that_names_no_group_in_memory_reads_none_again(
    database: Database, directory: Directory, statements: list[str]
) -> None:
    """Pushes will commit all the time; a worker that read its groups again with each would do nothing else."""
    await directory.locate(NAME)
    for _ in range(3):
        async with database.write() as connection:
            await connection.execute(text("UPDATE installation SET prepared_at = prepared_at"))
        assert at_once(directory.locate(NAME)).location == ProxiedLocation(HUB, "docker.io", X)
    assert len(statements) == 1


async def test_a_change_of_one_group_leaves_the_others_in_memory(
    database: Database, directory: Directory, statements: list[str]
) -> None:
    await directory.find_group("hub")
    async with database.write() as connection:
        await groups.create(connection, "other", NOW)
    assert at_once(directory.find_group("hub")) == HUB
    await directory.find_group("other")
    assert len(statements) == 2


async def test_a_directory_that_missed_too_many_changes_reads_everything_again(
    database: Database, directory: Directory, statements: list[str]
) -> None:
    await directory.locate(NAME)
    async with database.write() as connection:
        for _ in range(3):
            await announce(connection, Concern.GROUP, "other", kept=1)
    await directory.locate(NAME)
    assert len(statements) == 2


class HeldDatabase(Database):
    """A database whose first reader does not return before `released`."""

    has_read: asyncio.Event
    released: asyncio.Event

    async def query(self, work: Work[T]) -> T:
        result = await super().query(work)
        if not self.has_read.is_set():
            self.has_read.set()
            await self.released.wait()
        return result


async def test_a_group_that_changes_while_it_is_read_is_not_kept(database: Database) -> None:
    async with HeldDatabase.open(database.address) as held:
        assert isinstance(held, HeldDatabase)
        held.has_read, held.released = asyncio.Event(), asyncio.Event()
        directory = Directory(held, UPSTREAMS)
        locating = asyncio.create_task(directory.locate(NAME))
        await held.has_read.wait()
        changed = replace(HUB, default_upstream="quay.io")
        async with database.write() as connection:
            await groups.update(connection, changed)
        assert await directory.find_group("other") is None  # which learns of the change
        held.released.set()
        assert (await locating).location == ProxiedLocation(HUB, "docker.io", X)
        assert await directory.find_group("hub") == changed
        assert (await directory.locate(NAME)).location == ProxiedLocation(changed, "quay.io", RepositoryName.parse("x"))


async def test_a_lookup_costs_microseconds_when_nothing_has_changed(database: Database) -> None:
    async with Database.open(database.address, look_every=0.005) as watched:
        directory = Directory(watched, UPSTREAMS)
        await directory.locate(NAME)

        def look_up() -> None:
            with suppress(StopIteration):
                directory.locate(NAME).send(None)

        assert min(timeit(look_up, number=100) for _ in range(100)) / 100 < 10e-6  # below 1 µs on an idle machine
