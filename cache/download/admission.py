"""Admission: what uses a connection to an upstream waits for a place before it takes a thread, a file or a buffer.

The places of an upstream are shared fairly by groups and then by their clients, and so is the queue for them. A
download requests one place on behalf of all its readers, and gets it when the first of them has their turn.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from cache.runtime.fair_queue import FairPlaces, FairQueue, Requester
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


class Line:
    """The places of one upstream, and the queue for them. Belongs to the event loop."""

    def __init__(self, limits: PlaceLimits = DEFAULT_PLACES) -> None:
        self._places = FairPlaces(limits.places, limits.spare)
        self._queue: FairQueue[PlaceRequest] = FairQueue(limits.length)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def held(self) -> int:
        return self._places.held

    def has_room(self, who: Requester) -> bool:
        """Whether the requester would get a place at once, and nobody waits for one."""
        return not len(self) and self._places.allows(who)

    def enter(self, who: Requester, request: "PlaceRequest") -> None:
        self._queue.add(who, request)
        self._admit()
        if (surplus := self._queue.surplus()) is not None:
            refused, other = surplus
            other.refuse(refused)

    def leave(self, who: Requester, request: "PlaceRequest") -> None:
        self._queue.remove(who, request)

    def release(self, who: Requester) -> None:
        self._places.release(who)
        self._admit()

    def _admit(self) -> None:
        while (taken := self._queue.take(self._places.allows)) is not None:
            who, request = taken
            self._places.take(who)
            request.admit(who)


class _State(Enum):
    WAITING = "waiting"
    HELD = "held"
    REFUSED = "refused"
    CLOSED = "closed"


class PlaceRequest:
    """A request for one place, made by any number of readers. Its owner closes it, which gives the place back."""

    def __init__(self, line: Line, decided: Callable[[], None] = lambda: None) -> None:
        """`decided` is called when the wait has ended."""
        self._line = line
        self._decided = decided
        self._state = _State.WAITING
        self._readers: Counter[Requester] = Counter()
        self._holder: Requester | None = None

    @property
    def waits(self) -> bool:
        return self._state is _State.WAITING

    @property
    def is_held(self) -> bool:
        return self._state is _State.HELD

    @property
    def is_refused(self) -> bool:
        """Whether the queue was full for every reader."""
        return self._state is _State.REFUSED

    def add(self, who: Requester) -> None:
        """Add a reader, who waits in the queue too if nobody of the same group and address does."""
        if self.waits:
            self._readers[who] += 1
            if self._readers[who] == 1:
                self._line.enter(who, self)

    def withdraw(self, who: Requester) -> None:
        """Remove a reader, who leaves the queue."""
        if self.waits and who in self._readers:
            self._readers[who] -= 1
            if not self._readers[who]:
                del self._readers[who]
                self._line.leave(who, self)

    def close(self) -> None:
        if self._holder is not None:
            holder, self._holder = self._holder, None
            self._line.release(holder)
        self._end(_State.CLOSED)

    # Called by the line.

    def admit(self, who: Requester) -> None:
        self._holder = who
        del self._readers[who]
        self._end(_State.HELD)

    def refuse(self, who: Requester) -> None:
        del self._readers[who]
        if not self._readers:
            self._end(_State.REFUSED)

    def _end(self, state: _State) -> None:
        self._state = state
        for who in self._readers:
            self._line.leave(who, self)
        self._readers.clear()
        self._decided()


class UpstreamPlaces:
    """The lines of all upstreams, by their origins."""

    def __init__(self, limits: PlaceLimits = DEFAULT_PLACES) -> None:
        self.limits = limits
        self._lines: dict[Origin, Line] = {}
        self._shared: dict[Hashable, PlaceRequest] = {}

    def line(self, origin: Origin) -> Line:
        line = self._lines.get(origin)
        if line is None:
            line = self._lines[origin] = Line(self.limits)
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
