"""When digests were last used, and how pulls were answered, in a file of its own.

So counting never disturbs what the index says.

Counted in memory and written now and then. The file may vanish: then nothing is known of earlier use.
"""

import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cache.index.sqlite import alone
from cache.oci.digest import Digest

_TABLE = "CREATE TABLE IF NOT EXISTS usage (digest TEXT PRIMARY KEY, last_used REAL, uses INTEGER) WITHOUT ROWID"
_ADD = """
    INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (digest)
    DO UPDATE SET last_used = max(last_used, excluded.last_used), uses = uses + excluded.uses
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
_FORGET = "DELETE FROM pulls WHERE day < date(?, '-30 days')"


@dataclass(frozen=True, slots=True)
class Pulls:
    """How many pulls of a day were answered in the same way, and the bytes that were sent."""

    day: str
    upstream: str
    kind: str
    outcome: str
    pulls: int
    bytes: int


class UsageFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._pulls: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        self._pending: dict[Digest, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def touch(self, digest: Digest, now: datetime) -> None:
        with self._lock:
            _, uses = self._pending.get(digest, (0.0, 0))
            self._pending[digest] = (now.timestamp(), uses + 1)

    def count_pulls(self, counted: Pulls) -> None:
        key = (counted.day, counted.upstream, counted.kind, counted.outcome)
        with self._lock:
            pulls, size = self._pulls.get(key, (0, 0))
            self._pulls[key] = (pulls + counted.pulls, size + counted.bytes)

    def flush(self) -> None:
        """Blocks. What cannot be written is forgotten: it is not worth a request."""
        with self._lock:
            pending, self._pending = self._pending, {}
            pulls, self._pulls = self._pulls, {}
        if pending or pulls:
            with (
                alone(self._path),
                closing(sqlite3.connect(self._path, timeout=5)) as connection,
                connection,
            ):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute(_TABLE)
                connection.executemany(_ADD, [(str(digest), *counted) for digest, counted in pending.items()])
                connection.execute(_PULLS)
                connection.executemany(_COUNT, [(*key, *counted) for key, counted in pulls.items()])
                connection.execute(_FORGET, (max((key[0] for key in pulls), default="0000-01-01"),))

    def last_used(self) -> dict[Digest, datetime]:
        """Of all digests that were ever touched and written."""
        if not self._path.exists():
            return {}
        with closing(sqlite3.connect(self._path, timeout=5)) as connection:
            rows = connection.execute("SELECT digest, last_used FROM usage").fetchall()
        return {Digest.parse(digest): datetime.fromtimestamp(seconds, UTC) for digest, seconds in rows}

    def pulls(self) -> list[Pulls]:
        """What was counted in the last thirty days and written."""
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(self._path, timeout=5)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'pulls'").fetchall():
                return []
            rows = connection.execute("SELECT day, upstream, kind, outcome, pulls, bytes FROM pulls ORDER BY day")
            return [Pulls(*row) for row in rows.fetchall()]
