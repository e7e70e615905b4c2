"""The life of the services: each part is a context, opened from the settings and closed in the opposite order."""

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
from cache.index.tenants import TenantUsage
from cache.index.usage import UsageFile
from cache.oci.names import RepositoryName
from cache.proxy.prefetch import Prefetcher
from cache.proxy.pull_through import PullThrough
from cache.proxy.rights import record_arrival
from cache.retention.sweep import Evictor, Sweeper
from cache.runtime.locks import ProcessRole
from cache.runtime.tasks import Tasks
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.ledger import Ledger
from cache.values import Source
from gateway.audit.log import AuditLog
from gateway.auth.authenticator import Authenticator, IdTokens
from gateway.auth.bearer_tokens import TokenService
from gateway.auth.login_delays import LoginDelays
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.passwords import Passwords
from gateway.data_folder import CacheFolder, NativeFolder, server_name
from gateway.db.engine import Database, DatabaseUnusable
from gateway.directory.access_tokens import AccessTokenAdministration
from gateway.directory.directory import Directory
from gateway.directory.job_administration import JobAdministration
from gateway.directory.job_scopes import JobScopeAdministration
from gateway.directory.last_uses import LastUses
from gateway.directory.token_administration import DeployTokenAdministration, PersonalTokenAdministration
from gateway.directory.user_administration import UserAdministration
from gateway.directory.web_sessions import WebSessions
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.keys.signing import SigningKeys, SigningKeysUnusable
from gateway.observability.cache_events import RecordedEvents, UpstreamTraffic, counting_into
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.upstreams import Upstreams
from gateway.virtual.clients import VirtualClients
from gateway.virtual.store import VirtualRegistries
from gateway.wiring.diagnosis import open_diagnoses
from gateway.wiring.from_settings import (
    download_places,
    open_evictor,
    password_threads,
    upload_limits,
)
from gateway.wiring.native import open_native
from gateway.wiring.oidc import open_issuers
from gateway.wiring.roles import at_work
from gateway.wiring.upstreams import configured_upstreams
from gateway.wiring.values import configured_audit, configured_database, listed_groups, private_hosts, tag_rules
from gateway.wiring.webhooks import open_webhooks

log = structlog.get_logger()

USAGE_FLUSH_SECONDS = 3.0
AUDIT_FLUSH_SECONDS = 2.0
FOLD_SECONDS = 1.0
REPORT_SECONDS = 2.0
CHANGE_CHECK_SECONDS = 0.005
"""Seconds until a server sees the changes of another process, such as a command."""


@dataclass(frozen=True, slots=True)
class _Records:
    """Counts and facts that are collected in memory, and written at intervals."""

    metrics: Metrics
    usage: UsageFile
    tenants: TenantUsage
    happenings: HappeningLog
    ledger: Ledger
    audit: AuditLog


@asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics | None = None, server_state: ServerState | None = None
) -> AsyncIterator[Services]:
    """Open the services of a server or a command; the cache is held to its limits while they are open.

    Raises DatabaseUnusable.
    """
    folder, metrics, server_state = CacheFolder(settings.data), metrics or Metrics(), server_state or ServerState()
    folder.make()
    metrics.show("connections", lambda: server_state.connections)
    async with (
        _open_index(folder) as index,
        _open_records(settings, folder, metrics) as records,
        Database.open(configured_database(settings), CHANGE_CHECK_SECONDS) as database,
        _open_upstreams(settings, records) as upstreams,
        _open_virtual_clients(settings, records) as virtual_clients,
    ):
        events = _ServerEvents(records, folder, upstreams)
        async with (
            _open_evictor(settings, folder, records, events, server_state.closed) as evictor,
            _open_pull_through(settings, folder, records, index, upstreams, evictor, events) as pull_through,
            open_native(
                NativeFolder(settings.data),
                database,
                evictor.make_room,
                settings.gc,
                upload_limits(settings),
                metrics.count_native_damage,
            ) as native,
        ):
            directory, sealer = (
                Directory(database, upstreams.names, listed_groups(settings)),
                Sealer(settings.data / KEYS_DIRECTORY),
            )
            tokens = TokenService(SigningKeys(settings.data / KEYS_DIRECTORY), sealer)
            async with (
                open_issuers(settings, database, directory, records.audit, utc_now) as issuers,
                _open_authenticator(settings, database, directory, tokens, issuers.id_tokens) as authenticator,
                open_webhooks(settings, database, sealer, utc_now) as webhooks,
                open_diagnoses(settings.data, utc_now) as diagnoses,
            ):
                yield Services(
                    directory=directory,
                    authenticator=authenticator,
                    tokens=tokens,
                    users=UserAdministration(database, settings.data / KEYS_DIRECTORY, utc_now),
                    personal_tokens=PersonalTokenAdministration(database, utc_now),
                    web_sessions=WebSessions(database, utc_now),
                    oidc_sign_in=issuers.sign_in,
                    deploy_tokens=DeployTokenAdministration(database, utc_now),
                    access_tokens=AccessTokenAdministration(database, utc_now),
                    jobs=JobAdministration(database, utc_now),
                    job_scopes=JobScopeAdministration(database),
                    upstreams=upstreams,
                    virtual=VirtualRegistries(database, sealer, utc_now, private_hosts(settings)),
                    virtual_clients=virtual_clients,
                    sealer=sealer,
                    pull_through=pull_through,
                    native=native,
                    webhooks=webhooks,
                    metrics=metrics,
                    events=events,
                    audit=records.audit,
                    group_usage=records.tenants,
                    index=index,
                    folder=folder,
                    server_state=server_state,
                    diagnoses=diagnoses,
                    clock=utc_now,
                )


