"""Transactions of gateway.db: writers take turns, and what one has read holds; on each engine."""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from traceback import format_exception

import pytest
from sqlalchemy import Engine, event, select, text, update
from sqlalchemy.exc import IntegrityError

from cache.runtime.fair_queue import Requester
from cache.runtime.on_behalf import on_behalf_of
from gateway.db import groups, schema
from gateway.db.address import DatabaseAddress
from gateway.db.changes import Concern
from gateway.db.connection import Connection
from gateway.db.engine import Database, DatabaseUnusable
from gateway.namespaces.errors import PathTaken

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SPAWN = multiprocessing.get_context("spawn")


async def create(database: Database, *paths: str) -> None:
    async with database.write() as connection:
        for path in paths:
            await groups.create(connection, path, NOW)


async def paths(database: Database) -> list[str]:
    async with database.read() as connection:
        return [group.path for group in await groups.list_all(connection)]


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(PathTaken):
        await create(database, "a", "b", "a")
    assert await paths(database) == []


async def test_a_writer_that_is_cancelled_gives_its_turn_back(database: Database) -> None:
    async with database.write():
        waiting = [asyncio.create_task(create(database, path)) for path in ("a", "b", "c")]
        await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    assert await paths(database) == ["c"]


async def test_what_a_writer_read_stays_true_until_it_commits(database: Database) -> None:
    async def create_next() -> None:
        async with database.write() as connection:
            count = len(await groups.list_all(connection))
            await groups.create(connection, f"g{count}", NOW)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(create_next())
    assert await paths(database) == [f"g{number}" for number in range(8)]


def write_often(address: DatabaseAddress, name: str, times: int) -> None:
    """Work of another process: `times` transactions that read, wait for the disk and write."""

    async def write() -> None:
        async with Database.open(address) as database:
            for _ in range(times):
                async with database.write() as connection:
                    count = len(await groups.list_all(connection))
                    await groups.create(connection, f"{name}-{count}", NOW)

    asyncio.run(write())


async def test_the_error_of_a_statement_shows_no_row(database: Database) -> None:
    with pytest.raises(IntegrityError) as raised:
        async with database.write() as connection:
            await groups.create(connection, "a", NOW)
            values = {"upstream_password_sealed": "s3cret"}
            await connection.execute(update(schema.groups).values(values))
    assert "s3cret" not in "".join(format_exception(raised.value))


async def test_a_query_sees_what_was_committed_before_it(database: Database) -> None:
    for count in range(1, 4):
        await create(database, f"g{count}")
        assert len(await database.query(groups.list_all)) == count


async def test_queries_at_once_each_get_what_they_read(database: Database) -> None:
    async def number(connection: Connection, wanted: int) -> int:
        return int((await connection.execute(select(wanted))).scalar_one())

    found = await asyncio.gather(*(database.query(partial(number, wanted=wanted)) for wanted in range(20)))
    assert found == list(range(20))


async def test_the_queries_of_one_requester_leave_the_next_one_to_another(database: Database, engine: str) -> None:
    if engine != "sqlite":
        pytest.skip("PostgreSQL reads with many connections at a time")
    done: list[str] = []

    async def query(client: str) -> None:
        with on_behalf_of(Requester(client, client)):
            await database.query(partial(groups.find, path=client))
            done.append(client)

    await asyncio.gather(*(query("one") for _ in range(200)), query("other"))
    assert done.index("other") < 20
    assert len(done) == 201


async def test_a_query_whose_requester_has_left_is_not_begun(database: Database, engine: str) -> None:
    if engine != "sqlite":
        pytest.skip("PostgreSQL reads with many connections at a time")
    done: list[int] = []

    async def work(connection: Connection, number: int) -> None:
        done.append(number)
        await groups.find(connection, "a")

    queries = [asyncio.create_task(database.query(partial(work, number=number))) for number in range(100)]
    await asyncio.sleep(0)
    for each in queries[50:]:
        each.cancel()
    await asyncio.gather(*queries, return_exceptions=True)
    assert sorted(done) == list(range(50))


async def test_a_query_that_fails_or_writes_leaves_nothing_to_those_after_it(database: Database) -> None:
    async def fail(connection: Connection) -> None:
        await groups.list_all(connection)
        raise ZeroDivisionError

    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await database.query(fail)
    with suppress(DatabaseUnusable):
        await database.query(creating("never"))
    assert await paths(database) == await database.query(groups.list_all) == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_query_waits_for_no_writer(database: Database) -> None:
    async with database.write() as connection:
        await groups.create(connection, "a", NOW)
        assert await database.query(groups.list_all) == []


def creating(path: str) -> Callable[[Connection], Coroutine[None, None, None]]:
    """The work of a transaction that creates a group."""

    async def work(connection: Connection) -> None:
        await groups.create(connection, path, NOW)

    return work


