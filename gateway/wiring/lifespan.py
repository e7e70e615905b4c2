"""Opening: all that answers pulls, put together from the settings and taken apart in the opposite order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from cache.download.flight import Flights
from cache.download.leased_spool import DownloadStorage
from cache.download.spool_sweep import sweep_spools
from cache.events import CacheEvents, RefusedContent
from cache.index.happenings import HappeningLog
from cache.index.maintenance import CacheMaintenance
from cache.index.sql import SqlIndex
from cache.index.usage import UsageFile
from cache.proxy.prefetch import Prefetcher
from cache.proxy.rights import record_arrival
from cache.proxy.shared import PullThrough
from cache.retention.scrub import Finding, Inspector, Scrub
from cache.retention.sweep import Evictor, Sweeper
from cache.runtime.locks import Role
from cache.runtime.tasks import Tasks
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.ledger import Ledger
from cache.values import Source
from gateway.auth.authenticator import Authenticator
from gateway.data_folder import CacheFolder
from gateway.db.engine import DATABASE_FILE, Database
from gateway.directory.directory import Directory
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.maintenance.heal import Healer
from gateway.observability.cache_events import RecordedEvents, UpstreamTraffic, counting_into
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.upstreams import Upstreams
from gateway.wiring.from_settings import configured_upstreams, open_evictor, tag_rules

log = structlog.get_logger()

USAGE_FLUSH_SECONDS = 3.0
FOLD_SECONDS = 0.5
REPORT_SECONDS = 2.0
LOOK_EVERY_SECONDS = 0.005
"""How soon a server sees what another process, such as a command, has written."""


@dataclass(frozen=True, slots=True)
class _Books:
    """What is counted and remembered in memory, and written down now and then."""

    metrics: Metrics
    usage: UsageFile
    chronicle: HappeningLog
    ledger: Ledger


@asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics | None = None, process: ServerState | None = None
) -> AsyncIterator[Services]:
    """All that answers pulls, beside a server or in one; the cache is held to its limits meanwhile."""
    folder, metrics, process = CacheFolder(settings.data), metrics or Metrics(), process or ServerState()
    folder.make()
    metrics.show("connections", lambda: process.connections)
    async with (
        _indexing(folder) as index,
        _writing_down(folder, metrics) as books,
        Database.open(settings.data / DATABASE_FILE, LOOK_EVERY_SECONDS) as database,
        _reaching(settings, books) as upstreams,
    ):
        events = _ServerEvents(books, folder, upstreams)
        async with (
            _keeping(settings, folder, books, events) as evictor,
            _pulling(settings, folder, books, index, upstreams, evictor, events) as pull_through,
        ):
            directory = Directory(database, upstreams.names)
            yield Services(
                directory=directory,
                authenticator=Authenticator(),
                upstreams=upstreams,
                pull_through=pull_through,
                metrics=metrics,
                events=events,
                index=index,
                folder=folder,
                process=process,
                clock=utc_now,
            )


class _ServerEvents(RecordedEvents):
    """Records the events of the cache, and tells the circuit breakers whose content holds."""

    def __init__(self, books: _Books, folder: CacheFolder, upstreams: Upstreams) -> None:
        super().__init__(books.metrics, books.chronicle, Quarantine(folder.quarantine), upstreams.name_of, utc_now)
        self._upstreams = upstreams

    def content_verified(self, source: Source) -> None:
        self._upstreams.content_verified(source)

    def content_refused(self, refused: RefusedContent) -> None:
        super().content_refused(refused)
        self._upstreams.content_invalid(refused.source, refused.fault, refused.reason)


@asynccontextmanager
async def _indexing(folder: CacheFolder) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(folder.index, LOOK_EVERY_SECONDS)
    try:
        await index.prepare()
        yield index
    finally:
        index.close()


@asynccontextmanager
async def _writing_down(folder: CacheFolder, metrics: Metrics) -> AsyncIterator[_Books]:
    books = _Books(metrics, UsageFile(folder.usage), HappeningLog(folder.usage), Ledger(folder.quota))
    metrics.pulls_counted = counting_into(books.usage, utc_now)
    tasks = Tasks()
    tasks.start(_flush_often(books), "usage")
    tasks.start(_fold_often(metrics), "metrics")
    try:
        yield books
    finally:
        await tasks.close()
        metrics.fold()
        _flush(books)
        books.ledger.flush()


@asynccontextmanager
async def _reaching(settings: Settings, books: _Books) -> AsyncIterator[Upstreams]:
    upstreams = Upstreams(
        configured_upstreams(settings),
        Sealer(settings.data / KEYS_DIRECTORY),
        books.ledger,
        lambda name: UpstreamTraffic(books.metrics, name),
    )
    try:
        await upstreams.prepare()
        yield upstreams
    finally:
        await upstreams.close()


@asynccontextmanager
async def _keeping(
    settings: Settings, folder: CacheFolder, books: _Books, events: CacheEvents
) -> AsyncIterator[Evictor]:
    """Within, the cache is swept."""
    stock = CacheMaintenance(folder.index, books.usage)
    evictor = open_evictor(settings, stock, events)
    sweeper = Sweeper(evictor, Role(folder.lock("sweep")), events, partial(sweep_spools, folder.spools))
    try:
        sweeper.start()
        try:
            yield evictor
        finally:
            await asyncio.to_thread(sweeper.close)
    finally:
        stock.close()


@asynccontextmanager
async def _pulling(
    settings: Settings,
    folder: CacheFolder,
    books: _Books,
    index: SqlIndex,
    upstreams: Upstreams,
    evictor: Evictor,
    events: CacheEvents,
) -> AsyncIterator[PullThrough]:
    metrics, tasks = books.metrics, Tasks()
    store, quarantine = FilesystemStore(folder.blobs), Quarantine(folder.quarantine)
    storage = DownloadStorage(folder.spools, store, quarantine, evictor.make_room)
    flights = Flights(storage, tasks, partial(record_arrival, index), events)
    metrics.show("flights", lambda: len(flights))
    metrics.show("followers", lambda: flights.followers)
    pull_through = PullThrough(
        index=index,
        usage=books.usage,
        store=store,
        flights=flights,
        tasks=tasks,
        rules=tag_rules(settings),
        clock=utc_now,
        events=events,
        prefetcher=Prefetcher(tasks, upstreams.has_spare_quota) if settings.cache.prefetch else None,
    )
    tasks.start(_report_often(books, upstreams, pull_through), "quota")
    try:
        yield pull_through
    finally:
        try:
            await flights.close()
        finally:
            await tasks.close()


@asynccontextmanager
async def scrubbing(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Within, what is kept is looked through for damage, as fast as the settings allow."""
    rate = settings.cache.scrub_rate.number
    if not rate:
        yield
        return
    folder, loop = services.folder, asyncio.get_running_loop()
    usage = UsageFile(folder.usage)
    stock = CacheMaintenance(folder.index, usage)
    healer = Healer(services.directory, services.upstreams, services.pull_through)

    def repair(finding: Finding) -> None:
        healing = healer.heal(finding.digest, finding.images, document=finding.document)
        loop.call_soon_threadsafe(lambda: tasks.start(healing, f"heal {finding.digest}"))

    inspector = Inspector(stock, FilesystemStore(folder.blobs), Quarantine(folder.quarantine))
    scrub, tasks = Scrub(stock, usage, inspector, Role(folder.lock("scrub")), rate, repair, services.events), Tasks()
    scrub.start()
    try:
        yield
    finally:
        await asyncio.to_thread(scrub.close)
        await tasks.close()
        stock.close()


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _fold_often(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(FOLD_SECONDS)
        metrics.fold()


async def _flush_often(books: _Books) -> None:
    while True:
        await asyncio.sleep(USAGE_FLUSH_SECONDS)
        await asyncio.to_thread(_flush, books)


def _flush(books: _Books) -> None:
    try:
        books.usage.flush()
        books.chronicle.flush()
    except Exception as error:  # counting is not worth a server
        log.warning("usage_not_written", reason=str(error))


async def _report_often(books: _Books, upstreams: Upstreams, pull_through: PullThrough) -> None:
    """What is known of limits and circuits is written down and shown as it is, not only when it changes."""
    while True:
        books.metrics.show_upstreams(upstreams.states(pull_through.waiting_misses()))
        await asyncio.sleep(REPORT_SECONDS)
        await asyncio.to_thread(books.ledger.flush)
