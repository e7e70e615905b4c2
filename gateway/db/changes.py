"""Changes of gateway.db, announced in the transaction that makes them and read by every process that keeps a memory.

gateway.db is committed to often, so a commit alone states little about what memories hold. A writer therefore inserts
a row (seq, concern, key) for each thing that a memory may hold; a reader drops what the rows after its last seen number
name, and nothing else. Old rows are pruned; a reader whose last number was pruned drops everything.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Row, create_engine, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from cache.sqlite import Watcher, explained, listen, url
from gateway.db.schema import changes

KEPT = 10_000
"""Rows that the log keeps at least."""

Drop = Callable[[str | None], None]
"""Drops from a memory what a key names; None: everything."""


class Concern(StrEnum):
    """Kind of object that changed; it determines what the key of a row is."""

    GROUP = "group"
    """The key is the path of the group, which may have been created or deleted."""
    PROJECT = "project"
    """The key is the path of the project, which may have been created or deleted."""
    USER = "user"
    """The key is the id of the user, who may have been changed or deleted; the name of a new one is announced too."""
    MEMBER = "member"
    """The key is the id of the user whose memberships changed."""
    CREDENTIAL = "credential"
    """The key is of a token or a job that was made, changed or deleted: the hash of its secret in one row, and in
    another its identity, `KIND:ID`."""


async def announce(connection: AsyncConnection, concern: Concern, key: str, kept: int = KEPT) -> None:
    """Write down a change in the transaction that makes it, and prune the log to `kept` rows.

    Every query that changes what some process may keep in memory calls this.
    """
    row = insert(changes).values(concern=concern, key=key).returning(changes.c.seq)
    seq = (await connection.execute(row)).scalar_one()
    await connection.execute(delete(changes).where(changes.c.seq <= seq - kept))


class ChangeSignal:
    """Keeps the memories of one process true to the database: `catch_up` before a lookup, then trust the memory.

    For one thread. `PRAGMA data_version` is the cheap hint that a commit has happened; only then the log is read.
    """

    def __init__(self, path: Path, look_every: float = 0.0) -> None:
        """Open a database that has been migrated. `look_every`: seconds for which no further commit is looked for.

        Raises DatabaseUnusable.
        """
        self._path = path
        self._watcher = Watcher(path, look_every)
        self._engine = create_engine(url("sqlite", path), poolclass=QueuePool)
        listen(self._engine)
        self._memories: dict[str, list[Drop]] = {}
        self._version = self._watcher.version()
        with explained(path), self._engine.connect() as connection:
            self._seen: int = connection.scalar(select(func.max(changes.c.seq))) or 0

    def close(self) -> None:
        self._watcher.close()
        self._engine.dispose()

    def subscribe(self, concern: Concern, drop: Drop) -> None:
        """Call `drop` for each change of this concern that was committed from now on."""
        self._memories.setdefault(concern, []).append(drop)

    def catch_up(self) -> None:
        """Drop entries that this or another process has changed; about 1 µs if nothing was committed.

        Synchronous, so that a memory that is read right after is current. A value that is read from the database later
        must not be kept if a drop happened in between. Raises DatabaseUnusable.
        """
        version = self._watcher.version()
        if version == self._version:
            return
        seen, complete, rows = self._read()
        if complete:
            for row in rows:
                for drop in self._memories.get(row.concern, ()):
                    drop(row.key)
        else:
            for drop in [drop for memory in self._memories.values() for drop in memory]:
                drop(None)
        self._version, self._seen = version, seen

    def _read(self) -> tuple[int, bool, Sequence[Row[Any, Any, Any]]]:
        """The last number of the log, whether the rows after the last seen one are all there, and those rows."""
        with explained(self._path), self._engine.connect() as connection:
            first, last = connection.execute(select(func.min(changes.c.seq), func.max(changes.c.seq))).one()
            if last is None:
                return self._seen, True, ()
            if first > self._seen + 1:
                return last, False, ()
            later = select(changes.c.seq, changes.c.concern, changes.c.key).where(changes.c.seq > self._seen)
            return last, True, connection.execute(later.order_by(changes.c.seq)).all()
