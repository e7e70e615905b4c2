"""Changes of gateway.db, announced in the transaction that makes them and read by every process that keeps a memory.

gateway.db is committed to often, so a commit alone states little about what memories hold. A writer therefore inserts
a row (seq, concern, key) for each thing that a memory may hold; a reader drops what the rows after its last seen number
name, and nothing else. Old rows are pruned; a reader whose last number was pruned drops everything.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.prepared import prepared
from gateway.db.dialects import notify_readers
from gateway.db.schema import changes

KEPT = 10_000
"""Rows that the log keeps at least."""

PRUNINGS = 100
"""Prunings in the time in which so many changes are announced as are kept: most announcements prune nothing."""

STALE_SECONDS = 1.0
"""How old memories may be before nothing may be decided by them that a change could have taken away."""

_INSERT = prepared(insert(changes).returning(changes.c.seq))

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
    REPOSITORY = "repository"
    """The key is the path of the native repository, which may have been created or deleted."""
    MOVE = "move"
    """A node or a repository has moved, or an old path has ended: the key is its path, and everything that is kept by a
    path, or holds one, is dropped, however much has moved."""
    CONTENT = "content"
    """The key is of a tag, or of a manifest or blob by its digest, that was made, moved or deleted in one native
    repository: the repository's id and the tag or digest, as `content_key` writes them."""


class News(NamedTuple):
    """A row of `news_after`."""

    first: int | None
    last: int | None
    seq: int | None
    concern: str | None
    key: str | None


def content_key(repository_id: int, reference: object) -> str:
    """The key of a tag or digest of one repository."""
    return f"{repository_id} {reference}"


async def announce(connection: AsyncConnection, concern: Concern, key: str, kept: int = KEPT) -> None:
    """Write down a change in the transaction that makes it, and prune the log to about `kept` rows.

    Every query that changes what some process may keep in memory calls this, in a transaction of `Database.write`:
    since writers do not overlap there, numbers become visible in their order.
    """
    seq = int((await connection.execute(_INSERT, {"concern": concern, "key": key})).scalar_one())
    if seq % max(1, kept // PRUNINGS) == 0:
        await connection.execute(delete(changes).where(changes.c.seq <= seq - kept))
    await notify_readers(connection)


async def announce_all(connection: AsyncConnection, concern: Concern, keys: Collection[str], kept: int = KEPT) -> None:
    """Write down several changes of one concern, with as many statements as for one.

    In place of more than `kept`, a gap in the log says that every reader must drop everything.
    """
    if not keys:
        return
    if len(keys) > kept:
        keys, kept = list(keys)[:2], 1
    await connection.execute(insert(changes), [{"concern": concern, "key": key} for key in keys])
    last = (await connection.execute(last_number())).scalar_one()
    await connection.execute(delete(changes).where(changes.c.seq <= last - kept))
    await notify_readers(connection)


async def announce_selected(connection: AsyncConnection, selected: Select[Any, Any], kept: int = KEPT) -> None:
    """Write down several changes, whose concerns and keys are selected, with as many statements as for one.

    There are far fewer than `kept`: a batch of what is deleted.
    """
    await connection.execute(insert(changes).from_select(["concern", "key"], selected))
    last = (await connection.execute(last_number())).scalar_one()
    await connection.execute(delete(changes).where(changes.c.seq <= last - kept))
    await notify_readers(connection)


class ChangeSignal(ABC):
    """Keeps the memories of one process true to the database: `catch_up` before a lookup, then trust the memory.

    A value that is read from the database later must not be kept if a drop happened in between. For one thread.
    """

    def __init__(self, seen: int) -> None:
        """`seen`: the last number of the log when the memories were empty."""
        self._seen = seen
        self._memories: dict[str, list[Drop]] = {}

    def subscribe(self, concern: Concern, drop: Drop) -> None:
        """Call `drop` for each change of this concern that was committed from now on."""
        self._memories.setdefault(concern, []).append(drop)

    @abstractmethod
    def catch_up(self) -> None:
        """Drop entries that are known to have changed; about 1 µs if there are none. Raises nothing.

        While the database cannot be read the memories stay as they are: see `require_current`.
        """

    @abstractmethod
    async def refresh(self) -> None:
        """Drop entries that changed before this call, if the database can be read. Raises nothing."""

    @abstractmethod
    async def require_newest(self) -> None:
        """Drop entries that changed before this call. Raises DatabaseUnusable where the database cannot be read.

        For what must never be read again once its deletion was confirmed, by whichever process.
        """

    @abstractmethod
    async def require_current(self) -> None:
        """Check that the memories miss no change that is older than STALE_SECONDS. Raises DatabaseUnusable.

        For what a change may have taken away, such as anything that a credential opens; a few µs as a rule.
        """

    def _take(self, news: Sequence[News]) -> None:
        """Drop what the rows of `news_after` name, or everything where rows are missing."""
        first, last = news[0].first, news[0].last
        if first is None or last is None:
            return
        # A number that went back is that of a restored database.
        if first > self._seen + 1 or last < self._seen:
            for drop in [drop for memory in self._memories.values() for drop in memory]:
                drop(None)
        else:
            for row in news:
                for drop in self._memories.get(row.concern or "", ()):
                    drop(row.key)
        self._seen = last


def news_after(seen: int) -> Select[Any, Any, Any, Any, Any]:
    """Select the rows after a number, each beside the first and the last number of the log; at least one row, whose
    own columns may be NULL. One statement sees one state of the log."""
    bounds = select(
        select(func.min(changes.c.seq)).scalar_subquery().label("first"),
        select(func.max(changes.c.seq)).scalar_subquery().label("last"),
    ).subquery("bounds")
    later = bounds.outerjoin(changes, changes.c.seq > seen)
    columns = (bounds.c.first, bounds.c.last, changes.c.seq, changes.c.concern, changes.c.key)
    return select(*columns).select_from(later).order_by(changes.c.seq)


def last_number() -> Select[Any]:
    """Select the last number of the log; NULL if it is empty."""
    return select(func.max(changes.c.seq))
