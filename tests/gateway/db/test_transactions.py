"""Transactions of gateway.db: writers take turns, and what one has read holds; on each engine."""

import asyncio
import multiprocessing
from datetime import UTC, datetime
from traceback import format_exception

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from gateway.db import groups, schema
from gateway.db.address import DatabaseAddress
from gateway.db.engine import Database
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
