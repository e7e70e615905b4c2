"""Values and parts made from the settings, in the types of the packages that use them."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cache.download.admission import DEFAULT_PLACES, PlaceLimits
from cache.events import UNOBSERVED, CacheEvents
from cache.index.maintenance import CacheMaintenance
from cache.retention.eviction import EvictionLimits
from cache.retention.sweep import Evictor
from cache.runtime.descriptors import raise_descriptor_limit, share_descriptors
from cache.runtime.disk import disk_space
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from gateway.api.options import ApiOptions
from gateway.api.rate_limits import UNLIMITED, RateOptions
from gateway.data_folder import CacheFolder
from gateway.namespaces.group import HUB
from gateway.ops import MetricsAccess, OpsOptions
from gateway.registry.uploads import UploadLimits
from gateway.settings.tables import NameSettings, Settings
from gateway.web.options import PullRoot, WebOptions
from gateway.wiring.reach import on_loopback

MOST_BY_DEFAULT = 4
"""Workers of a server whose settings do not say how many. A worker takes some 100 MB, and four serve more than most
networks carry."""

RESERVED_FILES = 1000
"""Files that the file system can always still take, or a twentieth of all that it can hold, if that is less."""


_OLD_PATHS = NameSettings().old_paths


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


def ops_options(settings: Settings, urls: Iterable[str]) -> OpsOptions:
    """Make the options of the operations surface. `urls`: those of all addresses of this server."""
    return OpsOptions(
        metrics_access=MetricsAccess(settings.metrics_access),
        metrics_token_file=settings.metrics_token_file,
        loopback_only=on_loopback(settings, urls),
    )


def api_options(
    url: str, registry_url: str, old_paths: timedelta = _OLD_PATHS, rates: RateOptions = UNLIMITED
) -> ApiOptions:
    """Make the options of the REST API. `url`: that of the main address; `registry_url`: that by which images are
    named."""
    return ApiOptions(url.rstrip("/"), urlsplit(registry_url).netloc, old_paths, rates)


def rate_options(settings: Settings) -> RateOptions:
    """Make the limits of requests to the REST API."""
    return RateOptions(settings.api.rate_limit, settings.api.anonymous_rate_limit)


def web_options(
    url: str,
    registry_url: str,
    old_paths: timedelta = _OLD_PATHS,
    *,
    insecure_login: bool = False,
    ns_group: str = HUB,
    addresses: Mapping[PullRoot, str] | None = None,
) -> WebOptions:
    """Make the options of the pages. `url`, `registry_url`: as for `api_options`; `addresses`: see `pull_addresses`."""
    registry = urlsplit(registry_url).netloc
    return WebOptions(url.rstrip("/"), registry, old_paths, insecure_login, ns_group, addresses or {})


def upload_limits(settings: Settings) -> UploadLimits:
    """Limits of what may be pushed."""
    return UploadLimits(blob_bytes=settings.native.max_blob.number)
