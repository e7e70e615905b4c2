"""Checks of stored content in the background: the scrub, and blobs that clients seem to find damaged."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from cache.index.maintenance import CacheMaintenance
from cache.index.usage import UsageFile
from cache.retention.scrub import Finding, Inspector, ReadLimiter, Scrub
from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from gateway.data_folder import NativeFolder
from gateway.db.stored_blobs import RecordedBlob
from gateway.maintenance.heal import Healer
from gateway.maintenance.repeated_pulls import AGAIN_SECONDS, PullMemory, RepeatedPulls, Suspect, SuspectReader
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.wiring.native import native_inspector
from gateway.wiring.roles import at_work

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _CacheChecks:
    """What a thread needs that checks the cache. `repair` has damaged content fetched again, and does not block."""

    maintenance: CacheMaintenance
    usage: UsageFile
    inspector: Inspector
    repair: Callable[[Finding], None]


@asynccontextmanager
async def scrubbing(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Check the cache for damage in the background, as fast as the settings allow."""
    rate = settings.cache.scrub_rate.number
    if not rate:
        yield
        return
    async with _open_cache_checks(services) as checks:
        role = ProcessRole(services.folder.lock("scrub"))
        scrub = Scrub(checks.maintenance, checks.usage, checks.inspector, role, rate, checks.repair, services.events)
        async with at_work(scrub, services.server_state.closed):
            yield


@asynccontextmanager
async def checking_suspects(
    settings: Settings, services: Services, memory: PullMemory
) -> AsyncIterator[RepeatedPulls | None]:
    """Check blobs that clients pull twice within a minute; None where the settings have nothing read."""
    if not settings.cache.scrub_rate.number:
        yield None
        return
    async with _open_cache_checks(services) as checks:
        stopped = threading.Event()
        reader = SuspectReader(_SuspectCheck(settings, services, checks, stopped).check, stopped, memory)
        reader.start()
        try:
            yield RepeatedPulls(reader.add, memory)
        finally:
            await asyncio.to_thread(reader.close)


class _SuspectCheck:
    """Reads suspects, in a thread. It reads as fast as it can: a client fails until it is done."""

    def __init__(self, settings: Settings, services: Services, checks: _CacheChecks, stopped: threading.Event) -> None:
        self._services = services
        self._checks = checks
        self._limiter = ReadLimiter(0, stopped)
        self._rows, self._inspector = native_inspector(NativeFolder(settings.data), services.native)

    def check(self, suspect: Suspect) -> None:
        """Read a suspect, and log what was found. Raises DatabaseUnusable, OSError."""
        is_damaged = self._check_native(suspect) if suspect.is_native else self._check_cached(suspect)
        if not is_damaged and not self._limiter.stopped:
            log.info(
                "blob_whole",
                digest=str(suspect.digest),
                reason=f"a client pulled it twice within {AGAIN_SECONDS:.0f} s, so it was read again",
            )

    def _check_cached(self, suspect: Suspect) -> bool:
        finding = self._checks.inspector.check(suspect.digest, self._limiter)
        if not self._limiter.stopped:
            self._checks.usage.note_checked([suspect.digest], self._services.clock())
        if finding is None:
            return False
        self._services.events.damage_found(finding.damage)
        self._checks.repair(finding)
        return True

    def _check_native(self, suspect: Suspect) -> bool:
        size = self._rows.size(suspect.digest)
        if size is None:
            return False
        finding = self._inspector.check(RecordedBlob(suspect.digest, size), self._limiter)
        if finding is None:
            return False
        self._services.metrics.count_native_damage(finding.damage)
        return True


@asynccontextmanager
async def _open_cache_checks(services: Services) -> AsyncIterator[_CacheChecks]:
    folder, loop, tasks = services.folder, asyncio.get_running_loop(), Tasks()
    usage = UsageFile(folder.usage)
    maintenance = CacheMaintenance(folder.index, usage)
    healer = Healer(services.directory, services.upstreams, services.pull_through)

    def repair(finding: Finding) -> None:
        healing = healer.heal(finding.digest, finding.images, is_manifest=finding.is_manifest)
        loop.call_soon_threadsafe(lambda: tasks.start(healing, f"heal {finding.digest}"))

    quarantine = Quarantine(folder.quarantine)
    inspector = Inspector(maintenance, FilesystemStore(folder.blobs, quarantine), quarantine)
    try:
        yield _CacheChecks(maintenance, usage, inspector, repair)
    finally:
        await tasks.close()
        maintenance.close()