async def test_of_transactions_at_once_the_one_that_fails_alone_leaves_nothing(database: Database) -> None:
    async def fail(connection: Connection) -> None:
        await groups.create(connection, "b", NOW)
        raise ZeroDivisionError

    async with database.write():
        works = [creating("a"), fail, creating("c"), creating("d")]
        running = [asyncio.ensure_future(database.transact(work)) for work in works]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), ZeroDivisionError, type(None), type(None)]
    assert await paths(database) == ["a", "c", "d"]


async def test_what_a_transaction_read_stays_true_until_it_commits(database: Database) -> None:
    async def create_next(connection: Connection) -> str:
        name = f"g{len(await groups.list_all(connection))}"
        await groups.create(connection, name, NOW)
        return name

    names = await asyncio.gather(*(database.transact(create_next) for _ in range(8)))
    assert sorted(names) == await paths(database) == [f"g{number}" for number in range(8)]


async def test_a_transaction_is_seen_by_this_process_when_it_returns(database: Database) -> None:
    dropped: list[str | None] = []
    database.changes.subscribe(Concern.GROUP, dropped.append)
    await database.transact(creating("a"))
    assert dropped == ["a"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_one_commit_serves_all_that_wait_for_it(database: Database) -> None:
    commits: list[object] = []

    def note(connection: object) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", note)
    try:
        async with database.write():
            running = [asyncio.ensure_future(database.transact(creating(name))) for name in ("a", "b", "c", "d")]
            await asyncio.sleep(0)
        await asyncio.gather(*running)
    finally:
        event.remove(Engine, "commit", note)
    assert len(commits) == 2
    assert await paths(database) == ["a", "b", "c", "d"]


async def test_a_transaction_that_is_cancelled_before_its_turn_leaves_nothing(database: Database) -> None:
    async with database.write():
        waiting = [asyncio.create_task(database.transact(creating(path))) for path in ("a", "b", "c")]
        await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
    await waiting[2]
    assert await paths(database) == ["c"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_transaction_that_has_begun_is_done_to_its_end_where_its_caller_is_cancelled(
    database: Database,
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def work(connection: Connection) -> None:
        begun.set()
        cancelled.wait(60)
        await groups.create(connection, "a", NOW)

    task = asyncio.create_task(database.transact(work))
    await asyncio.to_thread(begun.wait, 60)
    task.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await paths(database) == ["a"]


async def test_a_transaction_whose_turn_does_not_come_in_time_is_never_done(database: Database) -> None:
    async with Database.open(database.address, turn_seconds=0.05) as other:
        async with database.write():
            with pytest.raises(DatabaseUnusable, match="try again"):
                await other.transact(creating("a"))
        await database.transact(creating("b"))
    assert await paths(database) == ["b"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_transaction_that_waits_for_something_else_is_refused(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await groups.create(connection, "a", NOW)
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="waited for something else"):
        await database.transact(work)
    await database.transact(creating("b"))
    assert await paths(database) == ["b"]


@pytest.mark.usefixtures("processes")
async def test_processes_that_write_at_once_take_turns_and_none_is_refused(database: Database) -> None:
    processes = [SPAWN.Process(target=write_often, args=(database.address, name, 25)) for name in ("x", "y", "z")]
    for process in processes:
        process.start()
    for number in range(25):
        await create(database, f"own-{number}")
    for process in processes:
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
    assert len(await paths(database)) == 100


@pytest.mark.parametrize("durable", [True, False])
async def test_only_a_durable_write_waits_for_the_disk(database: Database, engine: str, durable: bool) -> None:
    setting = "PRAGMA synchronous" if engine == "sqlite" else "SHOW synchronous_commit"
    async with database.write(durable=durable) as connection:
        found = (await connection.execute(text(setting))).scalar_one()
        await groups.create(connection, "a", NOW)
    assert found in ((2, "on") if durable else (1, "off"))
    assert await paths(database) == ["a"]


@pytest.mark.parametrize("durable", [True, False])
async def test_only_a_durable_transaction_waits_for_the_disk(database: Database, engine: str, durable: bool) -> None:
    async def work(connection: Connection) -> object:
        await groups.create(connection, "b" if durable else "a", NOW)
        setting = "PRAGMA synchronous" if engine == "sqlite" else "SHOW synchronous_commit"
        return (await connection.execute(text(setting))).scalar_one()

    await database.transact(work, durable=not durable)
    assert await database.transact(creating("c"), durable=durable) is None
    async with database.write() as connection:
        await groups.delete(connection, "b" if durable else "a")
    assert await database.transact(work, durable=durable) in ((2, "on") if durable else (1, "off"))
