"""AuditLog: waits in memory, is written together, and makes nothing fail."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cache.sqlite import DatabaseUnusable
from gateway.audit.event import AuditEvent
from gateway.audit.file import Appended, AuditFile, AuditLimits, AuditQuery, read_events
from gateway.audit.log import NO_AUDIT, AuditLog
from tests.gateway.audit.samples import pull


class Counted:
    def __init__(self) -> None:
        self.written = self.dropped = 0

    def __call__(self, written: int, dropped: int) -> None:
        self.written += written
        self.dropped += dropped


class FlakyFile(AuditFile):
    """A file that cannot be written while `error` is set."""

    error: Exception | None = None

    def append(self, events: Sequence[AuditEvent]) -> Appended:
        if self.error is not None:
            raise self.error
        return super().append(events)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def file(path: Path) -> FlakyFile:
    return FlakyFile(path, AuditLimits(timedelta(days=90), 1 << 30))


def times(path: Path) -> list[float]:
    return [written.event.at for written in read_events(path, AuditQuery(), None, 1000)]


def test_nothing_is_written_before_a_flush(file: FlakyFile, path: Path) -> None:
    log, counted = AuditLog(file, counted := Counted()), counted
    log.note(pull(1))
    assert not path.exists()
    log.flush()
    log.flush()
    assert times(path) == [1] and (counted.written, counted.dropped) == (1, 0)


def test_a_log_that_is_not_kept_makes_no_file(path: Path) -> None:
    NO_AUDIT.note(pull(1))
    assert not NO_AUDIT.is_due
    NO_AUDIT.flush()
    assert not path.exists()


def test_the_oldest_events_are_dropped_and_counted_where_too_many_wait(file: FlakyFile, path: Path) -> None:
    log = AuditLog(file, counted := Counted(), max_pending=3)
    for number in range(5):
        log.note(pull(number))
    log.flush()
    assert times(path) == [2, 3, 4] and (counted.written, counted.dropped) == (3, 2)


@pytest.mark.parametrize("error", [OSError("no space left"), DatabaseUnusable("locked")])
def test_what_cannot_be_written_waits_and_the_log_says_so_once(file: FlakyFile, path: Path, error: Exception) -> None:
    log, file.error = AuditLog(file, counted := Counted(), max_pending=4), error
    with capture_logs() as lines:
        for number in range(3):
            log.note(pull(number))
            log.flush()
    assert [(line["event"], line["reason"]) for line in lines] == [("audit_events_not_written", str(error))]
    file.error = None
    log.note(pull(3))
    log.flush()
    assert times(path) == [0, 1, 2, 3] and (counted.written, counted.dropped) == (4, 0)


def test_of_what_cannot_be_written_the_oldest_is_dropped(file: FlakyFile, path: Path) -> None:
    log, file.error = AuditLog(file, counted := Counted(), max_pending=3), OSError("no space left")
    for number in range(7):
        log.note(pull(number))
        log.flush()
    assert (counted.written, counted.dropped) == (0, 4)
    file.error = None
    log.flush()
    assert times(path) == [4, 5, 6]


def test_events_that_came_while_others_could_not_be_written_keep_their_order(file: FlakyFile, path: Path) -> None:
    log = AuditLog(file, counted := Counted(), max_pending=3)

    class Later(OSError):
        def __str__(self) -> str:
            return "later"

    def fail(events: Sequence[AuditEvent]) -> Appended:
        log.note(pull(9))
        raise Later

    file.append = fail  # type: ignore[method-assign]
    for number in range(3):
        log.note(pull(number))
    log.flush()
    assert counted.dropped == 1
    del file.append
    log.flush()
    assert times(path) == [1, 2, 9]


def test_an_idle_log_looks_for_old_events_now_and_then(file: FlakyFile, path: Path) -> None:
    log = AuditLog(file)
    assert log.is_due
    log.flush()
    assert not log.is_due and not path.exists()


def test_a_damaged_file_that_was_set_aside_is_logged(file: FlakyFile, path: Path) -> None:
    path.write_bytes(b"no database at all, " * 100)
    log = AuditLog(file)
    log.note(pull(1))
    with capture_logs() as lines:
        log.flush()
    assert [(line["event"], line["log_level"]) for line in lines] == [("audit_log_set_aside", "error")]
    assert times(path) == [1]
