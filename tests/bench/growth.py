"""Growth of the index: how a hit, the memory and the start change with 1,000, 100,000 and 1,000,000 blobs and links."""

import sqlite3
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from tests.bench.clients import get
from tests.bench.measure import memory_bytes, spread
from tests.bench.peers import IMAGE, RegistryGateway
from tests.parts.registry import Registry

MB = 1024 * 1024
HITS = 200


def growth(folder: Path, rounds: int, quick: bool) -> dict[str, dict[str, float]]:
    """Measures hits on blobs that were never requested since the start, so that none is in memory."""
    print("\ngrowth of the index")
    found: dict[str, dict[str, float]] = {}
    for entries in (1_000, 100_000) if quick else (1_000, 100_000, 1_000_000):
        place = folder / f"growth-{entries}"
        registry = Registry(place / "upstream")
        registry.start()
        digest = registry.put_blob(IMAGE, b"growth")
        ours = RegistryGateway()
        ours.start(place / "ours", registry.url)
        get(f"{ours.base}/blobs/{digest}")
        ours.stop()
        held = _fill(ours.data, entries)
        began = time.perf_counter()
        ours.restart()
        start = time.perf_counter() - began
        waits = [hit(f"{ours.base}/blobs/{name}") for name in held]
        again = [hit(f"{ours.base}/blobs/{name}") for name in held]
        figures = {
            "start_s": start,
            "first_hit_ms": spread(waits).median * 1000,
            "hit_ms": spread(again).median * 1000,
            "memory_mb": memory_bytes(ours.pids) / MB,
        }
        ours.stop()
        registry.stop()
        found[str(entries)] = figures
        print(f"  {entries:>9,}", "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
    return found


def hit(url: str) -> float:
    """Seconds of a hit. Raises RuntimeError for anything else, so that no miss is measured as a hit."""
    got = get(url)
    if got.status != 200:
        raise RuntimeError(f"{url}: {got.status}")
    return got.seconds


def _fill(data: Path, entries: int) -> list[str]:
    """Adds rows for `entries` blobs and links of one image; returns the digests of those that also have files."""
    held = []
    with closing(sqlite3.connect(data / "cache.db")) as connection, connection:
        [(image,)] = connection.execute("SELECT id FROM images")

        def names() -> list[str]:
            return [sha256(str(number).encode()).hexdigest() for number in range(entries)]

        everything = names()
        rows = ((f"sha256:{name}", len(str(number))) for number, name in enumerate(everything))
        connection.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", rows)
        connection.executemany(
            "INSERT OR IGNORE INTO links (digest, image_id) VALUES (?, ?)", ((f"sha256:{n}", image) for n in everything)
        )
        for number in range(0, entries, max(1, entries // HITS)):
            content = str(number).encode()
            place = data / "cache" / "sha256" / everything[number][:2] / everything[number]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            held.append(f"sha256:{everything[number]}")
    return held[:HITS]
