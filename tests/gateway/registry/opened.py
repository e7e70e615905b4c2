"""Uploads over a data folder, as one worker of a server opens them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from cache.lease.local import LocalLeases
from cache.store.filesystem import FilesystemStore
from cache.store.spool import MakeRoom, no_room
from gateway.db import schema
from gateway.db.engine import DATABASE_FILE, Database
from gateway.registry.intake import NativeBlobs
from gateway.registry.threads import UploadThreads
from gateway.registry.uploads import DEFAULT_LIMITS, UploadLimits, Uploads

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


@dataclass(frozen=True)
class Worker:
    """One process's view of the data folder."""

    database: Database
    store: FilesystemStore
    uploads: Uploads
    folder: Path


@asynccontextmanager
async def open_worker(
    data: Path,
    limits: UploadLimits = DEFAULT_LIMITS,
    boot: str | None = None,
    make_room: MakeRoom = no_room,
    clock: Callable[[], datetime] = lambda: NOW,
) -> AsyncIterator[Worker]:
    """Open the database, the store and the uploads of a data folder whose database has been set up."""
    folder = data / "spool" / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    store, threads = FilesystemStore(data / "blobs"), UploadThreads()
    async with Database.open(data / DATABASE_FILE) as database:
        native = NativeBlobs(database, store, LocalLeases(folder.parent / "leases"), threads, clock, make_room)
        try:
            yield Worker(database, store, Uploads(native, folder, limits, boot), folder)
        finally:
            threads.close()


async def left_behind(worker: Worker) -> list[str]:
    """Ids of unfinished uploads, and the names of files that belong to none."""
    async with worker.database.read() as connection:
        ids = set((await connection.execute(select(schema.uploads.c.id))).scalars())
    return sorted(ids | {path.name for path in worker.folder.iterdir()})
