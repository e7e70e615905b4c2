"""Remains of a server: in its processes while it rests, and in its data folder after it has ended."""

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.e2e.datafolder import trouble
from tests.parts import raw
from tests.parts.gateway import Gateway

from .clock import future_dates
from .workers import holdings, workers

METRIC = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
HEX = re.compile(r"[0-9a-f]{64}")
LASTING = ("leases", "uploads")
"""Names that stay in spool/ by design: a lock file is never deleted, or two processes could lock two different
files."""

MORE_DESCRIPTORS = 4
MORE_THREADS = 8
"""Number of threads by which pools may grow after the first look; hundreds of leaking downloads exceed it soon."""


def metric(gateway: Gateway, name: str) -> float | None:
    """Sum of a metric over its labels; None if no metric has that name."""
    text = raw.get(f"{gateway.url}/-/metrics").body.decode()
    values = [float(value) for found, value in METRIC.findall(text) if found == name]
    return sum(values) if values else None


def unrest(gateway: Gateway, base: dict[str, int]) -> list[str]:
    """Reasons why the server does not rest: flights, spools, descriptors and threads above `base`."""
    found = []
    flights = metric(gateway, "gateway_flights")
    if flights != 0:
        found.append(f"gateway_flights is {flights}")
    found += [f"{path.name} in spool/" for path in spools(gateway.data)]
    for pid in workers(gateway):
        held = holdings(gateway, pid)
        found += [f"worker {pid} holds {target}" for target in held.content]
        if held.descriptors > base["descriptors"] + MORE_DESCRIPTORS:
            found.append(f"worker {pid} has {held.descriptors} descriptors, {base['descriptors']} at first")
        if held.threads > base["threads"] + MORE_THREADS:
            found.append(f"worker {pid} has {held.threads} threads, {base['threads']} at first")
    return found


def rest_of(gateway: Gateway) -> dict[str, int]:
    """Highest numbers of descriptors and threads of a worker at this moment."""
    held = [holdings(gateway, pid) for pid in workers(gateway)]
    return {
        "descriptors": max(one.descriptors for one in held),
        "threads": max(one.threads for one in held),
    }


def spools(data: Path) -> list[Path]:
    """Growing files, sidecars and other files in spool/ that should not exist while nothing is downloaded."""
    return sorted(path for path in (data / "spool").glob("*") if path.name not in LASTING)


def leftovers(gateway: Gateway) -> list[str]:
    """Files in the data folder of an ended server that belong to nothing, or do not match their names."""
    data = gateway.data
    found = [f"{path.relative_to(data)} was left" for path in spools(data)]
    found += [f"{path.relative_to(data)} was left" for path in data.glob("*.part")]
    for path in sorted((data / "cache").rglob("*")):
        if path.is_file() and HEX.fullmatch(path.name) is None:
            found.append(f"{path.relative_to(data)} is no blob's")
        elif path.is_file() and digest_of_file(path) != path.name:
            found.append(f"{path.relative_to(data)} has another digest")
    found += [*database_faults(data), *rowless(gateway), *future_dates(data / "cache.db")]
    return found + trouble(gateway)


def database_faults(data: Path) -> Iterator[str]:
    for file in sorted(data.glob("*.db")):
        with closing(sqlite3.connect(file)) as database:
            [(verdict,)] = database.execute("PRAGMA integrity_check").fetchall()[:1]
            if verdict != "ok":
                yield f"{file.name}: {verdict}"
    with closing(sqlite3.connect(data / "cache.db")) as database:
        for digest, size in database.execute("SELECT digest, size FROM blobs"):
            file = data / "cache" / "sha256" / digest[7:9] / digest[7:]
            if not file.exists():
                yield f"cache.db has a row for {digest}, cache/ no file"
            elif file.stat().st_size != size:
                yield f"cache.db says that {digest} has {size} bytes, it has {file.stat().st_size}"
        for digest, manifest in database.execute("SELECT digest, raw FROM manifests"):
            if hashlib.sha256(manifest).hexdigest() != digest[7:]:
                yield f"cache.db holds other bytes as {digest}"


def rowless(gateway: Gateway) -> Iterator[str]:
    """Files under final names whose content the index does not know: no reader may take one for a verified blob."""
    data = gateway.data
    with closing(sqlite3.connect(data / "cache.db")) as database:
        known = {digest for (digest,) in database.execute("SELECT digest FROM blobs")}
    for path in sorted((data / "cache").rglob("*")):
        if path.is_file() and f"sha256:{path.name}" not in known:
            yield f"{path.relative_to(data)} has no row in cache.db"


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
