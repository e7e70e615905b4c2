"""Growth of the tree: how decisions, listings, changes and the start change with the number of projects and users."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, PrincipalKind
from gateway.db import groups, projects, users
from gateway.db.engine import Database
from gateway.db.setup import set_up
from gateway.directory.directory import Directory
from gateway.namespaces.credentials import CredentialKind, CredentialRef
from tests.bench.measure import spread
from tests.bench.peers import RegistryGateway
from tests.parts.ports import free_port

PROJECTS = 100_000
SHARES = (0.01, 0.1, 1.0)
LOOKUPS = 100
CHANGES = 15
PAGE = 100
NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
STORED_NOW = "2025-03-04 05:06:07.000000"


def tree(folder: Path, rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    """Measures trees of 1 %, 10 % and 100 % in turns, so that each size has its share of a disturbance."""
    print("\ngrowth of the tree")
    places = {round(PROJECTS * share): folder / f"tree-{share}" for share in SHARES[: 2 if quick else None]}
    measured: dict[int, list[dict[str, float]]] = {count: [] for count in places}
    for count, place in places.items():
        fill(place / "data" / "gateway.db", count)
    for _ in range(rounds):
        for count, place in places.items():
            figures = asyncio.run(_measure(place / "data" / "gateway.db", count))
            measured[count].append({"start_s": _start(place), **figures})
    found = {}
    for count, runs in measured.items():
        found[str(count)] = {name: spread([run[name] for run in runs]).median for name in runs[0]}
        print(f"  {count:>9,}", "  ".join(f"{name} {value:.3g}" for name, value in found[str(count)].items()))
    return found


def fill(file: Path, count: int) -> None:
    """Makes a database of `count` projects in a tenth as many groups, and half as many users with a token and two
    memberships each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_prepare(file))
    in_groups, people = max(1, count // 10), count // 2
    with closing(sqlite3.connect(file)) as connection, connection:
        (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM groups").fetchone()
        _insert(
            connection,
            "groups",
            "id, path, visibility, proxy_enabled, anonymous_pull, default_upstream, created_at",
            [(first + n, f"group{n}", "public", True, n % 2, "docker.io", STORED_NOW) for n in range(in_groups)],
        )
        _insert(
            connection,
            "projects",
            "id, path, visibility, registry, created_at",
            [(n + 1, f"group{n % in_groups}/project{n}", "private", "enabled", STORED_NOW) for n in range(count)],
        )
        _insert(
            connection,
            "users",
            "id, name, email, admin, external, blocked, created_at",
            [(n + 1, f"user{n}", f"user{n}@example.com", n == 0, False, False, STORED_NOW) for n in range(people)],
        )
        for kind in ("group", "project", "user"):
            column = "name" if kind == "user" else "path"
            known = f"SELECT {column}, '{kind}', id FROM {kind}s"
            connection.execute(f"INSERT OR IGNORE INTO paths (path, kind, node_id) {known}")
        for kind, nodes, start in (("group", in_groups, first), ("project", count, 1)):
            rows = [(start + n % nodes, n + 1, 30, STORED_NOW) for n in range(people)]
            _insert(connection, "members", f"{kind}_id, user_id, role, created_at", rows)
        tokens = [(n + 1, "ci", sha256(b"%d" % n).hexdigest(), "read_registry", STORED_NOW) for n in range(people)]
        _insert(connection, "personal_tokens", "user_id, name, hash, scopes, created_at", tokens)
        jobs = [(n % count + 1, n + 1, sha256(b"j%d" % n).hexdigest(), STORED_NOW, STORED_NOW) for n in range(people)]
        _insert(connection, "jobs", "project_id, user_id, hash, created_at, expires_at", jobs)


async def _prepare(file: Path) -> None:
    await set_up(file)
    async with Database.open(file) as database, database.write() as connection:
        await groups.prepare(connection, NOW)


def _insert(connection: sqlite3.Connection, table: str, columns: str, rows: list[tuple[object, ...]]) -> None:
    holes = ", ".join("?" * len(rows[0]))
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({holes})", rows)


async def _measure(file: Path, count: int) -> dict[str, float]:
    """Milliseconds of each thing at one size of the tree, medians."""
    async with Database.open(file) as database:
        directory = Directory(database, ["docker.io"])
        access = Access(directory, open_proxy=True)

        async def decide(number: int) -> None:
            """Decide about a member of the project itself."""
            user = await directory.user(number + 1)
            assert user is not None
            ref = CredentialRef(CredentialKind.PASSWORD, user.id)
            principal = Principal(PrincipalKind.USER, user.name, user, None, ref)
            name = RepositoryName.parse(f"group{number % (count // 10)}/project{number}/image")
            decision = await access.decide(principal, Action.PULL, await directory.locate(name), NOW)
            assert decision.allowed, decision.reason

        chosen = range(0, count // 2, max(1, count // 2 // LOOKUPS))
        cold = await _times(decide, chosen)
        warm = await _times(decide, chosen)

        async def page(number: int) -> None:
            async with database.read() as connection:
                await projects.list_all(connection, after=f"group{number % 10}", limit=PAGE)

        async def page_of_users(number: int) -> None:
            async with database.read() as connection:
                await users.list_all(connection, after=f"user{number % 10}", limit=PAGE)

        changes = await _measure_changes(database)
        figures = {"cold_ms": cold, "warm_ms": warm}
        figures |= {"page_ms": await _times(page, range(CHANGES))}
        return figures | {"users_page_ms": await _times(page_of_users, range(CHANGES))} | changes


async def _measure_changes(database: Database) -> dict[str, float]:
    """Milliseconds of transactions that make and delete nodes, the commits to the disk included."""

    async def create_project(number: int) -> None:
        async with database.write() as connection:
            await projects.create(connection, f"group0/new{number}", NOW)

    async def delete_project(number: int) -> None:
        async with database.write() as connection:
            await projects.delete(connection, f"group0/new{number}", NOW)

    async def create_user(number: int) -> None:
        async with database.write() as connection:
            await users.create(connection, f"new{number}", NOW, admin=True)

    async def delete_user(number: int) -> None:
        async with database.write() as connection:
            await users.delete(connection, f"new{number}")

    works = {"new_project": create_project, "del_project": delete_project, "new_user": create_user}
    works |= {"del_user": delete_user}
    return {f"{name}_ms": await _times(work, range(CHANGES)) for name, work in works.items()}


async def _times(work: Callable[[int], Awaitable[None]], numbers: range) -> float:
    """Median milliseconds of the work."""
    times = []
    for number in numbers:
        began = time.perf_counter()
        await work(number)
        times.append(time.perf_counter() - began)
    return spread(times).median * 1000


def _start(place: Path) -> float:
    """Seconds until a server on this folder is ready."""
    ours = RegistryGateway()
    began = time.perf_counter()
    ours.start(place, f"http://127.0.0.1:{free_port()}")
    took = time.perf_counter() - began
    ours.stop()
    return took
