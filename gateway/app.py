"""The composition root: every constructor call, and what lives as long as the app."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.arrival.flight import Flight, Flights, Landing
from cache.arrival.leftovers import sweep_leftovers
from cache.freshness import TagRule, TagRules
from cache.index.chronicle import Chronicle
from cache.index.sql import SqlIndex
from cache.index.sqlite import DatabaseUnusable
from cache.index.stock import Held, Stock
from cache.index.usage import UsageFile
from cache.keeping.eviction import Limits
from cache.keeping.holdings import Damage
from cache.keeping.scrub import Finding, Inspector, Scrub
from cache.keeping.sweep import Evictor, Sweeper, disk_size
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.prefetch import Prefetching
from cache.pull_through import PullThrough, record_arrival
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.store.role import Role
from cache.tasks import Tasks
from cache.upstream.errors import Corrupt
from cache.upstream.ledger import Ledger
from cache.upstream.urls import origin_of
from cache.values import Source
from gateway import ops
from gateway.db.engine import DATABASE_FILE, Database
from gateway.db.sealing import KEYS_DIRECTORY, Sealer
from gateway.folders import CacheFolder
from gateway.healing import Healer
from gateway.http import errors
from gateway.http.connection import KnownConnection
from gateway.http.errors import Refusals
from gateway.http.middleware import AccessLog, DrainedRefusals, log_at_once
from gateway.http.stalls import StalledClients
from gateway.http.zerocopy import ZeroCopy
from gateway.lines import AccessLine
from gateway.metrics import Metrics
from gateway.namespaces import Namespaces, Root
from gateway.observers import Downloads, Troubles, UpstreamTraffic, counting_into
from gateway.process import Process
from gateway.services import Services
from gateway.settings import Settings
from gateway.upstreams import Upstream, Upstreams
from gateway.v2.access import Options
from gateway.v2.addresses import AtAddress, ByAddress, main_registry, registry_at
from gateway.v2.routes import RegistryApi

log = structlog.get_logger()

USAGE_FLUSH_SECONDS = 3.0
FOLD_SECONDS = 0.5
REPORT_SECONDS = 2.0
LOOK_EVERY_SECONDS = 0.005
"""How soon a server sees what another process, such as a command, has written."""


@asynccontextmanager
async def running(
    settings: Settings,
    urls: Sequence[str],
    log_access: Callable[[AccessLine], None] = log_at_once,
    metrics: Metrics | None = None,
    process: Process | None = None,
) -> AsyncIterator[list[ASGIApp]]:
    """The app of the main address and those of the listeners, in their order, with all that they live on.

    `urls`: under which clients reach each of these. The data folder must have been made. Raises DatabaseUnusable.
    """
    async with open_services(settings, metrics, process) as services, _scrubbing(settings, services):
        await services.namespaces.refresh_if_changed()
        main, *others = [Options(url, open_proxy_allowed(settings, urls), settings.zero_copy) for url in urls]
        hosts = {host.name: Root(host.group, host.upstream) for host in settings.virtual_host}
        roots = [Root(listener.group, listener.upstream) for listener in settings.listener]
        registries = [main_registry(services, main, settings.ns_group, hosts)]
        registries += [registry_at(services, *address) for address in zip(others, roots, strict=True)]
        app = create_app(
            services, main, log_access, ByAddress(registries) if others else registries[0], ops_options(settings, urls)
        )
        yield [app, *(AtAddress(app, number) for number in range(1, len(urls)))]


def create_app(
    services: Services,
    options: Options,
    log_access: Callable[[AccessLine], None] = log_at_once,
    registry: ASGIApp | None = None,
    for_operators: ops.Options | None = None,
) -> ASGIApp:
    """`registry` answers below /v2: by default for the names that say by themselves where they lead."""
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
    surfaces = Surfaces(Refusals(registry or RegistryApi(services, options)), app)
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
    """All that answers pulls, beside a server or in one; the cache is held to its limits meanwhile."""
    folder = CacheFolder(settings.data)
    folder.make()
    ledger = Ledger(folder.quota)
    index, usage, tasks = SqlIndex(folder.index, LOOK_EVERY_SECONDS), UsageFile(folder.usage), Tasks()
    store, quarantine = FilesystemStore(folder.blobs), Quarantine(folder.quarantine)
    metrics, chronicle = metrics or Metrics(), Chronicle(folder.usage)
    metrics.pulls_counted = counting_into(usage, utc_now)
    sealer = Sealer(settings.data / KEYS_DIRECTORY)
    upstreams = Upstreams(configured_upstreams(settings), sealer, ledger, lambda name: UpstreamTraffic(metrics, name))
    troubles = Troubles(metrics, chronicle, quarantine, upstreams.name_of, utc_now)
    downloads = Downloads(metrics, chronicle, upstreams.name_of, utc_now)
    stock = Stock(folder.index, usage)
    evictor = open_evictor(settings, stock, downloads.evicted)
    sweeper = Sweeper(
        evictor,
        Role(folder.lock("sweep")),
        lambda level: metrics.set_level(level.bytes, level.blobs, level.disk_free),
        partial(sweep_leftovers, folder.spools),
    )
    landing = Landing(folder.spools, store, quarantine, evictor.make_room)

    def refused(source: Source, error: Corrupt) -> None:
        troubles.refused(source, error)
        upstreams.doubt(source, error)

    def damaged(_digest: Digest, damage: Damage) -> None:
        metrics.count_damage(damage)

    async def arrived(flight: Flight) -> None:
        upstreams.believe(flight.source)
        await record_arrival(index, flight)

    flights = Flights(landing, tasks, arrived, refused, downloads)
    rules = tag_rules(settings)
    prefetching = Prefetching(tasks, upstreams.spares) if settings.cache.prefetch else None
    pull_through = PullThrough(
        index, usage, store, flights, tasks, rules, utc_now, refused, damaged, troubles.failed, prefetching
    )
    process = process or Process()
    metrics.show("flights", lambda: len(flights))
    metrics.show("followers", lambda: flights.followers)
    metrics.show("connections", lambda: process.connections)
    async with Database.open(settings.data / DATABASE_FILE, LOOK_EVERY_SECONDS) as database:
        tasks.start(_flush_often(usage, chronicle), "usage")
        tasks.start(_fold_often(metrics), "metrics")
        await upstreams.prepare()
        await index.prepare()
        tasks.start(_report_often(ledger, upstreams, pull_through, metrics), "quota")
        sweeper.start()
        try:
            namespaces = Namespaces(database, upstreams.names)
            yield Services(namespaces, upstreams, pull_through, metrics, index, folder, process)
        finally:
            await flights.close()
            await tasks.close()
            await upstreams.close()
            await asyncio.to_thread(sweeper.close)
            stock.close()
            index.close()
            metrics.fold()
            _flush(usage, chronicle)
            ledger.flush()


@asynccontextmanager
async def _scrubbing(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Within, what is kept is looked through for damage, as fast as the settings allow."""
    rate = settings.cache.scrub_rate.number
    if not rate:
        yield
        return
    folder, loop = CacheFolder(settings.data), asyncio.get_running_loop()
    usage = UsageFile(folder.usage)
    stock = Stock(folder.index, usage)
    healer = Healer(services.namespaces, services.upstreams, services.pull_through)

    def found(finding: Finding) -> None:
        services.metrics.count_damage(finding.damage)
        healing = healer.heal(finding.digest, finding.images, document=finding.document)
        loop.call_soon_threadsafe(lambda: tasks.start(healing, f"heal {finding.digest}"))

    inspector = Inspector(stock, FilesystemStore(folder.blobs), Quarantine(folder.quarantine))
    scrub, tasks = Scrub(stock, usage, inspector, Role(folder.lock("scrub")), rate, found), Tasks()
    scrub.start()
    try:
        yield
    finally:
        await asyncio.to_thread(scrub.close)
        await tasks.close()
        stock.close()


