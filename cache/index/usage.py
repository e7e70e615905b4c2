"""Usage file: when digests were last used and checked, and how many pulls had which outcome.

It is separate from the index, so that counting never disturbs the index. Counts are collected in memory and written
periodically. If the file is lost or damaged, earlier use is unknown.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cache.oci.digest import Digest
from cache.sqlite import alone, create, explained

_TABLE = """
    CREATE TABLE IF NOT EXISTS usage (
        digest TEXT PRIMARY KEY, last_used REAL, uses INTEGER, checked_at REAL NOT NULL DEFAULT 0
    ) WITHOUT ROWID
"""
_ADD_CHECKED = "ALTER TABLE usage ADD COLUMN checked_at REAL NOT NULL DEFAULT 0"
_INDEXES = [
    "CREATE INDEX IF NOT EXISTS ix_usage_last_used ON usage (last_used)",
    "CREATE INDEX IF NOT EXISTS ix_usage_checked_at ON usage (checked_at)",
]
# A digest that is used for the first time was verified just before. A use of the future was noted by a wrong clock.
_ADD = """
    INSERT INTO usage VALUES (:digest, min(:used, :now), :uses, min(:used, :now)) ON CONFLICT (digest)
    DO UPDATE SET last_used = max(min(last_used, :now), excluded.last_used), uses = uses + excluded.uses
"""
_PULLS = """
    CREATE TABLE IF NOT EXISTS pulls (
        day TEXT, upstream TEXT, kind TEXT, outcome TEXT, pulls INTEGER, bytes INTEGER,
        PRIMARY KEY (day, upstream, kind, outcome)
    ) WITHOUT ROWID
"""
_COUNT = """
    INSERT INTO pulls VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT
    DO UPDATE SET pulls = pulls + excluded.pulls, bytes = bytes + excluded.bytes
"""
# By the count of days, so that a clock that is wrong for a moment deletes no history.
_FORGET = """
    DELETE FROM pulls WHERE day > date(:now, 'unixepoch', '+1 day')
    OR day NOT IN (SELECT DISTINCT day FROM pulls ORDER BY day DESC LIMIT 31)
"""


@dataclass(frozen=True, slots=True)
class PullCount:
    """Number of pulls of a day with the same outcome, and the bytes that were sent."""

    day: str
    upstream: str
    kind: str
    outcome: str
    pulls: int
    bytes: int


class UsageFile:
    """Access to `usage.db`: last uses of digests and counts of pulls, collected in memory until they are written."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._pulls: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        self._pending: dict[Digest, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def touch(self, digest: Digest, now: datetime) -> None:
        with self._lock:
            _, uses = self._pending.get(digest, (0.0, 0))
            self._pending[digest] = (now.timestamp(), uses + 1)

    def count_pulls(self, counted: PullCount) -> None:
        key = (counted.day, counted.upstream, counted.kind, counted.outcome)
        with self._lock:
            pulls, size = self._pulls.get(key, (0, 0))
            self._pulls[key] = (pulls + counted.pulls, size + counted.bytes)

    @property
    def has_unwritten(self) -> bool:
        """Whether `flush` would write anything."""
        return bool(self._pending or self._pulls)

    def flush(self) -> None:
        """Write the collected counts. Blocks. Counts that cannot be written are dropped, so that no request fails for
        them."""
        with self._lock:
            pending, self._pending = self._pending, {}
            pulls, self._pulls = self._pulls, {}
        if pending or pulls:
            with self.writing() as connection:
                now = self._clock()
                rows = [
                    {"digest": str(digest), "used": used, "uses": uses, "now": now}
                    for digest, (used, uses) in pending.items()
                ]
                connection.executemany(_ADD, rows)
                connection.execute(_PULLS)
                connection.executemany(_COUNT, [(*key, *counted) for key, counted in pulls.items()])
                connection.execute(_FORGET, {"now": now})

    def note_checked(self, digests: Iterable[Digest], now: datetime) -> None:
        with self.writing() as connection:
            rows = [(now.timestamp(), str(digest)) for digest in digests]
            connection.executemany("UPDATE usage SET checked_at = ? WHERE digest = ?", rows)

    def forget(self, digests: Iterable[Digest]) -> None:
        with self.writing() as connection:
            connection.executemany("DELETE FROM usage WHERE digest = ?", [(str(digest),) for digest in digests])

    def last_used(self) -> dict[Digest, datetime]:
        """Time of last use of every written digest. Raises DatabaseUnusable."""
        if not self.path.exists():
            return {}
        with explained(self.path), closing(sqlite3.connect(self.path, timeout=5)) as connection:
            rows = connection.execute("SELECT digest, last_used FROM usage").fetchall()
        return {Digest.parse(digest): datetime.fromtimestamp(seconds, UTC) for digest, seconds in rows}

    def pulls(self) -> list[PullCount]:
        """Written counts of the last thirty days. Raises DatabaseUnusable."""
        if not self.path.exists():
            return []
        with explained(self.path), closing(sqlite3.connect(self.path, timeout=5)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pulls'").fetchall():
                return []
            since = "WHERE day >= date(?, 'unixepoch', '-30 days')"
            columns = "day, upstream, kind, outcome, pulls, bytes"
            rows = connection.execute(f"SELECT {columns} FROM pulls {since} ORDER BY day", (self._clock(),))
            return [PullCount(*row) for row in rows.fetchall()]

    def prepare(self) -> Path:
        """Create the file, or replace a damaged one, if necessary; returns its path."""
        with self.writing():
            return self.path

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open one transaction in a valid file. Raises DatabaseUnusable."""
        with alone(self.path), explained(self.path), closing(self._opened()) as connection, connection:
            yield connection

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.OperationalError:  # busy, or no space left
            raise
        except sqlite3.DatabaseError:  # the file is no database any more
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return _open(self.path)


def _open(path: Path) -> sqlite3.Connection:
    create(path)
    connection = sqlite3.connect(path, timeout=5)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(usage)").fetchall()]
        if "checked_at" not in columns:
            connection.execute(_ADD_CHECKED if columns else _TABLE)
            for statement in _INDEXES:
                connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection
