"""Admission: what uses a connection to an upstream waits for a place before it takes a thread, a file or a buffer.

The places of an upstream are shared fairly by groups and then by their clients, and so is the queue for them. A
download requests one place on behalf of all its readers, and gets it when the first of them has their turn.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cache.runtime.fair_queue import Requester
from cache.runtime.line import Line, PlaceRequest
from cache.upstream.errors import Unavailable
from cache.values import Origin

RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """Limits for each upstream.

    `places`: how many may use a connection at once; `spare`: further ones, for groups that hold none. With the
    connections of helpers they are fewer than the connections of a client (`UpstreamTimings`). `length`: requests that
    wait. `wait`: seconds that a client waits at most; the rest of the time until clients give up is for the fetch.
    """

    places: int = 64
    spare: int = 16
    length: int = 512
    wait: float = 15.0


DEFAULT_PLACES = PlaceLimits()


class UpstreamPlaces:
    """The lines of all upstreams, by their origins."""

    def __init__(self, limits: PlaceLimits = DEFAULT_PLACES) -> None:
        self.limits = limits
        self._lines: dict[Origin, Line] = {}
        self._shared: dict[Hashable, PlaceRequest] = {}

    def line(self, origin: Origin) -> Line:
        line = self._lines.get(origin)
        if line is None:
            limits = self.limits
            line = self._lines[origin] = Line(limits.places, limits.spare, limits.length)
        return line

    def waiting(self) -> Counter[Origin]:
        """Number of waiting requests by upstream."""
        return Counter({origin: len(line) for origin, line in self._lines.items()})

    @property
    def held(self) -> int:
        return sum(line.held for line in self._lines.values())

    def join(self, key: Hashable, who: Requester) -> None:
        """Join the wait for a place that was requested with this key, if there is one."""
        if key in self._shared:
            self._shared[key].add(who)

    async def request(self, origin: Origin, who: Requester, key: Hashable = None) -> PlaceRequest:
        """Wait for a place, and return it for the caller to close. Raises Unavailable.

        `key`: under which others may join the wait.
        """
        decided = asyncio.Event()
        place = PlaceRequest(self.line(origin), decided.set)
        if key is not None:
            self._shared[key] = place
        try:
            place.add(who)
            async with asyncio.timeout(self.limits.wait):
                await decided.wait()
            if place.is_refused:
                raise queue_full(origin)
        except TimeoutError:
            place.close()
            raise waited_in_vain(origin, self.limits.wait) from None
        except BaseException:
            place.close()
            raise
        finally:
            self._shared.pop(key, None)
        return place

    @asynccontextmanager
    async def place(self, origin: Origin, who: Requester, key: Hashable = None) -> AsyncIterator[None]:
        """Hold a place within the block. Raises Unavailable."""
        place = await self.request(origin, who, key)
        try:
            yield
        finally:
            place.close()


def queue_full(origin: Origin) -> Unavailable:
    return Unavailable(f"too many requests wait in the queue for a connection to {origin.netloc}", RETRY_AFTER)


def waited_in_vain(origin: Origin, seconds: float) -> Unavailable:
    return Unavailable(
        f"the request waited {seconds:.0f} s in the queue for a connection to {origin.netloc}", RETRY_AFTER
    )
