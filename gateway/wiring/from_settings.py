"""What the settings say, in the words of those who work by them."""

from collections.abc import Iterable

from cache.events import UNOBSERVED, CacheEvents
from cache.index.maintenance import CacheMaintenance
from cache.policy.freshness import TagRule, TagRules
from cache.retention.eviction import EvictionLimits
from cache.retention.sweep import Evictor
from cache.runtime.disk import disk_space
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.urls import origin_of
from gateway.auth.exposure import on_loopback_alone
from gateway.data_folder import CacheFolder
from gateway.ops import MetricsAccess, OpsOptions
from gateway.settings.tables import Settings
from gateway.upstreams import Upstream


def open_evictor(settings: Settings, stock: CacheMaintenance, events: CacheEvents = UNOBSERVED) -> Evictor:
    folder, cache = CacheFolder(settings.data), settings.cache
    total = disk_space(folder.blobs).size
    limits = EvictionLimits(cache.max_size.of(total), cache.reserve.of(total), cache.max_unused.total_seconds())
    store, quarantine = FilesystemStore(folder.blobs), Quarantine(folder.quarantine)
    return Evictor(stock, store, quarantine, folder.blobs, folder.lock("evict"), limits, events)


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


def ops_options(settings: Settings, urls: Iterable[str]) -> OpsOptions:
    access = MetricsAccess(settings.metrics_access)
    return OpsOptions(access, settings.metrics_token_file, on_loopback(settings, urls))


def on_loopback(settings: Settings, urls: Iterable[str]) -> bool:
    """Whether this server, of which these are all URLs, is reached on loopback alone."""
    hosts = [settings.host, *(listener.host for listener in settings.listener)]
    return on_loopback_alone([*hosts, *(virtual.name for virtual in settings.virtual_host)], urls)
