"""HappeningLog: recent events of images and their bytes, which explain a pull to a person. The log may be lost.

Of each kind of event of one subject only the latest is kept, with a count, so that a storm of failures does not
displace the reason of an eviction. Events are collected in memory and written periodically, to the file of `usage`.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from cache.oci.names import RepositoryName
from cache.sqlite import alone, explained
from cache.values import Source, safe_reason

MAX_KEPT = 10_000
MAX_PENDING = 2_000
FUTURE_SECONDS = 60.0
"""Seconds of the future from which on an event is one of a wrong clock, which would never be the oldest."""

_TABLE = """
    CREATE TABLE IF NOT EXISTS happenings (
        what TEXT, origin TEXT, credential TEXT, image TEXT, subject TEXT,
        at REAL, reason TEXT, bytes INTEGER, seconds REAL, times INTEGER,
        PRIMARY KEY (what, origin, credential, image, subject)
    ) WITHOUT ROWID
"""
_ADD = """
    INSERT INTO happenings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    at = excluded.at, reason = excluded.reason, bytes = excluded.bytes, seconds = excluded.seconds,
    times = times + excluded.times
"""
_TRIM = "DELETE FROM happenings WHERE at <= (SELECT at FROM happenings ORDER BY at DESC LIMIT 1 OFFSET ?)"
_DROP_FUTURE = "DELETE FROM happenings WHERE at > ?"
_BATCH = 500


class HappeningKind(Enum):
    """Kind of an event in the history of the cache."""

    FILLED = "filled"
    REFUSED = "refused"
    """Refused by the upstream, or the upstream did not respond."""
    EVICTED = "evicted"
    QUEUED = "queued"
    """A download had to wait for a connection to its upstream; `seconds` is 0 while it waits."""


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. `subject` is a tag or a digest as text. `source` and `image` are None for bytes that belong to no
    single image. `seconds` is the duration, `times` the number of occurrences since the record began."""

    what: HappeningKind
    at: datetime
    source: Source | None
    image: RepositoryName | None
    subject: str
    reason: str = ""
    bytes: int = 0
    seconds: float = 0.0
    times: int = 1

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        origin = str(self.source.registry) if self.source else ""
        credential = str(self.source.credential) if self.source else ""
        return self.what.value, origin, credential, self.image.text if self.image else "", self.subject


class HappeningLog:
    """History of recent events of the cache in `usage.db`; collects events in memory until they are written."""

    def __init__(
        self,
        path: Path,
        max_kept: int = MAX_KEPT,
        max_pending: int = MAX_PENDING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_kept`: events in the file. `max_pending`: events in memory that are not written yet."""
        self._path = path
        self._max_kept = max_kept
        self._max_pending = max_pending
        self._clock = clock
        self._pending: dict[tuple[str, str, str, str, str], Happening] = {}
        self._lock = threading.Lock()

    def note(self, happening: Happening) -> None:
        """Add an event, from any thread. The number of unwritten events and the length of a reason are bounded."""
        happening = replace(happening, reason=safe_reason(happening.reason))
        with self._lock:
            before = self._pending.pop(happening.key, None)
            if before is not None:
                happening = replace(happening, times=before.times + happening.times)
            self._pending[happening.key] = happening
            if len(self._pending) > self._max_pending:
                del self._pending[next(iter(self._pending))]

    @property
    def has_unwritten(self) -> bool:
        """Whether `flush` would write anything."""
        return bool(self._pending)

    def flush(self) -> None:
        """Write the collected events. Blocks. Events that cannot be written are dropped, so that no request fails for
        them."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        rows = [(*h.key, h.at.timestamp(), h.reason, h.bytes, h.seconds, h.times) for h in pending.values()]
        with alone(self._path), closing(sqlite3.connect(self._path, timeout=5)) as connection, connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(_TABLE)
            connection.executemany(_ADD, rows)
            connection.execute(_DROP_FUTURE, (self._clock() + FUTURE_SECONDS,))
            connection.execute(_TRIM, (self._max_kept,))

    def of_image(self, source: Source, image: RepositoryName) -> list[Happening]:
        """Written events of an image, the latest first. Raises DatabaseUnusable."""
        key = (str(source.registry), str(source.credential), image.text)
        rows = self._select("origin = ? AND credential = ? AND image = ?", key)
        return sorted((_happening(row, source, image) for row in rows), key=lambda h: h.at, reverse=True)

    def of_subjects(self, subjects: Iterable[str]) -> list[Happening]:
        """Written events of these digests in any image, the latest first; without source and image."""
        wanted, found = sorted(set(subjects)), []
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            found += self._select(f"subject IN ({', '.join('?' * len(batch))})", batch)
        return sorted((_happening(row, None, None) for row in found), key=lambda h: h.at, reverse=True)

    def _select(self, condition: str, values: Iterable[str]) -> list[tuple[str, str, float, str, int, float, int]]:
        if not self._path.exists():
            return []
        with explained(self._path), closing(sqlite3.connect(self._path, timeout=5)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'happenings'").fetchall():
                return []
            columns = "what, subject, at, reason, bytes, seconds, times"
            return connection.execute(f"SELECT {columns} FROM happenings WHERE {condition}", tuple(values)).fetchall()


def _happening(
    row: tuple[str, str, float, str, int, float, int], source: Source | None, image: RepositoryName | None
) -> Happening:
    what, subject, at, reason, size, seconds, times = row
    return Happening(
        HappeningKind(what), datetime.fromtimestamp(at, UTC), source, image, subject, reason, size, seconds, times
    )