class _ServerEvents(RecordedEvents):
    """Records the events of the cache, and notifies the circuit breakers of upstreams that send valid content."""

    def __init__(self, records: _Records, folder: CacheFolder, upstreams: Upstreams) -> None:
        quarantine, name_of = Quarantine(folder.quarantine), upstreams.name_of
        super().__init__(records.metrics, records.happenings, quarantine, name_of, utc_now, records.audit)
        self._upstreams = upstreams

    def content_verified(self, source: Source, image: RepositoryName) -> None:
        self._upstreams.content_verified(source, image)

    def content_refused(self, refused: RefusedContent) -> None:
        super().content_refused(refused)
        self._upstreams.content_invalid(refused.source, refused.image, refused.fault, refused.reason)


@asynccontextmanager
async def _open_index(folder: CacheFolder) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(folder.index, CHANGE_CHECK_SECONDS)
    try:
        await index.prepare()
        yield index
    finally:
        index.close()


@asynccontextmanager
async def _open_records(settings: Settings, folder: CacheFolder, metrics: Metrics) -> AsyncIterator[_Records]:
    audit = AuditLog(configured_audit(settings), metrics.count_audited)
    usage, tenants, happenings = UsageFile(folder.usage), TenantUsage(folder.usage), HappeningLog(folder.usage)
    records = _Records(metrics, usage, tenants, happenings, Ledger(folder.quota), audit)
    metrics.pulls_counted = counting_into(records.usage, utc_now)
    tasks = Tasks()
    tasks.start(_flush_at_intervals(records), "usage")
    tasks.start(_fold_at_intervals(metrics), "metrics")
    tasks.start(_flush_audit_at_intervals(audit), "audit log")
    try:
        yield records
    finally:
        await tasks.close()
        metrics.fold()
        _flush(records)
        audit.flush()
        records.ledger.flush()


@asynccontextmanager
async def _open_upstreams(settings: Settings, records: _Records) -> AsyncIterator[Upstreams]:
    upstreams = Upstreams(
        configured_upstreams(settings),
        Sealer(settings.data / KEYS_DIRECTORY),
        records.ledger,
        lambda name: UpstreamTraffic(records.metrics, name),
        settings.data / KEYS_DIRECTORY,
        server_name(settings.data),
    )
    try:
        await upstreams.prepare()
        yield upstreams
    finally:
        await upstreams.close()


@asynccontextmanager
async def _open_virtual_clients(settings: Settings, records: _Records) -> AsyncIterator[VirtualClients]:
    clients = VirtualClients(
        Sealer(settings.data / KEYS_DIRECTORY),
        records.ledger,
        lambda label: UpstreamTraffic(records.metrics, label),
        private_hosts(settings),
        server_name(settings.data),
    )
    try:
        yield clients
    finally:
        await clients.close()


