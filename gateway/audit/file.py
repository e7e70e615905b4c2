"""AuditFile: the file `audit.db`, to which several processes append, and from which commands read."""

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from cache.runtime.disk import disk_space
from cache.sqlite import DatabaseUnusable, alone, create, explained
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.steady_clock import SteadyClock

TRIM_STEP = 1000
"""Old events that are deleted at once, beside twice as many as were added: a few milliseconds."""

RESERVED_BYTES = 16 * 1024 * 1024
"""Free space of the disk that the log leaves to others, which have no other place to write to."""

_ROWS_AT_ONCE = 50
"""Rows of one statement. Between statements the writing thread waits for its turn among threads that serve, so one
statement for each row would take as many turns."""

_PAGE_BYTES = 16 * 1024
"""Bytes of a page of the file. A batch of events fills some pages, which are written one by one."""

_SPARE_PAGES = 512
"""Unused pages that the file keeps for what comes next: 8 MiB."""

_PRAGMAS = (f"page_size={_PAGE_BYTES}", "auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=OFF")
_COLUMNS = AuditEvent._fields
_LATER = ("target",)
"""Columns that files of earlier versions lack."""
_LIST = ", ".join(f'"{name}"' for name in _COLUMNS)
_TABLE = f"CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, {_LIST})"
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS ix_events_at ON events (at)",
    "CREATE INDEX IF NOT EXISTS ix_events_path ON events (path, at)",
    f"CREATE INDEX IF NOT EXISTS ix_events_moves ON events (path, at) WHERE \"event\" = '{EventKind.MOVE.value}'",
)
"""The second one for paths with few events among many others; the third one for paths with many events and few
moves."""

_LOOKED_AT = 5_000
"""Events next to where a list begins among which those of a path are looked for first, some 10 ms: of a busy path they
fill a page, and of any other one the index of paths finds few."""
_ROW = f"({', '.join('?' * len(_COLUMNS))})"
_OLDEST = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)"
_EXPIRED = "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? ORDER BY at LIMIT ?)"


@dataclass(frozen=True, slots=True)
class AuditLimits:
    """Bounds of the log: how long events are kept, and how many bytes they may take."""

    keep: timedelta
    max_bytes: int


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events are wanted; None for all. `since`, `until`: seconds since 1970. `path`: with all below it. `number`:
    the one event of this number. `paths`: those of these paths alone."""

    since: float | None = None
    until: float | None = None
    event: EventKind | None = None
    user: str | None = None
    path: str | None = None
    tag: str | None = None
    digest: str | None = None
    number: int | None = None
    paths: frozenset[str] | None = None


class EventPosition(NamedTuple):
    """Where an event stands in the order of events: its time, and its number, by which events of one time are told
    apart."""

    at: float
    number: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an append. `has_more`: whether more events are to be deleted. `set_aside`: why the file that was
    there was set aside as damaged; empty where it was not."""

    has_more: bool
    set_aside: str = ""


@dataclass(frozen=True, slots=True)
class WrittenEvent:
    """An event with its number, by which events of one moment are told apart."""

    id: int
    event: AuditEvent

    @property
    def position(self) -> EventPosition:
        """Where the event stands in the order of events."""
        return EventPosition(self.event.at, self.id)


