"""AuditFile: appended to by several processes, bounded by age and size, begun anew where it is damaged."""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cache.runtime.disk import DiskSpace
from cache.sqlite import DatabaseUnusable
from gateway.audit import file as audit_file
from gateway.audit import steady_clock
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.file import AuditFile, AuditLimits, AuditQuery, EventPosition, read_events
from tests.gateway.audit.samples import DIGEST, delete, pull

DAY = 86400.0
NOW = 20_000 * DAY
KEEP = AuditLimits(timedelta(days=90), 1 << 30)
ALL = AuditQuery()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


def at_noon() -> float:
    return NOW


def opened(path: Path, limits: AuditLimits = KEEP, clock: Callable[[], float] = at_noon) -> AuditFile:
    return AuditFile(path, limits, clock)


def read(path: Path, query: AuditQuery = ALL) -> list[AuditEvent]:
    return [written.event for written in read_events(path, query, None, 100_000)]


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock has gone right for long."""
    monkeypatch.setattr(steady_clock, "HOLD_SECONDS", 0.0)


def test_events_are_read_as_they_were_appended_the_earliest_first(path: Path) -> None:
    file, events = opened(path), [delete(NOW + 2), pull(NOW, outcome="HIT", request_id="r1"), pull(NOW + 1, former="x")]
    file.append(events[:1])
    file.append(events[1:])
    assert read(path) == [events[1], events[2], events[0]]


def test_a_log_that_does_not_exist_is_empty_and_reading_makes_none(path: Path) -> None:
    assert read(path) == [] and not path.exists()


def test_an_empty_file_is_an_empty_log(path: Path) -> None:
    path.touch()
    assert read(path) == []


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    opened(path).append([pull(NOW)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (AuditQuery(since=NOW + 1), [1, 2, 3]),
        (AuditQuery(since=NOW + 1, until=NOW + 2), [1, 2]),
        (AuditQuery(number=2), [1]),
        (AuditQuery(event=EventKind.DELETE), [3]),
        (AuditQuery(user="bob"), [1]),
        (AuditQuery(user="bo"), []),
        (AuditQuery(path="team/app"), [0, 1]),
        (AuditQuery(path="team"), [0, 1, 2]),
        (AuditQuery(path="tea"), []),
        (AuditQuery(path="team/app", tag="v1"), [1]),
        (AuditQuery(digest=DIGEST), [0, 1, 2]),
        (AuditQuery(since=NOW + 1, path="team", user="alice"), [2]),
        (AuditQuery(path="team/%"), []),
    ],
)
def test_filters_must_all_hold(path: Path, query: AuditQuery, found: list[int]) -> None:
    events = [
        pull(NOW, "team/app"),
        pull(NOW + 1, "team/app/web", user="bob", tag="v1"),
        pull(NOW + 2, "team/app-2"),
        delete(NOW + 3, "team0"),
    ]
    opened(path).append(events)
    assert read(path, query) == [events[number] for number in found]


def test_pages_leave_nothing_out_and_repeat_nothing_where_events_have_one_moment(path: Path) -> None:
    events = [pull(NOW + number // 4, f"team/app{number}") for number in range(23)]
    opened(path).append(list(reversed(events)))
    found: list[AuditEvent] = []
    last: EventPosition | None = None
    while page := read_events(path, ALL, last, 3):
        assert len(page) <= 3
        found, last = found + [written.event for written in page], page[-1].position
    assert sorted(found) == sorted(events) and [event.at for event in found] == sorted(event.at for event in events)


def test_the_latest_are_read_first_page_by_page(path: Path) -> None:
    events = [pull(NOW + number // 4, f"team/app{number}") for number in range(23)]
    opened(path).append(events)
    found: list[AuditEvent] = []
    last: EventPosition | None = None
    while page := read_events(path, ALL, last, 5, latest_first=True):
        found, last = found + [written.event for written in page], page[-1].position
    assert found == list(reversed(events))
    skipped = read_events(path, ALL, None, 5, latest_first=True, offset=20)
    assert [written.event for written in skipped] == list(reversed(events[:3]))


@pytest.mark.parametrize("latest_first", [False, True])
def test_events_of_a_path_are_found_wherever_they_lie(
    path: Path, monkeypatch: pytest.MonkeyPatch, latest_first: bool
) -> None:
    monkeypatch.setattr(audit_file, "_LOOKED_AT", 3)
    opened(path).append([pull(NOW + at, f"team/app{at % 4}") for at in range(20)])
    query, found = AuditQuery(path="team/app1"), list[float]()
    after: EventPosition | None = None
    while part := read_events(path, query, after, 2, latest_first=latest_first):
        found += [written.event.at for written in part]
        after = part[-1].position
    every = [NOW + at for at in (1, 5, 9, 13, 17)]
    assert found == (every[::-1] if latest_first else every)


@pytest.mark.parametrize(
    "query", [AuditQuery(path="few"), AuditQuery(event=EventKind.MOVE, paths=frozenset({"many", "few"}))]
)
def test_few_events_among_many_are_found_without_reading_all(
    path: Path, monkeypatch: pytest.MonkeyPatch, query: AuditQuery
) -> None:
    monkeypatch.setattr(audit_file, "_LOOKED_AT", 10)
    move = AuditEvent(NOW, EventKind.MOVE, Subject.PROJECT, Surface.REGISTRY, "few")
    opened(path).append([move, *(pull(NOW + 1 + at, "many") for at in range(2000))])
    steps, connect = [0], sqlite3.connect

    def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)

        def count() -> int:
            steps[0] += 1
            return 0

        connection.set_progress_handler(count, 100)
        return connection

    monkeypatch.setattr(audit_file.sqlite3, "connect", counted)
    assert [written.event.path for written in read_events(path, query, None, 20, latest_first=True)] == ["few"]
    assert steps[0] < 40, "hundreds of steps of the database"


def test_a_file_of_an_earlier_version_is_read_and_gets_what_it_lacks(path: Path) -> None:
    before = delete(NOW)
    opened(path).append([before])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('ALTER TABLE events DROP COLUMN "target"')
    assert read(path) == [before]
    opened(path).append([delete(NOW + 1)._replace(target="alice")])
    assert [event.target for event in read(path)] == [None, "alice"]


def test_processes_append_side_by_side(path: Path) -> None:
    files = [opened(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for number in range(20):
            list(threads.map(lambda file, number=number: file.append([pull(NOW + number)] * 30), files))
    assert len(read(path)) == 4 * 20 * 30


def test_the_whole_page_is_read_while_others_append(path: Path) -> None:
    file = opened(path)
    file.append([pull(NOW + number) for number in range(10)])
    first = read_events(path, ALL, None, 5)
    file.append([pull(NOW + number) for number in range(10, 20)])
    assert len(read_events(path, ALL, first[-1].position, 100)) == 15


@pytest.mark.usefixtures("trusted")
def test_events_go_when_they_are_too_old(path: Path) -> None:
    now = [NOW]
    file = opened(path, clock=lambda: now[0])
    file.append([pull(NOW - 91 * DAY), pull(NOW - 89 * DAY), pull(NOW)])
    assert [event.at for event in read(path)] == [NOW - 89 * DAY, NOW]


def test_old_events_go_in_small_steps(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(path)
    file.append([pull(NOW - 91 * DAY + number) for number in range(100)] + [pull(NOW)])
    monkeypatch.setattr(steady_clock, "HOLD_SECONDS", 0.0)
    monkeypatch.setattr(audit_file, "TRIM_STEP", 40)
    left = []
    while file.append([]).has_more:
        left.append(len(read(path)))
    assert left == [61, 21] and len(read(path)) == 1


def test_no_event_goes_for_its_age_before_the_clock_has_gone_right_for_an_hour(path: Path) -> None:
    file = opened(path)
    file.append([pull(NOW - 91 * DAY)])
    file.append([])
    assert len(read(path)) == 1


def test_the_oldest_events_go_where_the_log_is_too_large(path: Path) -> None:
    file, limit = opened(path, AuditLimits(timedelta(days=90), 1 << 20)), 1 << 20
    for number in range(40):
        file.append([pull(NOW + number)] * 500)
    while file.append([]).has_more:
        pass
    times = [event.at for event in read(path)]
    assert 1000 < len(times) < 10_000 and min(times) > NOW + 20 and max(times) == NOW + 39
    assert path.stat().st_size < 3 * limit


def test_a_file_that_has_shrunk_gives_its_room_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(path).append([pull(NOW + number) for number in range(20_000)])
    large = path.stat().st_size
    monkeypatch.setattr(audit_file, "_SPARE_PAGES", 64)
    small = opened(path, AuditLimits(timedelta(days=90), 1 << 20))
    for _ in range(100):
        small.append([])
    assert path.stat().st_size < large / 2 < 3 << 20 and read(path)


@pytest.mark.parametrize("where", [0, 5000], ids=["header", "page"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(path: Path, where: int) -> None:
    opened(path).append([pull(NOW + number) for number in range(1000)])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(where)
        file.write(os.urandom(size - where))
    assert opened(path).append([pull(NOW)]).set_aside.startswith(f"{path} cannot be used")
    assert read(path) == [pull(NOW)]
    assert path.with_name("audit.db.damaged").stat().st_size == size


def test_reading_a_damaged_file_says_so_and_leaves_it(path: Path) -> None:
    path.write_bytes(os.urandom(10_000))
    with pytest.raises(DatabaseUnusable, match="not a database"):
        read(path)
    assert path.exists()


def test_an_event_that_only_a_newer_version_knows_is_named(path: Path) -> None:
    opened(path).append([pull(NOW)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET event = 'blessed'")
    with pytest.raises(DatabaseUnusable, match="blessed"):
        read(path)


def test_nothing_is_written_to_a_disk_that_is_nearly_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_file, "disk_space", lambda folder: DiskSpace(1 << 20, 1 << 30, 0, 0))
    with pytest.raises(OSError, match="less than 16 MiB") as raised:
        opened(path).append([pull(NOW)])
    assert raised.value.errno == errno.ENOSPC and not path.exists()


def test_a_file_that_somebody_else_holds_is_no_damage(path: Path) -> None:
    opened(path).append([pull(NOW)])
    path.chmod(0)
    path.unlink()
    path.mkdir()
    with pytest.raises((DatabaseUnusable, OSError)):
        opened(path).append([pull(NOW)])
    assert path.is_dir()
