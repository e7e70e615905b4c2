"""PullThrough: what all proxied repositories of a process share, and what the index is told of what has arrived."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Any, TypeVar

from cache.download.flight import Flight, Flights
from cache.events import UNOBSERVED, CacheEvents
from cache.index.base import FullIndex, Index, UsageRecorder
from cache.policy.freshness import TagRules
from cache.proxy.memory import Absences, Hits, Outages
from cache.proxy.prefetch import Prefetching
from cache.proxy.queue import Turns
from cache.proxy.stored_blobs import Holdings
from cache.runtime.tasks import Shared, Tasks
from cache.store.base import BlobStore
from cache.upstream.errors import UpstreamError
from cache.values import BlobInfo, Link, Source

T = TypeVar("T")


class PullThrough:
    """What all proxied repositories of a process share."""

    def __init__(
        self,
        index: FullIndex,
        usage: UsageRecorder,
        store: BlobStore,
        flights: Flights,
        tasks: Tasks,
        rules: TagRules,
        clock: Callable[[], datetime],
        events: CacheEvents = UNOBSERVED,
        prefetching: Prefetching | None = None,
    ) -> None:
        """Without `prefetching` nothing is fetched that nobody asked for."""
        self.events = events
        self.index = index
        self.usage = usage
        self.held = Holdings(index, store, events)
        self.hits = Hits()
        self.flights = flights
        self.rules = rules
        self.clock = clock
        self.turns: dict[Source, Turns] = {}
        self.prefetching = prefetching
        self.absences = Absences(rules.negative_ttl)
        self.outages = Outages()
        self._shared: Shared[Hashable, Any] = Shared(tasks)

    def waiting_misses(self) -> dict[Source, int]:
        """How many misses wait for their turn, by source."""
        return {source: len(turns) for source, turns in self.turns.items()}

    def share(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """One task for all who want the same of an upstream; its errors are values."""
        return self._shared.join(key, lambda: _settled(work), str(key))


async def record_arrival(index: Index, flight: Flight) -> None:
    """What a committed flight means for the index: the bytes are here, and all its images have a right to them."""
    links = [Link(flight.source, image, flight.digest) for image in flight.images if flight.allows(image)]
    await index.record(BlobInfo(flight.digest, flight.written), *links)


async def _settled(work: Callable[[], Awaitable[T]]) -> T | UpstreamError:
    try:
        return await work()
    except UpstreamError as error:
        return error
