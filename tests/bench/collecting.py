"""Garbage collection of a store with 1,000,000 blobs, and small pushes beside it; pages of a long history of a tag."""

import asyncio
import hashlib
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cache.oci.names import RepositoryName, Tag
from gateway.db import repositories, tag_events
from gateway.db.engine import Database
from tests.bench.measure import memory_bytes, spread
from tests.bench.pushes import PROJECT, GatewayStore, publish, push_small
from tests.bench.work import percentile
from tests.parts.ports import free_port

MB = 1024 * 1024
BLOBS = 1_000_000
EVENTS, PAGE = 10_000, 100
PUSHES = 100
"""Small pushes of one half of a pair."""
READS = 50
SIZE = 100


def collecting(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    """How many blobs nothing needs are deleted in a second, by how much that grows the memory of the server, and how
    much longer small pushes take beside it than beside an idle store."""
    blobs = BLOBS // 20 if quick else BLOBS
    print(f"\ncollecting: {blobs:,} blobs that nothing needs")
    busy, idle = GatewayStore(), GatewayStore()
    try:
        for store, name in ((busy, "busy"), (idle, "idle")):
            store.start(folder / f"collecting-{name}", f"http://127.0.0.1:{free_port()}")
            publish(store)
        busy.stop()
        _fill(busy.data, blobs)
        busy.restart()
        for store in (busy, idle):
            store.log_in()
        time.sleep(10)
        first, left = memory_bytes(busy.pids), _waiting(busy)
        began, slower, times = time.monotonic(), list[float](), list[float]()
        for turn in range(rounds):
            names = [f"{turn}-{number}" for number in range(PUSHES)]
            waits = {store: [push_small(store, name) for name in names] for store in (idle, busy)}
            slower.append(percentile(waits[busy], 0.99) / percentile(waits[idle], 0.99))
            times.append(percentile(waits[busy], 0.99) * 1000)
        still = _waiting(busy)
        rate = (left - still) / (time.monotonic() - began)
        figures = {
            "deleted_per_second": rate,
            "left": float(still),
            "grown_mb": (memory_bytes(busy.pids) - first) / MB,
            "push_p99_ms": spread(times).median,
            "push_p99_ratio": spread(slower).median,
        }
    finally:
        busy.stop()
        idle.stop()
    print("  ", "  ".join(f"{name} {value:.2f}" for name, value in figures.items()), "wanted: ratio <= 1.5")
    return figures


def history(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    """Milliseconds of the first and of the last page of the history of a tag with 10,000 events."""
    print(f"\nhistory: {EVENTS:,} events")
    store = GatewayStore()
    store.start(folder / "history", f"http://127.0.0.1:{free_port()}")
    publish(store)
    store.stop()
    with closing(sqlite3.connect(store.data / "gateway.db")) as connection, connection:
        [row] = connection.execute("SELECT repository_id, name, event, at, actor, to_digest FROM tag_events").fetchall()
        columns = "repository_id, name, event, at, actor, to_digest"
        connection.executemany(f"INSERT INTO tag_events ({columns}) VALUES (?, ?, ?, ?, ?, ?)", [row] * EVENTS)
    figures = asyncio.run(_pages(store.data))
    print("  ", "  ".join(f"{name} {value:.2f}" for name, value in figures.items()), "wanted: <= 10")
    return figures


async def _pages(data: Path) -> dict[str, float]:
    async with Database.open(data / "gateway.db") as database, database.read() as connection:
        found = await repositories.find(connection, RepositoryName(PROJECT))
        assert found is not None
        newest = (await tag_events.list_page(connection, found.id, Tag("small"), limit=1))[0].id
        figures = {}
        for name, before in (("first_ms", newest + 1), ("last_ms", newest - EVENTS + PAGE)):
            times = []
            for _ in range(READS):
                began = time.perf_counter()
                page = await tag_events.list_page(connection, found.id, Tag("small"), before, PAGE)
                times.append((time.perf_counter() - began) * 1000)
                if len(page) != PAGE:
                    raise RuntimeError(f"{name}: a page of {len(page)} events")
            figures[name] = spread(times).median
    return figures


def _fill(data: Path, blobs: int) -> None:
    """Store blobs that no repository has, whose reviews have been due for long, each with a small file."""
    since = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d %H:%M:%S.%f}"
    digests = list[str]()
    for number in range(blobs):
        content = str(number).encode().ljust(SIZE)
        digests.append(digest := hashlib.sha256(content).hexdigest())
        folder = data / "blobs" / "sha256" / digest[:2]
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / digest, os.O_CREAT | os.O_WRONLY, 0o444)
        os.write(descriptor, content)
        os.close(descriptor)
    with closing(sqlite3.connect(data / "gateway.db")) as connection, connection:
        stored = ((f"sha256:{digest}", SIZE, since) for digest in digests)
        connection.executemany("INSERT INTO blobs (digest, size, created_at) VALUES (?, ?, ?)", stored)
        rows = ((f"sha256:{digest}", since) for digest in digests)
        reviews = "INSERT INTO blob_reviews (digest, repository_id, event, since) VALUES (?, 0, 'blob_delete', ?)"
        connection.executemany(reviews, rows)


def _waiting(store: GatewayStore) -> int:
    status = store.command("gc", "status")
    if status["stopped_reason"] is not None:
        raise RuntimeError(status["stopped_reason"])
    return int(status["waiting_blobs"])
