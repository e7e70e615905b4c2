"""UsageFile: counted in memory, written now and then, may vanish."""

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache.index.usage import PullCount, UsageFile
from cache.oci.digest import Digest
from cache.sqlite import DatabaseUnusable, alone
from tests.cache.samples import NOON, open_descriptors

ONE, TWO = Digest.of(b"one"), Digest.of(b"two", "sha512")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def uses(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT digest, uses FROM usage").fetchall())


def test_what_was_touched_is_known_after_a_flush(path: Path) -> None:
    usage = UsageFile(path)
    usage.touch(ONE, NOON)
    usage.touch(TWO, NOON + timedelta(hours=1))
    assert usage.last_used() == {}
    usage.flush()
    assert usage.last_used() == {ONE: NOON, TWO: NOON + timedelta(hours=1)}


def test_uses_are_added_up_over_flushes_and_processes(path: Path) -> None:
    one, other = UsageFile(path), UsageFile(path)
    for usage in (one, one, other):
        usage.touch(ONE, NOON)
    one.flush()
    other.flush()
    assert uses(path) == {str(ONE): 3}


def test_the_latest_use_counts_whoever_writes_last(path: Path) -> None:
    one, other = UsageFile(path), UsageFile(path)
    one.touch(ONE, NOON)
    other.touch(ONE, NOON + timedelta(days=1))
    other.flush()
    one.flush()
    assert one.last_used() == {ONE: NOON + timedelta(days=1)}


def test_a_flush_of_nothing_makes_no_file(path: Path) -> None:
    UsageFile(path).flush()
    assert not path.exists()
    assert UsageFile(path).last_used() == {}


def test_a_file_that_vanished_begins_anew(path: Path) -> None:
    usage = UsageFile(path)
    usage.touch(ONE, NOON)
    usage.flush()
    for file in path.parent.iterdir():
        file.unlink()
    assert usage.last_used() == {}
    usage.touch(TWO, NOON)
    usage.flush()
    assert usage.last_used() == {TWO: NOON}


def test_what_cannot_be_written_is_forgotten(path: Path) -> None:
    usage = UsageFile(path)
    path.mkdir()
    usage.touch(ONE, NOON)
    with pytest.raises(DatabaseUnusable):
        usage.flush()
    path.rmdir()
    usage.flush()
    assert not path.exists()


def test_no_touch_is_lost_while_another_thread_flushes(path: Path) -> None:
    usage, done = UsageFile(path), threading.Event()

    def flush() -> None:
        while not done.is_set():
            usage.flush()

    thread = threading.Thread(target=flush)
    thread.start()
    for number in range(20_000):
        usage.touch((ONE, TWO)[number % 2], NOON)
    done.set()
    thread.join()
    usage.flush()
    assert uses(path) == {str(ONE): 10_000, str(TWO): 10_000}


def test_flushing_leaves_no_descriptor(path: Path) -> None:
    before = open_descriptors()
    usage = UsageFile(path)
    usage.touch(ONE, NOON)
    usage.flush()
    usage.last_used()
    assert open_descriptors() == before


def test_pulls_are_added_up_by_the_day_whoever_writes_them(path: Path) -> None:
    now = NOON.timestamp()
    one, other = UsageFile(path, lambda: now), UsageFile(path, lambda: now)
    one.count_pulls(PullCount("2024-05-01", "docker.io", "blob", "HIT", 2, 200))
    one.count_pulls(PullCount("2024-05-01", "docker.io", "blob", "HIT", 1, 100))
    other.count_pulls(PullCount("2024-05-01", "docker.io", "blob", "HIT", 1, 1))
    other.count_pulls(PullCount("2024-05-02", "docker.io", "blob", "MISS", 1, 1))
    one.flush()
    other.flush()
    assert one.pulls() == [
        PullCount("2024-05-01", "docker.io", "blob", "HIT", 4, 301),
        PullCount("2024-05-02", "docker.io", "blob", "MISS", 1, 1),
    ]
    now += timedelta(days=31).total_seconds()
    other.count_pulls(PullCount("2024-06-01", "docker.io", "blob", "MISS", 1, 1))
    other.flush()
    assert [pulls.day for pulls in one.pulls()] == ["2024-05-02", "2024-06-01"]


def test_several_processes_add_up_what_they_counted(path: Path) -> None:
    threads = []
    for usage in (UsageFile(path), UsageFile(path)):
        for _ in range(20):
            usage.touch(ONE, NOON)
        threads.append(threading.Thread(target=usage.flush))
    with alone(path):
        for thread in threads:
            thread.start()
            thread.join(0.2)
        assert not path.exists(), "they wait for their turn"
    for thread in threads:
        thread.join(10)
    assert uses(path) == {str(ONE): 40}


def test_a_clock_that_is_wrong_for_a_moment_deletes_no_count_of_pulls(path: Path) -> None:
    now = NOON
    usage = UsageFile(path, lambda: now.timestamp())
    for day in ("2024-05-01", "2099-05-01", "2024-05-02"):
        now = datetime.fromisoformat(day).replace(tzinfo=UTC)
        usage.count_pulls(PullCount(day, "docker.io", "blob", "HIT", 1, 1))
        usage.flush()
    assert [pulls.day for pulls in usage.pulls()] == ["2024-05-01", "2024-05-02"]


def test_a_use_of_the_future_is_corrected_by_the_next_one(path: Path) -> None:
    now = NOON + timedelta(days=9999)
    usage = UsageFile(path, lambda: now.timestamp())
    for digest in (ONE, TWO):
        usage.touch(digest, now)
    usage.flush()
    now = NOON
    usage.touch(ONE, NOON)
    usage.flush()
    assert usage.last_used() == {ONE: NOON, TWO: NOON + timedelta(days=9999)}
