"""Queries of unfinished uploads. Nothing in memory depends on them, so no change of them is announced."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.prepared import prepared
from gateway.db import schema

_uploads = schema.uploads

_INSERT = prepared(insert_into(_uploads))
_COUNT = prepared(select(func.count()).select_from(_uploads).where(_uploads.c.owner == bindparam("owner")))
_ADVANCE = prepared(update(_uploads).where(_uploads.c.id == bindparam("which")).returning(_uploads.c.id))
_DELETE = prepared(delete_from(_uploads).where(_uploads.c.id == bindparam("which")).returning(_uploads.c.id))


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """An unfinished upload as it is stored.

    `received`: bytes of its file that were acknowledged. `hash_state`: saved state of the hash of these, with what it
    holds for; None where the hash must be taken anew. `reserved`: up to how many bytes it may grow before it must
    reserve more; None where no quota applies.
    """

    id: str
    repository_id: int
    owner: str
    received: int
    hash_state: bytes | None
    created_at: datetime
    updated_at: datetime
    reserved: int | None = None


async def insert(
    connection: AsyncConnection, id: str, repository_id: int, owner: str, now: datetime, reserved: int | None = None
) -> StoredUpload:
    """Store a new upload, of which nothing has arrived. `reserved`: None where no quota applies."""
    upload = StoredUpload(id, repository_id, owner, 0, None, now, now, reserved)
    values = {
        "id": id,
        "repository_id": repository_id,
        "owner": owner,
        "received": 0,
        "hash_state": None,
        "created_at": now,
        "updated_at": now,
        "reserved": reserved,
    }
    await connection.execute(_INSERT, values)  # `asdict` copies each value, which took as long as the statement
    return upload


async def find(connection: AsyncConnection, id: str, repository_id: int, owner: str) -> StoredUpload | None:
    """Find an upload of a repository that this owner began; None where there is none."""
    own = (_uploads.c.repository_id == repository_id) & (_uploads.c.owner == owner)
    row = (await connection.execute(select(_uploads).where(_uploads.c.id == id, own))).first()
    return StoredUpload(**row._mapping) if row else None


async def count_of(connection: AsyncConnection, owner: str) -> int:
    """Count the unfinished uploads that an owner began, in every repository."""
    return int((await connection.execute(_COUNT, {"owner": owner})).scalar_one())


async def advance(
    connection: AsyncConnection,
    id: str,
    received: int,
    hash_state: bytes | None,
    now: datetime,
    reserved: int | None = None,
) -> bool:
    """Record how much of an upload has arrived, the hash of that, and what it keeps reserved, None where no quota
    applies; whether the upload still exists."""
    values = {"which": id, "received": received, "hash_state": hash_state, "updated_at": now, "reserved": reserved}
    return (await connection.execute(_ADVANCE, values)).first() is not None


async def delete(connection: AsyncConnection, id: str) -> bool:
    """Delete an upload; whether it existed."""
    return (await connection.execute(_DELETE, {"which": id})).first() is not None


async def list_abandoned(connection: AsyncConnection, before: datetime, limit: int) -> list[str]:
    """List the ids of the first `limit` uploads to which nothing was appended since a time, the oldest first."""
    abandoned = select(_uploads.c.id).where(_uploads.c.updated_at < before).order_by(_uploads.c.updated_at)
    return list((await connection.execute(abandoned.limit(limit))).scalars())


async def is_any_later(connection: AsyncConnection, latest: datetime) -> bool:
    """Whether an upload is dated later than a moment."""
    return (
        await connection.execute(select(_uploads.c.id).where(_uploads.c.updated_at > latest).limit(1))
    ).first() is not None


async def date_back(connection: AsyncConnection, latest: datetime, now: datetime) -> None:
    """Date uploads to now that are dated later than a moment."""
    await connection.execute(update(_uploads).where(_uploads.c.updated_at > latest).values(updated_at=now))


async def is_abandoned(connection: AsyncConnection, id: str, before: datetime) -> bool:
    """Whether nothing was appended to an upload since a time; False for one that has ended."""
    abandoned = select(_uploads.c.id).where(_uploads.c.id == id, _uploads.c.updated_at < before)
    return (await connection.execute(abandoned)).first() is not None


async def existing(connection: AsyncConnection, ids: Collection[str]) -> set[str]:
    """Find which of a few ids, at most 500, are those of unfinished uploads."""
    return set((await connection.execute(select(_uploads.c.id).where(_uploads.c.id.in_(ids)))).scalars())
