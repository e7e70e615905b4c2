"""Pages of the REST API's lists at any place of 100,000 tags and 10,000 repositories, and cleanups of all the tags and
of all the repositories, on SQLite and PostgreSQL: what the database and its driver take, without HTTP."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from sqlalchemy import insert

from gateway.db import cleanups, manifests, paths, schema
from gateway.db.address import DatabaseAddress, PostgresqlAddress
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.setup import set_up
from gateway.db.windows import ListWindow
from gateway.namespaces.cleanup_policy import CleanupPolicy
from gateway.namespaces.reach import PullReach
from gateway.registry.cleaner import Cleaner
from gateway.registry.inventory import Inventory
from gateway.registry.native_store import parse_stored
from tests.bench.measure import spread
from tests.gateway.db.identity_rows import add_project
from tests.gateway.db.native_rows import add_repository, new_manifest
from tests.parts.ports import HOST
from tests.parts.postgresql import PASSWORD, USER, Databases, Postgresql

TAGS, REPOSITORIES, PAGE = 100_000, 10_000, 100
BESIDE = "team/many"
READS = 15
NOW = datetime(2030, 1, 1, tzinfo=UTC)
EVERYTHING = PullReach(everything=True)


def tag_lists(folder: Path, rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    """Medians of milliseconds by engine, and the seconds of a cleanup."""
    print(f"\ntag lists: {TAGS:,} tags, {REPOSITORIES:,} repositories; wanted: a page <= 20 ms, of groups <= 50 ms")
    found = {"sqlite": asyncio.run(_measured(folder / "tag-lists.db"))}
    server = Postgresql()
    server.start()
    try:
        found["postgresql"] = asyncio.run(_on_postgresql(server))
    finally:
        server.close()
    for engine, figures in found.items():
        print(f"  {engine:10}", "  ".join(f"{name} {value:.1f}" for name, value in figures.items()))
    return found


async def _on_postgresql(server: Postgresql) -> dict[str, float]:
    databases = Databases(server)
    await databases.prepare()
    async with databases.made() as address:
        return await _measured(address)


@asynccontextmanager
async def _opened(address: DatabaseAddress) -> AsyncIterator[tuple[Database, StoredRepository]]:
    """A database with a repository that has the tags, in a project of its own, beside one with all others."""
    await set_up(address)
    async with Database.open(address) as database:
        async with database.write() as connection:
            repository = await add_repository(connection)
            beside = await add_project(connection, BESIDE)
            number = await manifests.put(connection, repository.id, new_manifest(), NOW)
            tags = [
                {
                    "repository_id": repository.id,
                    "name": f"v{place:06}",
                    "manifest_id": number,
                    "created_at": NOW,
                    "moved_at": NOW - timedelta(minutes=place * 7919 % TAGS),
                }
                for place in range(TAGS)
            ]
            others = [
                {"project_id": beside.id, "path": f"{BESIDE}/r{place:05}", "created_at": NOW}
                for place in range(REPOSITORIES)
            ]
            for first in range(0, TAGS, 5_000):
                await connection.execute(insert(schema.tags), tags[first : first + 5_000])
            for first in range(0, REPOSITORIES, 5_000):
                await connection.execute(insert(schema.repositories), others[first : first + 5_000])
        if not isinstance(address, Path):
            await _vacuum(address)
        yield database, repository


async def _vacuum(address: PostgresqlAddress) -> None:
    """Do what a server with autovacuum, which that of the tests has not, does within a minute of so many rows."""
    connection = await asyncpg.connect(
        host=HOST, port=address.port, user=USER, password=PASSWORD, database=address.name, timeout=30
    )
    try:
        await connection.execute("VACUUM ANALYZE tags, repositories, projects")
    finally:
        await connection.close()


async def _measured(address: DatabaseAddress) -> dict[str, float]:
    async with _opened(address) as (database, repository):
        inventory = Inventory(database, parse_stored)
        figures: dict[str, float] = {}
        for place, offset in {"first": 0, "middle": TAGS // 2, "last": TAGS - PAGE}.items():
            window = ListWindow(PAGE, offset)
            figures[f"name_{place}"] = await _median(_names(inventory, repository, window))
            figures[f"date_{place}"] = await _median(_dates(inventory, repository, window))
        for text in ("v0500", "99", "none"):
            window = ListWindow(PAGE, search=text)
            figures[f"search_{text}"] = await _median(_names(inventory, repository, window))
            figures[f"search_{text}_date"] = await _median(_dates(inventory, repository, window))
        for place, offset in {"first": 0, "last": REPOSITORIES - PAGE}.items():
            figures[f"group_{place}"] = await _median(_group(inventory, ListWindow(PAGE, offset)))
        figures |= await _cleaned(database, repository)
        figures["untagged_s"] = await _passed_over(database)
    return figures


def _names(inventory: Inventory, repository: StoredRepository, window: ListWindow) -> Callable[[], Awaitable[object]]:
    return lambda: inventory.tags(repository.id, window, counted=True)


def _dates(inventory: Inventory, repository: StoredRepository, window: ListWindow) -> Callable[[], Awaitable[object]]:
    return lambda: inventory.dated_tags(repository.id, window, None, counted=True)


def _group(inventory: Inventory, window: ListWindow) -> Callable[[], Awaitable[object]]:
    return lambda: inventory.repositories_below("team", EVERYTHING, RepositoryOrder.PATH, window, counted=True)


async def _median(read: Callable[[], Awaitable[object]]) -> float:
    """The median of the milliseconds of some reads."""
    took: list[float] = []
    for _ in range(READS):
        began = time.perf_counter()
        await read()
        took.append((time.perf_counter() - began) * 1000)
    return spread(took).median


async def _cleaned(database: Database, repository: StoredRepository) -> dict[str, float]:
    """Seconds of a cleanup of all tags, wall and CPU of this process, and the MiB by which its memory grew."""
    policy = CleanupPolicy(enabled=True, keep_n=None, older_than=None)
    async with database.write() as connection:
        await cleanups.save(connection, repository.project_id, policy, NOW)
    cleaner = Cleaner(database, lambda: NOW + timedelta(days=1), lambda cleaned: None)
    memory, cpu, began = _memory(), time.process_time(), time.perf_counter()
    await cleaner.clean(repository.project_id)
    figures = {
        "cleanup_s": time.perf_counter() - began,
        "cleanup_cpu_s": time.process_time() - cpu,
        "cleanup_grown_mib": _memory() - memory,
    }
    async with database.read() as connection:
        stored = await cleanups.find(connection, repository.project_id)
    assert stored is not None and stored.deleted == TAGS, stored
    return figures


async def _passed_over(database: Database) -> float:
    """Seconds of a cleanup of the repositories, which have no tags."""
    async with database.write() as connection:
        project = (await paths.get(connection, BESIDE)).key.id
        await cleanups.save(connection, project, CleanupPolicy(enabled=True), NOW)
    cleaner, began = Cleaner(database, lambda: NOW + timedelta(days=1), lambda cleaned: None), time.perf_counter()
    await cleaner.clean(project)
    return time.perf_counter() - began


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
