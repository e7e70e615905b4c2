"""Shared counts: sums over processes, places that are taken over, and memory that no disk can take away."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.observability import shared_counts
from gateway.observability.metrics import FillResult, Metrics
from gateway.observability.shared_counts import CountMemory, CountPlace
from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.children import in_child
from tests.parts.disk import SmallDisk
from tests.parts.gateway import Gateway
from tests.parts.liar import Liar
from tests.parts.processes import wait_until


def value(metrics: Metrics, sample: str) -> float | None:
    found = re.search(rf"^gateway_{re.escape(sample)} (\S+)$", metrics.exposition().decode(), re.MULTILINE)
    return float(found[1]) if found else None


@pytest.mark.usefixtures("processes")
def test_any_process_exposes_the_counts_of_all() -> None:
    memory = CountMemory(3)

    def count(place: int) -> Callable[[], None]:
        def work() -> None:
            metrics = Metrics(CountPlace(memory, place))
            metrics.count_worker()
            metrics.count_received("docker.io", 1000)
            metrics.count_fill("docker.io", FillResult.COMMITTED, 1000, 0.2 + place)
            metrics.set_level(place * 100, 1, 7, 0)

        return work

    mine = Metrics(CountPlace(memory, 2))
    assert value(mine, "cache_bytes") is None  # no process has read the disk
    for place in (1, 0):
        in_child(count(place))
    assert value(mine, "workers") == 2
    assert value(mine, 'received_bytes_total{upstream="docker.io"}') == 2000
    assert value(mine, "cache_bytes") == 0  # what was set last
    buckets = [value(mine, f'fill_seconds_bucket{{le="{le}",upstream="docker.io"}}') for le in ("0.1", "0.3", "3.0")]
    assert buckets == [0, 1, 2]
    assert value(mine, 'fill_seconds_count{upstream="docker.io"}') == 2
    assert value(mine, 'fill_seconds_sum{upstream="docker.io"}') == pytest.approx(1.4)


@pytest.mark.usefixtures("processes")
def test_the_next_process_in_a_place_continues_the_counts_and_not_the_levels() -> None:
    memory = CountMemory(2)

    def work() -> None:
        metrics = Metrics(CountPlace(memory, 0))
        metrics.count_worker()
        metrics.count_restart()

    mine = Metrics(CountPlace(memory, 1))
    in_child(work)
    memory.region(0).forget_levels()
    assert value(mine, "workers") == 0
    in_child(work)
    assert value(mine, "workers") == 1
    assert value(mine, "worker_restarts_total") == 2


def test_where_a_region_is_full_a_process_counts_on_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shared_counts, "REGION_BYTES", 64 * 1024)
    metrics = Metrics(CountPlace(CountMemory(1), 0))
    for number in range(1000):
        metrics.count_received(f"{number}.test", 1)
        metrics.count_received(f"{number}.test", 1)
    assert value(metrics, 'received_bytes_total{upstream="0.test"}') == 2
    assert value(metrics, 'received_bytes_total{upstream="999.test"}') is None
    assert "count_not_shared" in capsys.readouterr().out


def test_the_environment_does_not_make_it_count_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    Metrics().count_restart()
    assert list(tmp_path.iterdir()) == []


# Disks.


def shared_mappings(pid: int) -> set[str]:
    """What a process has mapped so that it writes into it: files, and memory that it shares."""
    rows = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {row[5] for row in rows if row[1][1] == "w" and row[1][3] == "s"}


def test_a_full_disk_for_shared_memory_ends_no_worker(gateway: GatewayFactory, liar: Liar) -> None:
    server = gateway({"workers": 2, "upstreams": {"docker.io": liar.settings()}}, start=False)
    own = 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"'
    server.process.argv = ["unshare", "--mount", "sh", "-c", own, "sh", *server.process.argv]
    server.start()
    workers = server.workers
    shm = Path(f"/proc/{server.process.pid}/root/dev/shm")
    assert os.path.ismount(shm)
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={shm / 'filler'}", "bs=4k"], capture_output=True, check=False)
    assert b"No space left" in filled.stderr
    for number in range(30):  # new labels need new pages of a region
        digest = liar.offer_blob(str(number).encode())
        assert raw.get(server.proxied_url(f"library/one/blobs/{digest}")).status == 200
        assert raw.get(f"{server.url}/-/metrics").status == 200
    assert server.workers == workers


def test_of_files_on_a_disk_only_the_indexes_of_databases_are_mapped(gateway: GatewayFactory, liar: Liar) -> None:
    """SQLite writes the pages of its shared index once before it maps them, so that a full disk is an error there."""
    server = gateway({"workers": 2, "upstreams": {"docker.io": liar.settings()}})
    digest = liar.offer_blob(b"one")
    assert raw.get(server.proxied_url(f"library/one/blobs/{digest}")).status == 200
    mapped = set().union(*(shared_mappings(pid) for pid in [server.process.pid, *server.workers]))
    files = {name for name in mapped if not name.startswith("/dev/zero")}
    assert {Path(name).name for name in files} <= {"gateway.db-shm", "cache.db-shm", "usage.db-shm"}
    assert {Path(name).parent for name in files} <= {server.data}
    wait_until(lambda: shared_counts_used(server))


WRITE_UNTIL_FULL = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
connection.execute("PRAGMA wal_autocheckpoint=0")
try:
    while True:
        connection.execute("INSERT INTO t VALUES (zeroblob(300))")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_a_database_whose_shared_index_grows_on_a_full_disk_raises_an_error(scratch: Path, processes: None) -> None:
    disk = SmallDisk(scratch / "disk", megabytes=1)
    try:
        path = disk.place / "test.db"
        for _ in range(2):  # the second one opens the database on the full disk
            done = subprocess.run([sys.executable, "-c", WRITE_UNTIL_FULL, path], capture_output=True, text=True)
            assert done.returncode in (0, 1)  # not by a signal
            assert re.search("full|disk I/O error", done.stdout + done.stderr)
    finally:
        disk.unmount()


def shared_counts_used(server: Gateway) -> bool:
    return b"gateway_workers 2.0" in raw.get(f"{server.url}/-/metrics").body
