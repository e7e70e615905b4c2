"""Pages of 100 tags of a repository with 100,000: the first, one in the middle and the last."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.bench.clients import get
from tests.bench.measure import spread
from tests.bench.pushes import GatewayStore, publish
from tests.parts.ports import free_port

TAGS, PAGE = 100_000, 100
READS = 50
PLACES = {"first_ms": "", "middle_ms": f"&last=v{TAGS // 2:06}", "last_ms": f"&last=v{TAGS - PAGE - 1:06}"}


def many_tags(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    """Medians of the milliseconds of a page at each place, each read as often."""
    print(f"\nmany tags: {TAGS:,}")
    store = GatewayStore()
    store.start(folder / "many-tags", f"http://127.0.0.1:{free_port()}")
    try:
        publish(store)
        store.stop()
        with closing(sqlite3.connect(store.data / "gateway.db")) as connection, connection:
            [row] = connection.execute("SELECT repository_id, manifest_id, created_at, moved_at FROM tags").fetchall()
            rows = ((row[0], f"v{number:06}", *row[1:]) for number in range(TAGS))
            columns = "repository_id, name, manifest_id, created_at, moved_at"
            connection.executemany(f"INSERT INTO tags ({columns}) VALUES (?, ?, ?, ?, ?)", rows)
        store.restart()
        figures = {name: spread([_page(store, place) for _ in range(READS)]).median for name, place in PLACES.items()}
    finally:
        store.stop()
    print("  ", "  ".join(f"{name} {value:.2f}" for name, value in figures.items()), "wanted: all alike, and <= 10")
    return figures


def _page(store: GatewayStore, place: str) -> float:
    """Milliseconds of one page. Raises RuntimeError where it is no page of 100."""
    got = get(f"{store.base}/tags/list?n={PAGE}{place}", f"{store.header}\r\n", keep_body=True)
    if got.status != 200 or got.body.count(b'"v') != PAGE - (not place):
        raise RuntimeError(f"{place}: {got.status} {got.body[:200]!r}")
    return got.seconds * 1000
