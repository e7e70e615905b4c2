"""Document room: memory for the documents of one upstream under way, for which large ones wait, fairly.

Documents are manifests and lists; a list counts as what it takes in memory once it is parsed.
A request holds the bytes of its documents until it has made its result of them.
Beyond FREE it waits for a slot, and beyond SLOT for a large slot, too. Both are shared fairly by groups and then by
their clients. While others wait, a document that arrives too slowly loses its slots.

Of the 80 requests that may be under way at an upstream (`cache.download.admission`) one client has 36. So all documents
of an upstream have at most 80 FREE + 10 SLOT + 2 LARGE bytes, which is 140 MiB, and those of one client 69 MiB.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cache.runtime.fair_queue import NOBODY, Requester
from cache.runtime.line import Line, PlaceRequest
from cache.upstream.errors import NoRoom

FREE = 256 * 1024
"""Bytes that a request holds without a slot. Ordinary manifests have a few KiB."""

SLOT = 4 * 1024 * 1024
"""Bytes that a request holds with a slot: those of the largest manifest."""

LARGE = 40 * 1024 * 1024
"""Bytes that a request holds with a large slot: about those of the largest list of tags, or of parsed referrers."""

WAIT = 10.0
"""Seconds that a document waits for a slot; its connection is idle meanwhile."""

PATIENCE = 3.0
"""Seconds for which a document holds its slot, however slowly it arrives, and over which its rate is measured."""

LEAST_RATE = 256 * 1024
"""Bytes per second below which a document loses its slot to one that waits. At this rate the largest manifest takes as
long as any document may."""

LOOK_EVERY = 0.5


class DocumentRoom:
    """The slots of one upstream. Belongs to the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.steps = (_Slots(FREE, 8, 2), _Slots(SLOT, 1, 1))


class DocumentSpace:
    """Share of a room that one request holds: bytes of documents, and the slots for them. Its owner closes it."""

    def __init__(self, room: DocumentRoom, who: Requester = NOBODY) -> None:
        self.who = who
        self._room = room
        self._bytes = 0
        self._places: list[PlaceRequest] = []
        self._since, self._before = 0.0, 0
        self._reading: asyncio.Timeout | None = None

    @contextmanager
    def reading(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Read a document within the block, whose time limit does not run while it waits for a slot."""
        self._reading = limit
        try:
            yield
        finally:
            self._reading = None

    async def grow(self, size: int) -> None:
        """Hold so many more bytes, once there is room for them. Raises NoRoom."""
        self._bytes += size
        while len(self._places) < len(self._room.steps):
            slots = self._room.steps[len(self._places)]
            if self._bytes <= slots.beyond:
                return
            with self._paused():
                self._places.append(await slots.take(self))
            self._since, self._before = self._room.clock(), self._bytes

    def close(self) -> None:
        for place, slots in zip(self._places, self._room.steps, strict=False):
            slots.release(self, place)
        self._places.clear()

    def measure(self) -> float | None:
        """Bytes per second since it got its slot, or since it was last found to be fast enough; None where that says
        nothing yet, or nothing is read now."""
        now = self._room.clock()
        seconds = now - self._since
        if self._reading is None or seconds < PATIENCE:
            return None
        rate = (self._bytes - self._before) / max(seconds, 1e-6)
        if rate >= LEAST_RATE:
            self._since, self._before = now, self._bytes
        return rate

    def end_reading(self) -> None:
        """Let the time limit of the document that is being read expire now, unless it does already."""
        limit, self._reading = self._reading, None
        if limit is not None and not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Wait within the block."""
        limit, self._reading = self._reading, None
        if limit is None:
            yield
            return
        loop, until = asyncio.get_running_loop(), limit.when()
        began = loop.time()
        limit.reschedule(None)
        yield
        limit.reschedule(None if until is None else until + loop.time() - began)
        self._reading = limit


class _Slots:
    """Slots for what is beyond a number of bytes, and whoever holds one."""

    def __init__(self, beyond: int, count: int, spare: int) -> None:
        self.beyond = beyond
        self._line = Line(count, spare, length=512)
        self._holders: list[DocumentSpace] = []

    async def take(self, space: DocumentSpace) -> PlaceRequest:
        """Wait for a slot. Raises NoRoom."""
        decided = asyncio.Event()
        place = PlaceRequest(self._line, decided.set)
        try:
            place.add(space.who)
            async with asyncio.timeout(WAIT):
                while place.waits:
                    await self._look(decided, space.who)
            if place.is_refused:
                raise NoRoom("too many large documents of the upstream wait for memory")
        except TimeoutError:
            place.close()
            raise NoRoom(f"the document waited {WAIT:.0f} s for memory, which other large ones had") from None
        except BaseException:
            place.close()
            raise
        self._holders.append(space)
        return place

    def release(self, space: DocumentSpace, place: PlaceRequest) -> None:
        self._holders.remove(space)
        place.close()

    async def _look(self, decided: asyncio.Event, who: Requester) -> None:
        """Wait for a decision for a moment. If none comes, let the slowest document that holds a slot expire, if it is
        too slow, and the waiting requester has no more slots than its own."""
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await decided.wait()
        except TimeoutError:
            groups = Counter(holder.who.group for holder in self._holders)
            clients = Counter(holder.who for holder in self._holders)

            def yields(holder: Requester) -> bool:
                if holder.group != who.group:
                    return groups[holder.group] > groups[who.group]
                return holder == who or clients[holder] > clients[who]

            rates = {holder.measure(): holder for holder in self._holders if yields(holder.who)}
            slow = [rate for rate in rates if rate is not None and rate < LEAST_RATE]
            if slow:
                rates[min(slow)].end_reading()