def open_evictor(
    settings: Settings, stock: Stock, told: Callable[[Sequence[Held], int], None] = lambda evicted, freed: None
) -> Evictor:
    folder, cache = CacheFolder(settings.data), settings.cache
    total = disk_size(folder.blobs)
    limits = Limits(cache.max_size.of(total), cache.reserve.of(total), cache.max_unused.total_seconds())
    store, quarantine = FilesystemStore(folder.blobs), Quarantine(folder.quarantine)
    return Evictor(stock, store, quarantine, folder.blobs, folder.lock("evict"), limits, told)


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
            mirrors=upstream.mirrors,
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


def open_proxy_allowed(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether groups with anonymous pull may be served: everywhere if the setting says so, else on loopback alone.

    `urls`: of all addresses of this server. One that is reached from elsewhere closes them all, since what is served
    there can be had through each.
    """
    return settings.allow_open_proxy or on_loopback(settings, urls)


def ops_options(settings: Settings, urls: Iterable[str]) -> ops.Options:
    access = ops.MetricsAccess(settings.metrics_access)
    return ops.Options(access, settings.metrics_token_file, on_loopback(settings, urls))


def on_loopback(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether this server, of which these are all URLs, is reached on loopback alone."""
    hosts = [settings.host, *(listener.host for listener in settings.listener)]
    hosts += [virtual.name for virtual in settings.virtual_host]
    return all(is_loopback(host) for host in [*hosts, *(urlsplit(url).hostname or "" for url in urls)])


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, section 6.3


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


async def _report_often(ledger: Ledger, upstreams: Upstreams, pull_through: PullThrough, metrics: Metrics) -> None:
    """What is known of limits and circuits is written down and shown as it is, not only when it changes."""
    while True:
        metrics.show_upstreams(upstreams.states(pull_through.waiting_misses()))
        await asyncio.sleep(REPORT_SECONDS)
        await asyncio.to_thread(ledger.flush)
