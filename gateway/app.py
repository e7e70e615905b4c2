"""The composition root: every constructor call, and what lives as long as the app."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.flight import Flights, Landing
from cache.index.chronicle import Chronicle
from cache.index.sql import SqlIndex
from cache.index.sqlite import DatabaseUnusable
from cache.index.usage import UsageFile
from cache.oci.errors import RegistryError
from cache.proxy import PullThrough, TagRules, record_arrival
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.tasks import Tasks
from gateway import ops
from gateway.db.engine import DATABASE_FILE, Database
from gateway.db.sealing import KEYS_DIRECTORY, Sealer
from gateway.folders import CacheFolder
from gateway.http import errors
from gateway.http.connection import KnownConnection
from gateway.http.errors import Refusals
from gateway.http.middleware import AccessLog, DrainedRefusals, log_at_once
from gateway.http.stalls import StalledClients
from gateway.http.zerocopy import ZeroCopy
from gateway.lines import AccessLine
from gateway.metrics import Metrics
from gateway.namespaces import Namespaces
from gateway.observers import Downloads, Troubles, UpstreamTraffic, counting_into
from gateway.process import Process
from gateway.services import Services
from gateway.settings import Settings
from gateway.upstreams import Upstream, Upstreams
from gateway.v2.access import Options
from gateway.v2.routes import RegistryApi

log = structlog.get_logger()

USAGE_FLUSH_SECONDS = 3.0
FOLD_SECONDS = 0.5
LOOK_EVERY_SECONDS = 0.005
"""How soon a server sees what another process, such as a command, has written."""


@asynccontextmanager
async def running(
    settings: Settings,
    external_url: str,
    log_access: Callable[[AccessLine], None] = log_at_once,
    metrics: Metrics | None = None,
    process: Process | None = None,
) -> AsyncIterator[ASGIApp]:
    """The app with all that it lives on. The data folder must have been made. Raises DatabaseUnusable."""
    async with open_services(settings, metrics, process) as services:
        await services.namespaces.refresh_if_changed()
        options = Options(external_url, open_proxy_allowed(settings, external_url), settings.zero_copy)
        yield create_app(services, options, log_access, ops_options(settings, external_url))


def create_app(
    services: Services,
    options: Options,
    log_access: Callable[[AccessLine], None] = log_at_once,
    for_operators: ops.Options | None = None,
) -> ASGIApp:
    app = Starlette(
        routes=ops.routes(services, for_operators or ops.Options()),
        exception_handlers={
            DatabaseUnusable: errors.on_database_unusable,
            RegistryError: errors.on_registry_error,
            Exception: errors.on_unexpected,
            404: errors.on_not_found,
            405: errors.on_method_not_allowed,
        },
    )
    app.router.redirect_slashes = False
    surfaces = Surfaces(Refusals(RegistryApi(services, options)), app)
    metrics = services.metrics

    def note(line: AccessLine) -> None:
        metrics.note_answer(line)
        log_access(line)

    access_log = AccessLog(DrainedRefusals(surfaces), note)
    metrics.show("requests_in_progress", lambda: access_log.in_progress)
    return KnownConnection(ZeroCopy(StalledClients(access_log), options.zero_copy))


class Surfaces:
    """Which surface a path belongs to."""

    def __init__(self, registry: ASGIApp, rest: ASGIApp) -> None:
        self._registry = registry
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_registry = scope["path"].startswith("/v2") and scope["path"][3:4] in ("", "/", "\n")
        await (self._registry if is_registry else self._rest)(scope, receive, send)


@asynccontextmanager
async def open_services(
    settings: Settings, metrics: Metrics | None = None, process: Process | None = None
) -> AsyncIterator[Services]:
    folder = CacheFolder(settings.data)
    folder.make()
    index, usage, tasks = SqlIndex(folder.index, LOOK_EVERY_SECONDS), UsageFile(folder.usage), Tasks()
    store, quarantine = FilesystemStore(folder.blobs), Quarantine(folder.quarantine)
    metrics, chronicle = metrics or Metrics(), Chronicle(folder.usage)
    metrics.pulls_counted = counting_into(usage, utc_now)
    sealer = Sealer(settings.data / KEYS_DIRECTORY)
    upstreams = Upstreams(configured_upstreams(settings), sealer, lambda name: UpstreamTraffic(metrics, name))
    troubles = Troubles(metrics, chronicle, quarantine, upstreams.name_of, utc_now)
    landing = Landing(folder.spools, store, quarantine)
    downloads = Downloads(metrics, chronicle, upstreams.name_of, utc_now)
    flights = Flights(landing, tasks, lambda flight: record_arrival(index, flight), troubles.refused, downloads)
    rules = TagRules(settings.cache.ttl, settings.cache.grace)
    pull_through = PullThrough(index, usage, store, flights, tasks, rules, utc_now, troubles.refused, troubles.failed)
    process = process or Process()
    metrics.show("flights", lambda: len(flights))
    metrics.show("followers", lambda: flights.followers)
    metrics.show("connections", lambda: process.connections)
    async with Database.open(settings.data / DATABASE_FILE, LOOK_EVERY_SECONDS) as database:
        tasks.start(_flush_often(usage, chronicle), "usage")
        tasks.start(_fold_often(metrics), "metrics")
        try:
            namespaces = Namespaces(database, upstreams.names)
            yield Services(namespaces, upstreams, pull_through, metrics, index, folder, process)
        finally:
            await flights.close()
            await tasks.close()
            await upstreams.close()
            index.close()
            metrics.fold()
            _flush(usage, chronicle)


def configured_upstreams(settings: Settings) -> list[Upstream]:
    return [
        Upstream(
            name=name,
            url=upstream.url,
            token_hosts=frozenset(upstream.token_hosts),
            private_addresses=upstream.private_addresses,
            username=upstream.username,
            password_file=upstream.password_file,
            groups=frozenset(upstream.groups),
            ca_file=upstream.ca_file,
            proxy=upstream.proxy,
            allow=upstream.allow,
            deny=upstream.deny,
        )
        for name, upstream in settings.upstreams.items()
    ]


def open_proxy_allowed(settings: Settings, external_url: str) -> bool:
    """Whether groups with anonymous pull may be served: everywhere if the setting says so, else on loopback alone."""
    return settings.allow_open_proxy or on_loopback(settings, external_url)


def ops_options(settings: Settings, external_url: str) -> ops.Options:
    access = ops.MetricsAccess(settings.metrics_access)
    return ops.Options(access, settings.metrics_token_file, on_loopback(settings, external_url))


def on_loopback(settings: Settings, external_url: str) -> bool:
    """Whether this server is reached on loopback alone."""
    return is_loopback(settings.host) and is_loopback(urlsplit(external_url).hostname or "")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _fold_often(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(FOLD_SECONDS)
        metrics.fold()


async def _flush_often(usage: UsageFile, chronicle: Chronicle) -> None:
    while True:
        await asyncio.sleep(USAGE_FLUSH_SECONDS)
        await asyncio.to_thread(_flush, usage, chronicle)


def _flush(usage: UsageFile, chronicle: Chronicle) -> None:
    try:
        usage.flush()
        chronicle.flush()
    except Exception as error:  # counting is not worth a server
        log.warning("usage_not_written", reason=str(error))
