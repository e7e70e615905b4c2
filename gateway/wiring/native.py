"""The life of the native store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog

from cache.lease.local import LocalLeases
from cache.oci.errors import RegistryError
from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks
from cache.sqlite import DatabaseUnusable
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.store.spool import MakeRoom
from cache.values import Damage
from gateway.audit.command_lines import CommandLines
from gateway.data_folder import NativeFolder, audit_file
from gateway.db.engine import Database
from gateway.maintenance.native_inspector import NativeInspector
from gateway.maintenance.native_rows import NativeRows
from gateway.maintenance.native_scrub import NativeScrub
from gateway.observability.metrics import Metrics
from gateway.registry.collecting import CollectorThread
from gateway.registry.collector import Collected, CollectionRule, Collector
from gateway.registry.intake import NativeBlobs
from gateway.registry.native_store import NativeStore
from gateway.registry.storage_errors import make_database_room
from gateway.registry.threads import UploadThreads
from gateway.registry.uploads import DEFAULT_LIMITS, UploadLimits, Uploads
from gateway.settings.tables import CollectionSettings
from gateway.wiring.roles import at_work

log = structlog.get_logger()

SWEEP_SECONDS = 3600.0
"""Seconds between two sweeps of uploads, each of which is kept for a week."""


@asynccontextmanager
async def open_native(
    folder: NativeFolder,
    database: Database,
    make_room: MakeRoom,
    settings: CollectionSettings,
    limits: UploadLimits = DEFAULT_LIMITS,
    damaged: Callable[[Damage], None] = lambda _: None,
) -> AsyncIterator[NativeStore]:
    """Open the native store of a data folder.

    `make_room` frees disk space that the cache holds. `damaged` is called with each damage that a mount finds.
    """
    folder.make()
    store = FilesystemStore(folder.blobs, _set_aside_in(folder))
    threads = UploadThreads()
    database = database.retrying(lambda: threads.run(make_database_room, folder.uploads, make_room))
    native = NativeBlobs(database, store, LocalLeases(folder.leases), threads, _utc_now, make_room, damaged)
    try:
        yield NativeStore(Uploads(native, folder.uploads, limits), settings.delay)
    finally:
        await asyncio.to_thread(threads.close)


@asynccontextmanager
async def sweeping_uploads(native: NativeStore) -> AsyncIterator[None]:
    """Delete abandoned uploads in the background, and old paths that have ended, at once and then at intervals."""
    tasks = Tasks()
    tasks.start(_sweep_at_intervals(native), "uploads")
    try:
        yield
    finally:
        await tasks.close()


@asynccontextmanager
async def scrubbing_native(
    folder: NativeFolder, native: NativeStore, rate: int, damaged: Callable[[Damage], None], closed: asyncio.Event
) -> AsyncIterator[None]:
    """Check native blobs for damage in the background, `rate` bytes per second; 0: none.

    `closed`: as in `at_work`. `damaged` is called with each finding, in the thread of the scrub.
    """
    if not rate:
        yield
        return
    rows, inspector = native_inspector(folder, native)
    scrub = NativeScrub(rows, inspector, ProcessRole(folder.lock("scrub")), rate, damaged)
    async with at_work(scrub, closed):
        yield


def native_inspector(folder: NativeFolder, native: NativeStore) -> tuple[NativeRows, NativeInspector]:
    """Make an inspector of native blobs for threads beside this event loop, and the rows that it reads."""
    blobs = native.uploads.native
    rows = NativeRows(blobs.database, run_from_threads())
    return rows, NativeInspector(rows, FilesystemStore(folder.blobs, _set_aside_in(folder)), blobs.leases)


@asynccontextmanager
async def collecting(
    folder: NativeFolder,
    native: NativeStore,
    settings: CollectionSettings,
    metrics: Metrics,
    closed: asyncio.Event,
) -> AsyncIterator[None]:
    """Collect content of the native store in the background that nothing needs. `closed`: as in `at_work`."""

    def count(done: Collected) -> None:
        if done != Collected():
            metrics.count_collected(done.reviewed, done.repositories, done.manifests, done.blobs, done.freed_bytes)

    thread = CollectorThread(
        collector_of(folder, native, settings).step,
        run_from_threads(),
        ProcessRole(folder.lock("collection")),
        settings.interval.total_seconds(),
        count,
        metrics.show_collection_stopped,
    )
    async with at_work(thread, closed):
        yield


@asynccontextmanager
async def logging_commands(folder: NativeFolder, closed: asyncio.Event) -> AsyncIterator[None]:
    """Log what commands delete, restore, move and pin, as the audit log tells it. `closed`: as in `at_work`."""
    role = ProcessRole(folder.lock("command-lines"))
    async with at_work(CommandLines(audit_file(folder.data), role), closed):
        yield


def collector_of(folder: NativeFolder, native: NativeStore, settings: CollectionSettings) -> Collector:
    """Make a collector of the native store of a data folder."""
    return Collector(native.uploads.native, CollectionRule(settings.delay, folder.lock("backup")))


def run_from_threads() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Make a function by which threads run coroutines on this event loop, and wait for their ends."""
    loop = asyncio.get_running_loop()
    return lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _set_aside_in(folder: NativeFolder) -> Quarantine:
    return Quarantine(folder.damaged, bounded=False)


async def _sweep_at_intervals(native: NativeStore) -> None:
    while True:
        try:
            await native.uploads.sweep(_utc_now())
            await native.forget_old_paths()
        except (DatabaseUnusable, OSError, RegistryError) as error:  # what is left is swept the next time
            log.warning("uploads_not_swept", reason=str(error))
        await asyncio.sleep(SWEEP_SECONDS)


def _utc_now() -> datetime:
    return datetime.now(UTC)
