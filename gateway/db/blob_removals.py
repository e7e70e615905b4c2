"""Queries of blobs that were deleted, and whose files are still to be deleted.

A row is made in the transaction that deletes the blob, so a file without a blob is found again however a process ends.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import Executable

from cache.oci.digest import Digest
from cache.prepared import prepared
from gateway.db.dialects import insert_or_renew
from gateway.db.schema import blob_removals as _removals

_END = prepared(delete(_removals).where(_removals.c.digest == bindparam("which")))


@dataclass(frozen=True, slots=True)
class BlobRemoval:
    """A file that is to be deleted unless its blob was pushed again. `size`: that of the blob, in bytes."""

    digest: Digest
    size: int
    attempts: int


async def add(connection: AsyncConnection, digest: Digest, size: int, now: datetime) -> None:
    """Note that the file of a blob is to be deleted, in the transaction that deletes the blob."""
    values = {"digest": str(digest), "size": size, "due_at": now, "attempts": 0}
    await connection.execute(_note(connection.dialect.name), values)


async def list_due(connection: AsyncConnection, now: datetime, limit: int) -> list[BlobRemoval]:
    """List the first files that are to be deleted by now."""
    due = select(_removals).where(_removals.c.due_at <= now).order_by(_removals.c.due_at).limit(limit)
    return [BlobRemoval(Digest.parse(row.digest), row.size, row.attempts) for row in await connection.execute(due)]


async def end(connection: AsyncConnection, digest: Digest) -> None:
    """Note that there is no such file any more, or that it belongs to a blob again."""
    await connection.execute(_END, {"which": str(digest)})


async def put_off(connection: AsyncConnection, digest: Digest, due_at: datetime) -> None:
    """Note that a deletion failed, and when it is tried again."""
    later = update(_removals).where(_removals.c.digest == str(digest))
    await connection.execute(later.values(due_at=due_at, attempts=_removals.c.attempts + 1))


async def date_back(connection: AsyncConnection, latest: datetime, now: datetime) -> None:
    """Let the files be deleted now that were to be deleted later than a moment."""
    await connection.execute(update(_removals).where(_removals.c.due_at > latest).values(due_at=now))


async def count(connection: AsyncConnection) -> tuple[int, int]:
    """Count the files that are to be deleted, and the bytes that they take."""
    row = (await connection.execute(select(func.count(), func.coalesce(func.sum(_removals.c.size), 0)))).one()
    return int(row[0]), int(row[1])


@cache
def _note(dialect: str) -> Executable:
    return prepared(insert_or_renew(dialect, _removals, [_removals.c.digest], [_removals.c.size]))
