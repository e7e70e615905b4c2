"""Queries of the state of garbage collection: one row that all collectors of a database share."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Integer, Table, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.prepared import prepared
from gateway.db import blob_removals, repositories, schema
from gateway.db.schema import collection as _state

_NOTE_DELETED = prepared(
    update(_state).values(
        window_deleted=_state.c.window_deleted + bindparam("old", type_=Integer),
        deleted_manifests=_state.c.deleted_manifests + bindparam("manifests", type_=Integer),
        deleted_blobs=_state.c.deleted_blobs + bindparam("blobs", type_=Integer),
    )
)
_NOTE_FREED = prepared(update(_state).values(freed_bytes=_state.c.freed_bytes + bindparam("freed", type_=BigInteger)))


@dataclass(frozen=True, slots=True)
class CollectionState:
    """What collectors have noted. `seen_at`: when one last looked; `window_objects`: blobs and manifests that there
    were at `window_at`; `window_deleted`: how many old ones were deleted since. `stopped_reason`: why nothing is
    collected; `stopped_at`: since when that waits for somebody; None where it goes on by itself."""

    seen_at: datetime | None
    window_at: datetime | None
    window_objects: int
    window_deleted: int
    deleted_manifests: int
    deleted_blobs: int
    freed_bytes: int
    stopped_at: datetime | None
    stopped_reason: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for its review, deleted repositories that wait to be purged, and files that wait for their deletion.

    `bytes`: of these files, and of the blobs that wait, each once; what is still needed of them stays. `events`: how
    many reviews wait since events of each kind. `first`: time of the oldest event; None where nothing waits.
    """

    repositories: int
    manifests: int
    blobs: int
    files: int
    bytes: int
    events: Mapping[str, int]
    first: datetime | None

    @property
    def all(self) -> int:
        """How many objects wait."""
        return self.repositories + self.manifests + self.blobs + self.files


async def read(connection: AsyncConnection) -> CollectionState:
    """Read the state."""
    columns = [column for column in _state.c if column.name != "id"]
    return CollectionState(**(await connection.execute(select(*columns))).one()._mapping)


async def waiting(connection: AsyncConnection) -> Waiting:
    """Count what waits; it takes the longer, the more waits."""
    tables = (schema.manifest_reviews, schema.blob_reviews)
    manifests, blobs = [await _count_by_event(connection, table) for table in tables]
    moments = [*(table.c.since for table in tables), schema.repositories.c.deleted_at]
    firsts = [await connection.scalar(select(func.min(moment))) for moment in moments]
    files, file_bytes = await blob_removals.count(connection)
    reviewed = schema.blobs.c.digest.in_(select(schema.blob_reviews.c.digest))
    waiting_bytes = await connection.scalar(select(func.sum(schema.blobs.c.size)).where(reviewed))
    return Waiting(
        repositories=await repositories.count_deleted(connection),
        manifests=sum(manifests.values()),
        blobs=sum(blobs.values()),
        files=files,
        bytes=file_bytes + int(waiting_bytes or 0),
        events=dict(sorted((Counter(manifests) + Counter(blobs)).items())),
        first=min((first for first in firsts if first is not None), default=None),
    )


async def _count_by_event(connection: AsyncConnection, table: Table) -> dict[str, int]:
    rows = await connection.execute(select(table.c.event, func.count()).group_by(table.c.event))
    return {event: int(count) for event, count in rows}


async def note_seen(connection: AsyncConnection, now: datetime) -> None:
    """Note that a collector has looked."""
    await connection.execute(update(_state).values(seen_at=now))


async def count_objects(connection: AsyncConnection) -> int:
    """Count the blobs and manifests that are stored; it takes the longer, the more there are."""
    tables = (schema.blobs, schema.manifests)
    return sum([int(await connection.scalar(select(func.count()).select_from(table)) or 0) for table in tables])


async def begin_window(connection: AsyncConnection, now: datetime, objects: int) -> None:
    """Begin to count deletions anew, of so many blobs and manifests."""
    await connection.execute(update(_state).values(window_at=now, window_objects=objects, window_deleted=0))


async def note_deleted(connection: AsyncConnection, *, old: bool, manifests: int = 0, blobs: int = 0) -> None:
    """Count a manifest or blob that the same transaction deletes; `old` ones count for the window, too."""
    await connection.execute(_NOTE_DELETED, {"old": int(old), "manifests": manifests, "blobs": blobs})


async def note_freed(connection: AsyncConnection, freed_bytes: int) -> None:
    """Count bytes of files that were deleted."""
    await connection.execute(_NOTE_FREED, {"freed": freed_bytes})


async def stop(connection: AsyncConnection, reason: str, now: datetime) -> None:
    """Note why no collector goes on, until `go_on`."""
    await connection.execute(update(_state).values(stopped_at=now, stopped_reason=reason))


async def hold(connection: AsyncConnection, reason: str) -> None:
    """Note why nothing is collected for now, unless it waits for somebody."""
    await connection.execute(update(_state).where(_state.c.stopped_at.is_(None)).values(stopped_reason=reason))


async def end_hold(connection: AsyncConnection) -> None:
    """Note that nothing holds collectors up any more, unless they wait for somebody."""
    await connection.execute(update(_state).where(_state.c.stopped_at.is_(None)).values(stopped_reason=None))


async def go_on(connection: AsyncConnection) -> None:
    """Let collectors go on, and count their deletions from now on."""
    await connection.execute(update(_state).values(stopped_at=None, stopped_reason=None, window_at=None))
