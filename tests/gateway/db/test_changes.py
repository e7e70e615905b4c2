"""Changes of gateway.db: who is notified of them, in this and in another process, and what a late reader does."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, insert, select, text

from gateway.db import groups
from gateway.db.address import DatabaseAddress
from gateway.db.changes import ChangeSignal, Concern, announce, announce_all
from gateway.db.engine import Database, DatabaseUnusable
from gateway.db.schema import changes

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture
async def signal(database: Database) -> AsyncIterator[ChangeSignal]:
    """The signal of another process, as it were: it learns of changes from the database alone."""
    async with Database.open(database.address) as other:
        yield other.changes


def drops(signal: ChangeSignal) -> list[str | None]:
    """The keys of groups that the signal drops from now on."""
    dropped: list[str | None] = []
    signal.subscribe(Concern.GROUP, dropped.append)
    return dropped


async def tell(database: Database, *keys: str, kept: int = 10_000) -> None:
    async with database.write() as connection:
        for key in keys:
            await announce(connection, Concern.GROUP, key, kept)


async def test_every_query_that_changes_a_group_announces_its_path(database: Database, signal: ChangeSignal) -> None:
    dropped = drops(signal)
    async with database.write() as connection:
        await groups.create(connection, "a", NOW)
        group = await groups.create(connection, "a/b", NOW)
    await signal.refresh()
    assert dropped == ["a", "a/b"]
    async with database.write() as connection:
        await groups.update(connection, group)
    await signal.refresh()
    assert dropped[2:] == ["a/b"]
    async with database.write() as connection:
        await groups.delete(connection, "a/b")
    await signal.refresh()
    assert dropped[3:] == ["a/b"]


async def test_a_change_that_is_rolled_back_is_not_announced(database: Database, signal: ChangeSignal) -> None:
    dropped = drops(signal)
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await groups.create(connection, "a", NOW)
            raise ZeroDivisionError
    await signal.refresh()
    assert dropped == []


async def test_what_was_announced_before_is_not_told_again(database: Database) -> None:
    await tell(database, "before")
    async with Database.open(database.address) as other:
        dropped = drops(other.changes)
        await tell(database, "a")
        await other.changes.refresh()
        await other.changes.refresh()
    assert dropped == ["a"]


def announce_elsewhere(address: DatabaseAddress) -> None:
    async def write() -> None:
        async with Database.open(address) as database:
            await tell(database, "elsewhere")

    asyncio.run(write())


async def test_a_refresh_looks_at_the_database_however_short_ago_it_was_looked_at(database: Database) -> None:
    async with Database.open(database.address, look_every=3600) as other:
        dropped = drops(other.changes)
        await tell(database, "a")
        await other.changes.refresh()
        assert dropped == ["a"]
        await tell(database, "b")
        await other.changes.require_newest()
        assert dropped == ["a", "b"]


@pytest.mark.usefixtures("processes")
async def test_changes_of_another_process_are_seen(database: Database, signal: ChangeSignal) -> None:
    dropped = drops(signal)
    other = multiprocessing.get_context("spawn").Process(target=announce_elsewhere, args=(database.address,))
    other.start()
    await asyncio.to_thread(other.join)
    assert other.exitcode == 0
    await signal.refresh()
    assert dropped == ["elsewhere"]


async def test_a_commit_or_a_concern_of_no_interest_drops_nothing(database: Database, signal: ChangeSignal) -> None:
    dropped = drops(signal)
    async with database.write() as connection:
        await connection.execute(text("UPDATE installation SET prepared_at = prepared_at"))
        await connection.execute(insert(changes).values(concern="another", key="a"))
    await signal.refresh()
    assert dropped == []
    await tell(database, "b")
    await signal.refresh()
    assert dropped == ["b"]


async def test_the_log_is_pruned(database: Database) -> None:
    await tell(database, *map(str, range(20)), kept=5)
    async with database.read() as connection:
        assert (await connection.execute(select(changes.c.key).order_by(changes.c.seq))).scalars().all() == [
            *("15", "16", "17", "18", "19")
        ]


@pytest.mark.parametrize(("count", "dropped"), [(5, ["0", "1", "2", "3", "4"]), (6, [None]), (20, [None])])
async def test_a_reader_whose_last_number_is_pruned_drops_everything(
    database: Database, signal: ChangeSignal, count: int, dropped: list[str | None]
) -> None:
    await tell(database, "before", kept=5)
    await signal.refresh()
    told = drops(signal)
    await tell(database, *map(str, range(count)), kept=5)
    await signal.refresh()
    assert told == dropped
    await tell(database, "after", kept=5)
    await signal.refresh()
    assert told == [*dropped, "after"]


@pytest.mark.parametrize(("count", "dropped"), [(0, []), (5, ["0", "1", "2", "3", "4"]), (6, [None]), (20, [None])])
async def test_many_changes_are_announced_at_once(
    database: Database, signal: ChangeSignal, count: int, dropped: list[str | None]
) -> None:
    await tell(database, "before", kept=5)
    await signal.refresh()
    told = drops(signal)
    async with database.write() as connection:
        await announce_all(connection, Concern.GROUP, [str(number) for number in range(count)], kept=5)
    await signal.refresh()
    assert told == dropped
    await tell(database, "after", kept=5)
    await signal.refresh()
    assert told == [*dropped, "after"]


async def test_numbers_do_not_return_when_all_rows_are_deleted(database: Database, signal: ChangeSignal) -> None:
    await tell(database, "a", "b")
    await signal.refresh()
    dropped = drops(signal)
    async with database.write() as connection:
        await connection.execute(text("DELETE FROM changes"))
    await tell(database, "c")
    async with database.read() as connection:
        assert await connection.scalar(select(func.max(changes.c.seq))) == 3
    await signal.refresh()
    assert dropped == ["c"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_memories_of_a_database_that_cannot_be_read_stay_and_are_not_current_after_a_second(
    database: Database, signal: ChangeSignal
) -> None:
    dropped = drops(signal)
    await signal.require_current()
    async with database.write() as connection:
        await announce(connection, Concern.GROUP, "a")
        await connection.execute(text("ALTER TABLE changes RENAME TO away"))
    signal.catch_up()
    with pytest.raises(DatabaseUnusable, match="no such table: changes"):
        await signal.require_newest()
    with pytest.raises(DatabaseUnusable, match="no such table: changes"):
        async with asyncio.timeout(30):
            while True:
                await signal.require_current()
                await asyncio.sleep(0.02)
    assert dropped == []
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE away RENAME TO changes"))
    await signal.require_current()
    assert dropped == ["a"]
