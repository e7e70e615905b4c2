"""Values and parts made from the settings, in the types of the packages that use them."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cache.download.admission import DEFAULT_PLACES, PlaceLimits
from cache.events import UNOBSERVED, CacheEvents
from cache.index.maintenance import CacheMaintenance
from cache.policy.freshness import TagRule, TagRules
from cache.retention.eviction import EvictionLimits
from cache.retention.sweep import Evictor
from cache.runtime.descriptors import raise_descriptor_limit, share_descriptors
from cache.runtime.disk import disk_space
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.urls import registry_of
from gateway.auth.exposure import is_loopback, on_loopback_alone
from gateway.data_folder import CacheFolder
from gateway.db.address import POSTGRESQL_PORT, DatabaseAddress, PostgresqlAddress
from gateway.db.engine import DATABASE_FILE
from gateway.ops import MetricsAccess, OpsOptions
from gateway.registry.uploads import UploadLimits
from gateway.settings.tables import Settings
from gateway.upstreams import Upstream

_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")

MOST_BY_DEFAULT = 4
"""Workers of a server whose settings do not say how many. A worker takes some 100 MB, and four serve more than most
networks carry."""

RESERVED_FILES = 1000
"""Files that the file system can always still take, or a twentieth of all that it can hold, if that is less."""


def open_evictor(settings: Settings, maintenance: CacheMaintenance, events: CacheEvents = UNOBSERVED) -> Evictor:
    """Make the evictor that holds the cache to its limits."""
    folder, cache = CacheFolder(settings.data), settings.cache
    space = disk_space(folder.blobs)
    total = space.size
    limits = EvictionLimits(
        max_size=cache.max_size.of(total),
        reserve=cache.reserve.of(total),
        max_unused=cache.max_unused.total_seconds(),
        reserve_files=min(RESERVED_FILES, space.files // 20),
    )
    quarantine = Quarantine(folder.quarantine)
    store = FilesystemStore(folder.blobs, quarantine)
    return Evictor(maintenance, store, quarantine, folder.blobs, folder.lock("evict"), limits, events)


def configured_database(settings: Settings) -> DatabaseAddress:
    """Find the address of gateway.db: that of the setting, else a file in the data folder."""
    if not settings.database.url:
        return settings.data / DATABASE_FILE
    url = urlsplit(settings.database.url)
    user, _, host = url.netloc.partition("@")
    is_folder = host.startswith("%")  # of a Unix socket
    return PostgresqlAddress(
        user=unquote(user),
        host=unquote(host) if is_folder else url.hostname or "",
        name=unquote(url.path[1:]),
        port=(None if is_folder else url.port) or POSTGRESQL_PORT,
        password_file=settings.database.password_file,
    )


def configured_upstreams(settings: Settings) -> list[Upstream]:
    """List the upstreams of the settings."""
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
            redirect_hosts=frozenset(upstream.redirect_hosts),
            password_command=upstream.password_command,
            client_cert=upstream.client_cert,
            client_key=upstream.client_key,
            headers=tuple(upstream.headers.items()),
        )
        for name, upstream in settings.upstreams.items()
    ]


def unused_proxy_variables(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Name the environment variables by which other programs find an outbound proxy, and this one none: its upstreams
    have the setting `proxy`. None is named if all of them have it."""
    if all(upstream.proxy for upstream in settings.upstreams.values()):
        return []
    return [name for name in environ if name.upper() in _PROXY_VARIABLES and environ[name]]


def download_places(settings: Settings) -> PlaceLimits:
    """Make the limits of downloads for each upstream: fewer than usual where this process may have few descriptors."""
    origins = sum(1 + len(upstream.mirrors) for upstream in settings.upstreams.values())
    each = share_descriptors(raise_descriptor_limit()).downloads // max(1, origins)
    spare = min(DEFAULT_PLACES.spare, each // 5)
    return replace(DEFAULT_PLACES, places=max(1, min(DEFAULT_PLACES.places, each - spare)), spare=spare)


def password_threads(settings: Settings) -> int:
    """Count the passwords that a worker verifies at the same time: all workers together as many as there are cores."""
    return max(1, len(os.sched_getaffinity(0)) // worker_count(settings))


def worker_count(settings: Settings) -> int:
    """Count the workers of a server: as many as the setting says, else one for each core, up to MOST_BY_DEFAULT."""
    return settings.workers or min(MOST_BY_DEFAULT, cores())


def cores() -> int:
    """Count the cores that this process may use, or fewer by the quota of its control group."""
    allowed = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = min(allowed, max(1, -(-int(quota) // int(period))))
    return allowed


def tag_rules(settings: Settings) -> TagRules:
    """Make the rules for tags, in which the name of an upstream becomes its registry."""
    cache = settings.cache
    rules = tuple(
        TagRule(
            tags=rule.tags,
            ttl=cache.ttl if rule.ttl is None else rule.ttl,
            images=rule.images,
            registry=registry_of(settings.upstreams[rule.upstream].url) if rule.upstream is not None else None,
            fresh_only=rule.fresh_only,
        )
        for rule in cache.rules
    )
    return TagRules(ttl=cache.ttl, grace=cache.grace, rules=rules, negative_ttl=cache.negative_ttl)


def open_proxy_allowed(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether groups with anonymous pull may be served: everywhere if the setting allows it, else on loopback alone.

    `urls`: those of all addresses of this server. One that is reached from elsewhere closes them all, since each serves
    the same content.
    """
    return settings.allow_open_proxy or on_loopback(settings, urls)


def ops_options(settings: Settings, urls: Iterable[str]) -> OpsOptions:
    """Make the options of the operations surface. `urls`: those of all addresses of this server."""
    return OpsOptions(
        metrics_access=MetricsAccess(settings.metrics_access),
        metrics_token_file=settings.metrics_token_file,
        loopback_only=on_loopback(settings, urls),
    )


def on_loopback(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether this server, which has no other URLs, is reached on loopback alone."""
    names = [virtual.name for virtual in settings.virtual_host]
    return on_loopback_alone([*_bind_hosts(settings), *names], [*urls, *_registry_urls(settings)])


def own_hosts(settings: Settings, urls: Iterable[str]) -> Callable[[str], bool] | None:
    """Make the check whether a host name is one of this server; None, any is, if it is bound beyond loopback.

    Any name may lead to such an address, so the settings cannot list them all. `urls`: those of all addresses of this
    server.
    """
    if not all(map(is_loopback, _bind_hosts(settings))):
        return None
    named = [*urls, *_registry_urls(settings)]
    names = {urlsplit(url).hostname for url in named} | {virtual.name for virtual in settings.virtual_host}
    return lambda host: host in names or is_loopback(host)


def upload_limits(settings: Settings) -> UploadLimits:
    """Limits of what may be pushed."""
    return UploadLimits(blob_bytes=settings.native.max_blob.number)


def _registry_urls(settings: Settings) -> list[str]:
    return [settings.registry_url] if settings.registry_url else []


def _bind_hosts(settings: Settings) -> list[str]:
    return [settings.host, *(listener.host for listener in settings.listener)]