class AuditFile:
    """Access to `audit.db`. All methods block, and raise DatabaseUnusable."""

    def __init__(self, path: Path, limits: AuditLimits, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._path = path
        self._limits = limits
        self._clock = clock
        self._steady = SteadyClock(clock)

    @property
    def path(self) -> Path:
        """The file that is read."""
        return self._path

    def append(self, events: Sequence[AuditEvent]) -> Appended:
        """Append events, and delete some of those that are too old or too many.

        A damaged file is set aside before; without events none is made. Raises OSError, too, where the disk is full.
        """
        if not events and not self._path.exists():
            return Appended(has_more=False)
        if events and disk_space(self._path.parent).free < RESERVED_BYTES:
            raise OSError(errno.ENOSPC, f"the disk has less than {RESERVED_BYTES >> 20} MiB left")
        with alone(self._path):
            try:
                return Appended(self._append(events))
            except DatabaseUnusable as error:
                if not _is_damage(error.__cause__):
                    raise
                damage = str(error)
            self._set_aside()
            return Appended(self._append(events), damage)

    def _append(self, events: Sequence[AuditEvent]) -> bool:
        """Append to the file as it is; return whether more events are to be deleted."""
        with self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.execute(_TABLE)
                for name in _missing_columns(connection):
                    connection.execute(f'ALTER TABLE events ADD COLUMN "{name}"')
                for index in _INDEXES:
                    connection.execute(index)
                for start in range(0, len(events), _ROWS_AT_ONCE):
                    rows = events[start : start + _ROWS_AT_ONCE]
                    statement = f"INSERT INTO events ({_LIST}) VALUES {', '.join([_ROW] * len(rows))}"
                    connection.execute(statement, tuple(chain.from_iterable(map(_values, rows))))
                has_more = self._trim(connection, 2 * len(events) + TRIM_STEP)
            _shrink(connection)
            return has_more

    def _trim(self, connection: sqlite3.Connection, step: int) -> bool:
        """Delete at most so many events that are too old, and as many that are too many; return whether more may be."""
        deleted = 0
        if self._steady.is_trusted():
            oldest = self._clock() - self._limits.keep.total_seconds()
            deleted = connection.execute(_EXPIRED, (oldest, step)).rowcount
        if _used_bytes(connection) > self._limits.max_bytes:
            deleted = max(deleted, connection.execute(_OLDEST, (step,)).rowcount)
        return deleted >= step

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with explained(self._path):
            create(self._path)
            with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as connection:
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                yield connection

    def _set_aside(self) -> None:
        """Take a damaged file out of the way; one that was set aside before is replaced."""
        os.replace(self._path, self._path.with_name(f"{self._path.name}.damaged"))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def read_events(
    path: Path,
    query: AuditQuery,
    after: EventPosition | None,
    limit: int,
    *,
    latest_first: bool = False,
    offset: int = 0,
) -> list[WrittenEvent]:
    """Read at most `limit` of the events that are wanted, in their order; those after a position, or the first ones.

    `latest_first`: whether the order is turned round. `offset`: events that are left out before. Blocks. Raises
    DatabaseUnusable.
    """
    if not path.exists():
        return []
    times, values = _times(query)
    if after is not None:
        times.append(f"(at, id) {'<' if latest_first else '>'} (?, ?)")
        values += after
    conditions, wanted = _conditions(query)
    order = "at DESC, id DESC" if latest_first else "at, id"
    with explained(path), closing(sqlite3.connect(path, timeout=5)) as connection:
        if not (columns := _read_list(connection)):
            return []
        rows: list[Any] = []
        if query.path is not None:
            near = f"(SELECT * FROM events {_where(times)} ORDER BY {order} LIMIT {_LOOKED_AT})"
            found = f"SELECT id, {columns} FROM {near} {_where(conditions)} ORDER BY {order} LIMIT ? OFFSET ?"
            rows = connection.execute(found, (*values, *wanted, limit, offset)).fetchall()
        if len(rows) < limit:
            where = _where([*times, *conditions])
            found = f"SELECT id, {columns} FROM events {where} ORDER BY {order} LIMIT ? OFFSET ?"
            rows = connection.execute(found, (*values, *wanted, limit, offset)).fetchall()
    try:
        return [WrittenEvent(number, _event(*row)) for number, *row in rows]
    except ValueError as error:
        raise DatabaseUnusable(f"{path} holds what this version does not know ({error}): use a newer one") from error


def read_later(path: Path, surface: Surface, after: int | None) -> tuple[int, list[AuditEvent]]:
    """Read the events of a surface that were written after the one of a number, in their order; return the number of
    the last event with them. `after`: None for none of those that are there.

    A file that was begun anew is read from its beginning. Blocks. Raises DatabaseUnusable.
    """
    if not path.exists():
        return 0, []
    with explained(path), closing(sqlite3.connect(path, timeout=5)) as connection:
        if not (columns := _read_list(connection)):
            return 0, []
        [last] = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        if after is None or after == last:
            return last, []
        later = f"SELECT {columns} FROM events WHERE id > ? AND id <= ? AND surface = ? ORDER BY id"
        rows = connection.execute(later, (after if after < last else 0, last, surface.value)).fetchall()
    try:
        return last, [_event(*row) for row in rows]
    except ValueError as error:
        raise DatabaseUnusable(f"{path} holds what this version does not know ({error}): use a newer one") from error


def _read_list(connection: sqlite3.Connection) -> str:
    """The columns of an event in a file, as a statement reads them; empty where it holds no table of events."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchall():
        return ""
    missing = _missing_columns(connection)
    return ", ".join("NULL" if name in missing else f'"{name}"' for name in _COLUMNS)


def _missing_columns(connection: sqlite3.Connection) -> list[str]:
    present = {row[1] for row in connection.execute("PRAGMA table_info(events)")}
    return [name for name in _LATER if name not in present]


def _where(conditions: Sequence[str]) -> str:
    return f"WHERE {' AND '.join(conditions)}" if conditions else ""


def _times(query: AuditQuery) -> tuple[list[str], list[Any]]:
    """The conditions of a query for times, and their values."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.since is not None:
        conditions.append("at >= ?")
        values.append(query.since)
    if query.until is not None:
        conditions.append("at <= ?")
        values.append(query.until)
    return conditions, values


def _conditions(query: AuditQuery) -> tuple[list[str], list[Any]]:
    """The conditions of a query beside those for times, and their values."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.number is not None:
        conditions.append("id = ?")
        values.append(query.number)
    if query.path is not None:
        conditions.append("(path = ? OR path >= ? AND path < ?)")
        values += [query.path, f"{query.path}/", f"{query.path}0"]  # the sign after the slash
    if query.paths is not None:
        conditions.append(f"path IN ({', '.join('?' * len(query.paths))})")
        values += sorted(query.paths)
    if query.event is not None:
        conditions.append(f"\"event\" = '{query.event.value}'")  # a word of ours, which the index of moves knows
    for name, value in {"user": query.user, "tag": query.tag, "digest": query.digest}.items():
        if value is not None:
            conditions.append(f'"{name}" = ?')
            values.append(value)
    return conditions, values


def _values(event: AuditEvent) -> tuple[float | str | None, ...]:
    # `value` would call a function three times for each event.
    return (event.at, event.event._value_, event.subject._value_, event.surface._value_, *event[4:])


def _event(at: float, event: str, subject: str, surface: str, path: str, *rest: str | None) -> AuditEvent:
    return AuditEvent(at, EventKind(event), Subject(subject), Surface(surface), path, *rest)


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (_pragma(connection, name) for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


def _shrink(connection: sqlite3.Connection) -> None:
    """Give some of the unused pages back to the disk if they are many; outside a transaction."""
    pages, free = _pragma(connection, "page_count"), _pragma(connection, "freelist_count")
    if free > max(_SPARE_PAGES, pages // 2):
        connection.executescript(f"PRAGMA incremental_vacuum({_SPARE_PAGES})")  # `execute` would free one page


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    [value] = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _is_damage(error: BaseException | None) -> bool:
    """Whether an error means that the file is no database, or is damaged, whoever opens it."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