@asynccontextmanager
async def _open_evictor(
    settings: Settings, folder: CacheFolder, records: _Records, events: CacheEvents, closed: asyncio.Event
) -> AsyncIterator[Evictor]:
    """Open the evictor, and sweep the cache while it is open."""
    maintenance = CacheMaintenance(folder.index, records.usage)
    evictor = open_evictor(settings, maintenance, events)
    sweeper = Sweeper(evictor, ProcessRole(folder.lock("sweep")), events, partial(sweep_spools, folder.spools))
    try:
        async with at_work(sweeper, closed):
            yield evictor
    finally:
        maintenance.close()


@asynccontextmanager
async def _open_pull_through(
    settings: Settings,
    folder: CacheFolder,
    records: _Records,
    index: SqlIndex,
    upstreams: Upstreams,
    evictor: Evictor,
    events: CacheEvents,
) -> AsyncIterator[PullThrough]:
    metrics, tasks = records.metrics, Tasks()
    quarantine = Quarantine(folder.quarantine)
    store = FilesystemStore(folder.blobs, quarantine)
    storage = DownloadStorage(
        spools=folder.spools,
        store=store,
        quarantine=quarantine,
        make_room=evictor.make_room,
        can_keep=evictor.can_keep,
    )
    flights = Flights(storage, tasks, partial(record_arrival, index, store), events, places=download_places(settings))
    metrics.show("flights", lambda: flights.places.held)
    metrics.show("followers", lambda: flights.followers)
    pull_through = PullThrough(
        index=index,
        usage=records.usage,
        store=store,
        flights=flights,
        tasks=tasks,
        rules=tag_rules(settings),
        clock=utc_now,
        events=events,
        prefetcher=Prefetcher(tasks, upstreams.has_spare_quota) if settings.cache.prefetch else None,
    )
    tasks.start(_report_at_intervals(records, upstreams, pull_through), "quota")
    try:
        yield pull_through
    finally:
        try:
            await flights.close()
        finally:
            await tasks.close()


@asynccontextmanager
async def _open_authenticator(
    settings: Settings, database: Database, directory: Directory, tokens: TokenService, id_tokens: IdTokens | None
) -> AsyncIterator[Authenticator]:
    """Open the authenticator; while it is open, last uses of credentials are written at intervals."""
    uses, tasks = LastUses(database), Tasks()
    logins = PasswordLogins(Passwords(password_threads(settings)), LoginDelays(), utc_now)
    try:
        tokens.published(utc_now())
    except SigningKeysUnusable as error:  # what strangers may pull needs no token
        log.warning("signing_keys_unusable", reason=str(error))
    tasks.start(_flush_uses_at_intervals(uses), "last uses")
    try:
        yield Authenticator(directory, tokens, logins, utc_now, uses.note, id_tokens)
    finally:
        logins.close()
        await tasks.close()
        await _flush_uses(uses)


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _fold_at_intervals(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(FOLD_SECONDS)
        metrics.fold()


async def _flush_at_intervals(records: _Records) -> None:
    while True:
        await asyncio.sleep(USAGE_FLUSH_SECONDS)
        if any(each.has_unwritten for each in (records.usage, records.tenants, records.happenings)):
            await asyncio.to_thread(_flush, records)


async def _flush_audit_at_intervals(audit: AuditLog) -> None:
    while True:
        await asyncio.sleep(AUDIT_FLUSH_SECONDS)
        if audit.is_due:
            await asyncio.to_thread(audit.flush)


async def _flush_uses_at_intervals(uses: LastUses) -> None:
    while True:
        await asyncio.sleep(USAGE_FLUSH_SECONDS)
        await _flush_uses(uses)


async def _flush_uses(uses: LastUses) -> None:
    try:
        await uses.flush()
    except DatabaseUnusable as error:  # kept for the next time
        log.warning("last_uses_not_written", reason=str(error))


def _flush(records: _Records) -> None:
    try:
        records.usage.flush()
        records.tenants.flush()
        records.happenings.flush()
    except Exception as error:  # counting is not worth a server
        log.warning("usage_not_written", reason=str(error))


async def _report_at_intervals(records: _Records, upstreams: Upstreams, pull_through: PullThrough) -> None:
    """Show limits and circuit breakers as they are, and write the limits, even if no request changes them."""
    while True:
        records.metrics.show_upstreams(upstreams.states(pull_through.waiting_misses()))
        await asyncio.sleep(REPORT_SECONDS)
        if records.ledger.has_unwritten:
            await asyncio.to_thread(records.ledger.flush)
