"""PullThrough: what all proxied repositories of a process share."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from cache.download.admission import UpstreamPlaces
from cache.download.flight import Flights
from cache.events import UNOBSERVED, CacheEvents
from cache.index.base import FullIndex, UsageRecorder
from cache.policy.freshness import TagRules
from cache.proxy.memory import Absences, AllowedDigests, CreationDates, Outages, RecentLists, RecentManifests
from cache.proxy.prefetch import Prefetcher
from cache.proxy.queue import PullQueue
from cache.proxy.stored_blobs import StoredBlobs
from cache.runtime.tasks import SharedTasks, Tasks
from cache.store.base import BlobStore
from cache.upstream.errors import UpstreamError
from cache.values import Origin, ReferrersPage, Source, TagPage

T = TypeVar("T")
ListPage = TagPage | ReferrersPage


@dataclass(frozen=True, slots=True)
class PullTimings:
    """Seconds that a client waits for an upstream.

    `response`: until one request has a response, its time in queues included. `headers`: until the client's own
    response has headers, whatever requests that takes; clients give up at 30 (containerd 2.3). `revalidation`: for the
    word on a tag that may be served stale. `revalidation_after_silence`: in place of that, while the upstream fails or
    has left the last request without a response. `list`: for a list that may be served stale.
    """

    response: float = 18.0
    headers: float = 20.0
    revalidation: float = 2.0
    revalidation_after_silence: float = 0.25
    list: float = 5.0


@dataclass(kw_only=True)
class PullThrough:
    """The parts and the memory that all proxied repositories of a process share.

    `tasks` own the work that requests share. Without a `prefetcher` nothing is downloaded before a client requests it.
    """

    index: FullIndex
    usage: UsageRecorder
    store: BlobStore
    flights: Flights
    tasks: Tasks
    rules: TagRules
    clock: Callable[[], datetime]
    events: CacheEvents = UNOBSERVED
    timings: PullTimings = field(default_factory=PullTimings)
    prefetcher: Prefetcher | None = None
    stored: StoredBlobs = field(init=False)
    recent: RecentManifests = field(init=False, default_factory=RecentManifests)
    absences: Absences = field(init=False)
    lists: RecentLists[ListPage] = field(init=False, default_factory=RecentLists)
    creation_dates: CreationDates = field(init=False, default_factory=CreationDates)
    allowed_digests: AllowedDigests = field(init=False, default_factory=AllowedDigests)
    outages: Outages = field(init=False, default_factory=Outages)
    requests: UpstreamPlaces = field(init=False, default_factory=UpstreamPlaces)
    """Places of requests with small responses: manifests, HEAD requests, lists."""
    queues: dict[Source, PullQueue] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.stored = StoredBlobs(self.index, self.store, self.events)
        self.absences = Absences(self.rules.negative_ttl)
        self._calls: SharedTasks[Hashable, Any] = SharedTasks(self.tasks)

    def waiting_misses(self) -> Counter[Origin]:
        """Number of misses that wait for their upstream: until its limit allows a request, or for a connection."""
        waiting = self.flights.places.waiting() + self.requests.waiting()
        for source, queue in self.queues.items():
            waiting[source.origin] += len(queue)
        return waiting

    def share(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T | UpstreamError]]
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """The one task for all requests with an equal key, and whether this call started it."""
        return self._calls.join(key, work, str(key))
