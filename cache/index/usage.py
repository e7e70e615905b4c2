"""When digests were last used, in a file of its own, so that counting never disturbs what the index says.

Counted in memory and written now and then. The file may vanish: then nothing is known of earlier use.
"""

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cache.index.sqlite import alone
from cache.oci.digest import Digest

_TABLE = "CREATE TABLE IF NOT EXISTS usage (digest TEXT PRIMARY KEY, last_used REAL, uses INTEGER) WITHOUT ROWID"
_ADD = """
    INSERT INTO usage VALUES (?, ?, ?) ON CONFLICT (digest)
    DO UPDATE SET last_used = max(last_used, excluded.last_used), uses = uses + excluded.uses
"""


class UsageFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[Digest, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def touch(self, digest: Digest, now: datetime) -> None:
        with self._lock:
            _, uses = self._pending.get(digest, (0.0, 0))
            self._pending[digest] = (now.timestamp(), uses + 1)

    def flush(self) -> None:
        """Blocks. What cannot be written is forgotten: it is not worth a request."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if pending:
            with (
                alone(self._path),
                closing(sqlite3.connect(self._path, timeout=5)) as connection,
                connection,
            ):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute(_TABLE)
                connection.executemany(_ADD, [(str(digest), *counted) for digest, counted in pending.items()])

    def last_used(self) -> dict[Digest, datetime]:
        """Of all digests that were ever touched and written."""
        if not self._path.exists():
            return {}
        with closing(sqlite3.connect(self._path, timeout=5)) as connection:
            rows = connection.execute("SELECT digest, last_used FROM usage").fetchall()
        return {Digest.parse(digest): datetime.fromtimestamp(seconds, UTC) for digest, seconds in rows}
