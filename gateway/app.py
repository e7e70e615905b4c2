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
from cache.freshness import TagRule, TagRules
from cache.index.sql import SqlIndex
from cache.index.sqlite import DatabaseUnusable
from cache.index.usage import UsageFile
from cache.prefetch import Prefetching
from cache.proxy import PullThrough, record_arrival
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.store.spool import sweep
from cache.tasks import Tasks
from cache.upstream.errors import Corrupt
from cache.upstream.urls import origin_of
from cache.values import Source
from gateway import ops
from gateway.db.engine import DATABASE_FILE, Database
from gateway.db.sealing import KEYS_DIRECTORY, Sealer
from gateway.folders import CacheFolder
from gateway.http import errors
from gateway.http.connection import KnownConnection
from gateway.http.errors import Refusals
from gateway.http.middleware import AccessLine, AccessLog, DrainedRefusals, log_at_once
from gateway.http.stalls import StalledClients
from gateway.http.zerocopy import ZeroCopy
from gateway.metrics import Metrics
from gateway.namespaces import Namespaces
from gateway.services import Services
from gateway.settings import Settings
from gateway.upstreams import Upstream, Upstreams
from gateway.v2.access import Options
from gateway.v2.routes import RegistryApi

log = structlog.get_logger()

USAGE_FLUSH_SECONDS = 3.0
LOOK_EVERY_SECONDS = 0.005
"""How soon a server sees what another process, such as a command, has written."""


@asynccontextmanager
async def running(
    settings: Settings, external_url: str, log_access: Callable[[AccessLine], None] = log_at_once
) -> AsyncIterator[ASGIApp]:
    """The app with all that it lives on. The data folder must have been made. Raises DatabaseUnusable."""
    spools = CacheFolder(settings.data).spools
    if spools.exists() and (leftovers := sweep(spools)):  # by a server alone: no other one is running
        log.info("spools_swept", count=leftovers)
    async with open_services(settings) as services:
        await services.namespaces.refresh_if_changed()
        options = Options(external_url, open_proxy_allowed(settings, external_url), settings.zero_copy)
        yield create_app(services, options, log_access)


def create_app(services: Services, options: Options, log_access: Callable[[AccessLine], None] = log_at_once) -> ASGIApp:
    app = Starlette(
        routes=ops.routes(services),
        exception_handlers={
            DatabaseUnusable: errors.on_database_unusable,
            Exception: errors.on_unexpected,
            404: errors.on_not_found,
            405: errors.on_method_not_allowed,
        },
    )
    app.router.redirect_slashes = False
    surfaces = Surfaces(Refusals(RegistryApi(services, options)), app)
    return KnownConnection(
        ZeroCopy(StalledClients(AccessLog(DrainedRefusals(surfaces), log_access)), options.zero_copy)
    )


class Surfaces:
    """Which surface a path belongs to."""

    def __init__(self, registry: ASGIApp, rest: ASGIApp) -> None:
        self._registry = registry
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_registry = scope["path"].startswith("/v2") and scope["path"][3:4] in ("", "/", "\n")
        await (self._registry if is_registry else self._rest)(scope, receive, send)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """All that pulling through needs, for a server or for a command beside one."""
    folder = CacheFolder(settings.data)
    folder.make()
    upstreams = Upstreams(configured_upstreams(settings), Sealer(settings.data / KEYS_DIRECTORY))
    index, usage, tasks = SqlIndex(folder.index, LOOK_EVERY_SECONDS), UsageFile(folder.usage), Tasks()
    store = FilesystemStore(folder.blobs)
    quarantine, metrics = Quarantine(folder.quarantine), Metrics()
    landing = Landing(folder.spools, store, quarantine)

    def refused(source: Source, error: Corrupt) -> None:
        metrics.count_fault(source, error.fault)
        log.error("upstream_answer_refused", upstream=str(source.origin), fault=error.fault.value, reason=error.reason)
        if error.evidence:
            quarantine.take_bytes(error.evidence, f"manifest-{error.fault.value}")

    flights = Flights(landing, tasks, lambda flight: record_arrival(index, flight), refused)
    rules = tag_rules(settings)
    prefetching = Prefetching(tasks) if settings.cache.prefetch else None
    pull_through = PullThrough(index, usage, store, flights, tasks, rules, utc_now, refused, prefetching)
    async with Database.open(settings.data / DATABASE_FILE, LOOK_EVERY_SECONDS) as database:
        tasks.start(_flush_often(usage), "usage")
        try:
            yield Services(Namespaces(database, upstreams.names), upstreams, pull_through, metrics, index)
        finally:
            await flights.close()
            await tasks.close()
            await upstreams.close()
            index.close()
            usage.flush()


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


def tag_rules(settings: Settings) -> TagRules:
    """With each upstream that a rule names as the origin that it is."""
    rules = tuple(
        TagRule(
            rule.tags,
            settings.cache.ttl if rule.ttl is None else rule.ttl,
            rule.images,
            origin_of(settings.upstreams[rule.upstream].url) if rule.upstream is not None else None,
            rule.fresh_only,
        )
        for rule in settings.cache.rules
    )
    return TagRules(settings.cache.ttl, settings.cache.grace, rules, settings.cache.negative_ttl)


def open_proxy_allowed(settings: Settings, external_url: str) -> bool:
    """Whether groups with anonymous pull may be served: everywhere if the setting says so, else on loopback alone."""
    if settings.allow_open_proxy:
        return True
    return is_loopback(settings.host) and is_loopback(urlsplit(external_url).hostname or "")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def utc_now() -> datetime:
    return datetime.now(UTC)


async def _flush_often(usage: UsageFile) -> None:
    while True:
        await asyncio.sleep(USAGE_FLUSH_SECONDS)
        try:
            await asyncio.to_thread(usage.flush)
        except Exception as error:  # counting is not worth a server
            log.warning("usage_not_written", reason=str(error))
