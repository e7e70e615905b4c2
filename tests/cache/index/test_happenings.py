"""HappeningLog: the last event of each kind, its count, bounds, and several writers."""

from datetime import timedelta
from pathlib import Path

import pytest

from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.oci.names import RepositoryName
from cache.values import REASON_LIMIT
from tests.cache.samples import ALICE, ANONYMOUS, APP, NOON, WEB

REFUSED = Happening(HappeningKind.REFUSED, NOON, ANONYMOUS, APP, "latest", "it said no")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def test_the_last_of_each_is_kept_and_how_often_it_was(path: Path) -> None:
    one, other = HappeningLog(path), HappeningLog(path)
    later = NOON + timedelta(hours=1)
    one.note(REFUSED)
    one.note(Happening(HappeningKind.REFUSED, NOON, ANONYMOUS, APP, "latest", "again"))
    one.flush()
    other.note(Happening(HappeningKind.REFUSED, later, ANONYMOUS, APP, "latest", "at last"))
    other.note(Happening(HappeningKind.EVICTED, NOON, ANONYMOUS, APP, "latest", "to make room", 7))
    other.flush()
    last, evicted = one.of_image(ANONYMOUS, APP)
    assert last == Happening(HappeningKind.REFUSED, later, ANONYMOUS, APP, "latest", "at last", times=3)
    assert evicted == Happening(HappeningKind.EVICTED, NOON, ANONYMOUS, APP, "latest", "to make room", 7)


def test_an_image_sees_its_own_and_a_digest_is_found_whosever_it_was(path: Path) -> None:
    log = HappeningLog(path)
    log.note(REFUSED)
    log.note(Happening(HappeningKind.FILLED, NOON, ALICE, WEB, "sha256:aa", bytes=10, seconds=2.5))
    log.note(Happening(HappeningKind.EVICTED, NOON + timedelta(days=1), None, None, "sha256:aa", "to make room"))
    log.flush()
    assert log.of_image(ALICE, APP) == log.of_image(ANONYMOUS, WEB) == []
    assert log.of_image(ANONYMOUS, APP) == [REFUSED]
    evicted, filled = log.of_subjects(["sha256:aa", "sha256:bb"])
    assert (evicted.what, evicted.reason) == (HappeningKind.EVICTED, "to make room")
    assert (filled.what, filled.bytes, filled.seconds) == (HappeningKind.FILLED, 10, 2.5)


def test_the_oldest_go_where_there_are_too_many(path: Path) -> None:
    log = HappeningLog(path, max_kept=3, max_pending=4)
    for number in range(6):
        log.note(Happening(HappeningKind.FILLED, NOON + timedelta(minutes=number), ANONYMOUS, APP, f"t{number}"))
    log.flush()
    assert [happening.subject for happening in log.of_image(ANONYMOUS, APP)] == ["t5", "t4", "t3"]


def test_nothing_is_known_before_something_was_written(path: Path) -> None:
    log = HappeningLog(path)
    log.flush()
    assert not path.exists()
    assert log.of_image(ANONYMOUS, APP) == log.of_subjects(["latest"]) == []


def test_thousands_of_failures_with_long_reasons_make_no_large_file(path: Path) -> None:
    log, later = HappeningLog(path), NOON
    for number in range(12_000):
        later += timedelta(seconds=1)
        image = RepositoryName(f"invented/{number:0240}")
        log.note(Happening(HappeningKind.REFUSED, later, ANONYMOUS, image, "x" * 128, "reason\n" * 10_000))
        if number % 1000 == 0:
            log.flush()
    log.flush()
    [kept] = log.of_image(ANONYMOUS, image)
    assert len(kept.reason) <= REASON_LIMIT
    assert kept.reason.isprintable()
    assert path.stat().st_size < 16 * 1024 * 1024


def test_as_many_are_kept_at_most_where_all_are_of_one_moment(path: Path) -> None:
    log = HappeningLog(path, max_kept=3)
    for number in range(10):
        log.note(Happening(HappeningKind.FILLED, NOON, ANONYMOUS, APP, f"t{number}"))
    log.flush()
    assert len(log.of_image(ANONYMOUS, APP)) <= 3


def test_an_event_of_the_future_does_not_outlive_the_others(path: Path) -> None:
    now = NOON + timedelta(days=9999)
    log = HappeningLog(path, clock=lambda: now.timestamp())
    log.note(Happening(HappeningKind.FILLED, now, ANONYMOUS, APP, "wrong"))
    log.flush()
    now = NOON
    log.note(Happening(HappeningKind.FILLED, now, ANONYMOUS, APP, "right"))
    log.flush()
    assert [happening.subject for happening in log.of_image(ANONYMOUS, APP)] == ["right"]
