"""Lists of tags and referrers as an upstream last sent them, by image: what is served while it fails.

Clients choose the queries, so their number and the bytes are limited for each image and in all; the oldest are deleted
first. A list that a refusal takes away is deleted with the other rights of the image.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, bindparam, delete, exists, select, text
from sqlalchemy.dialects.sqlite import insert as upsert

from cache.index.images import ensure_image, find_image
from cache.index.schema import lists
from cache.oci.names import RepositoryName
from cache.values import Source

Read = Callable[[Callable[[Connection], Any]], Awaitable[Any]]
Write = Callable[[Callable[[Connection], None], Callable[[], None]], Awaitable[None]]
"""Runs statements in a transaction, and then a function in the event loop."""

LISTS_OF_IMAGE = 50
LISTS_IN_ALL = 5000
LIST_BYTES = 4 * 1024 * 1024
BYTES_IN_ALL = 64 * 1024 * 1024
REWRITE = timedelta(minutes=1)
"""Time for which a list that has not changed is not written anew: each write makes all processes look for changes."""

_KNOWN = 1000
_SURPLUS = text("""
    DELETE FROM lists WHERE (image_id, query) IN (
        SELECT image_id, query FROM (
            SELECT image_id, query,
                SUM(size) OVER newest AS bytes, ROW_NUMBER() OVER newest AS place,
                ROW_NUMBER() OVER (PARTITION BY image_id ORDER BY checked_at DESC, query) AS place_in_image
            FROM lists WINDOW newest AS (ORDER BY checked_at DESC, image_id, query)
        ) WHERE bytes > :bytes OR place > :count OR place_in_image > :count_of_image)
""").bindparams(
    bindparam("bytes", BYTES_IN_ALL), bindparam("count", LISTS_IN_ALL), bindparam("count_of_image", LISTS_OF_IMAGE)
)


@dataclass(frozen=True, slots=True)
class ListRecord:
    """A list as it was written, and when the upstream was asked for it."""

    content: bytes
    checked_at: datetime


class Lists(Protocol):
    """Records of lists, by image and query. They are no right: what takes the image away takes its lists, too."""

    async def find(self, source: Source, image: RepositoryName, query: str) -> ListRecord | None: ...

    async def record(self, source: Source, image: RepositoryName, query: str, found: ListRecord) -> None:
        """Record a list in place of an earlier one; one that is too large is not recorded."""

    async def forget(self, source: Source, image: RepositoryName) -> None:
        """Delete all lists of an image, which the upstream does not show any more."""


class SqlLists:
    """Lists in the file of a SqlIndex, which reads and writes for it. Raises DatabaseUnusable."""

    def __init__(self, read: Read, write: Write, is_lost: Callable[[Source, RepositoryName], bool]) -> None:
        """`is_lost`: whether the image was forgotten, and that is not written yet."""
        self._read, self._write, self._is_lost = read, write, is_lost
        self._known: OrderedDict[tuple[Source, RepositoryName, str], tuple[int, datetime]] = OrderedDict()

    async def find(self, source: Source, image: RepositoryName, query: str) -> ListRecord | None:
        if self._is_lost(source, image):
            return None
        found: ListRecord | None = await self._read(lambda connection: _select(connection, source, image, query))
        return found

    async def record(self, source: Source, image: RepositoryName, query: str, found: ListRecord) -> None:
        key, content = (source, image, query), hash(found.content)
        known = self._known.get(key)
        recent = known and timedelta(0) <= found.checked_at - known[1] < REWRITE
        if len(found.content) > LIST_BYTES or (recent and known and known[0] == content):
            return

        def written() -> None:
            self._known.pop(key, None)
            self._known[key] = (content, found.checked_at)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)

        await self._write(lambda connection: _insert(connection, source, image, query, found), written)

    async def forget(self, source: Source, image: RepositoryName) -> None:
        def statements(connection: Connection) -> None:
            delete_lists(connection, find_image(connection, source, image))

        def written() -> None:
            for key in [key for key in self._known if key[:2] == (source, image)]:
                del self._known[key]

        if await self._read(lambda connection: _has_any(connection, source, image)):
            await self._write(statements, written)


def delete_lists(connection: Connection, image_id: int | None) -> None:
    """Delete all lists of an image."""
    connection.execute(delete(lists).where(lists.c.image_id == image_id))


def _has_any(connection: Connection, source: Source, image: RepositoryName) -> bool:
    of_image = lists.select().where(lists.c.image_id == find_image(connection, source, image))
    return bool(connection.scalar(select(exists(of_image))))


def _select(connection: Connection, source: Source, image: RepositoryName, query: str) -> ListRecord | None:
    image_id = find_image(connection, source, image)
    row = connection.execute(select(lists).where(lists.c.image_id == image_id, lists.c.query == query)).one_or_none()
    return ListRecord(row.content, datetime.fromtimestamp(row.checked_at, UTC)) if row else None


def _insert(connection: Connection, source: Source, image: RepositoryName, query: str, found: ListRecord) -> None:
    key = {"image_id": ensure_image(connection, source, image), "query": query}
    values = {"checked_at": found.checked_at.timestamp(), "size": len(found.content), "content": found.content}
    connection.execute(upsert(lists).values(**key, **values).on_conflict_do_update(set_=values))
    connection.execute(_SURPLUS)
