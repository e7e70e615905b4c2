"""Flight: one download, many readers.

A fill in threads of its own brings the bytes into a spool; every reader, the first included, follows the growing file
at an offset of its own. Reader and download are strangers: none waits for another's client. Of the workers of a host
one fills; in the others a flight follows that one's spool, and goes on with it when its worker dies.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import structlog

from cache.download.errors import Arrived, Unstorable
from cache.download.fill import Fetch, Lanes
from cache.download.flight_thread import Pilot
from cache.download.leased_spool import Landing as Landing
from cache.download.progress import Body, Progress
from cache.download.progress import State as State
from cache.download.uncached import Beginning
from cache.events import UNOBSERVED, CacheEvents, EndedDownload, RefusedContent
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.runtime.failpoints import failpoint
from cache.runtime.tasks import Tasks
from cache.runtime.throttle import LogThrottle
from cache.store.base import Extent
from cache.store.filesystem import read_exactly
from cache.upstream.errors import Corrupt, Unavailable
from cache.values import Source

log = structlog.get_logger()
throttle = LogThrottle()

TAIL = 32 * 1024
"""Bytes at the end of every response that wait for the verdict, so that a wrong body never completes."""

KEEP_SIZE = 64 * 1024 * 1024
KEEP_SHARE = 0.25
ABANDON_AFTER = 5.0
STOP_WITHIN = 3.0


class Flight(Progress):
    """One running download of one blob from one source. It belongs to the app, whoever reads it."""

    def __init__(
        self,
        source: Source,
        image: RepositoryName,
        digest: Digest,
        fetch: Fetch,
        place: Landing,
        lanes: Lanes,
        *,
        anew: bool = False,
    ) -> None:
        """`anew`: even if the bytes are here, since nothing tells that they came from this source."""
        super().__init__(source, image, digest)
        self.images = {image}
        self.anew = anew
        self._pilot = Pilot(self, fetch, place, lanes, anew=anew)
        self._followers = 0
        self._over = False
        self._desertion: asyncio.TimerHandle | None = None

    def fly(self, landed: Callable[[], None]) -> None:
        """The body of the thread. `landed` is called in the loop when the outcome is known and the spool is closed."""
        self._pilot.fly(landed)

    def allows(self, image: RepositoryName) -> bool:
        """Whether the image's right to the bytes was proved: by the fetch itself, or by a question of its own."""
        return image in self.images and (self.proved or image != self.image)

    def admit(self, image: RepositoryName) -> None:
        """Its right was proved."""
        self.images.add(image)
        if image == self.image:
            self.proved = True

    @property
    def followers(self) -> int:
        return self._followers

    def follow(self) -> "Follower":
        """A reader of its own; close it. Its size and descriptor are there after `started`."""
        self._followers += 1
        if self._desertion is not None:
            self._desertion.cancel()
            self._desertion = None
        return Follower(self)

    def leave(self) -> None:
        """A follower was closed. A download that nobody reads goes on if it is worth finishing, else ends soon."""
        self._followers -= 1
        if not self._followers and not self._over:
            self._desertion = self._loop.call_later(ABANDON_AFTER, self._abandon)
        self._release()

    def land(self, *, flown: bool) -> None:
        """The outcome is final and was recorded; what is open is closed with the last follower. `flown`: no thread of
        it runs."""
        self._over = True
        if self.state in (State.WAITING, State.STREAMING):
            self.tell(State.FAILED, Unavailable("the gateway gave the download up"))
        if self._desertion is not None:
            self._desertion.cancel()
        self._release()
        self._pilot.land(flown=flown)

    def _abandon(self) -> None:
        if self._followers or worth_finishing(self.size, self.written):
            return
        if self._pilot.attended:
            self._desertion = self._loop.call_later(ABANDON_AFTER, self._abandon)
            return
        self.abort()

    def _release(self) -> None:
        if self._over and not self._followers:
            bodies, self.bodies = self.bodies, []
            for body in bodies:
                os.close(body.descriptor)

    @property
    def joinable(self) -> bool:
        """Whether a new reader may hope for the bytes: what has failed, or will because it was given up, is over."""
        return self.verified or not (self._pilot.aborted or self.state is State.FAILED)

    def abort(self) -> None:
        self._pilot.abort()


class Follower:
    """An OpenBlob over a growing file. Raises the flight's UpstreamError where that failed.

    It keeps to the file from which it gave the first bytes, and to the size that it told.
    """

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._closed = False
        self._body: Body | None = None
        self._told: int | None = None
        self.digest = flight.digest

    @property
    def size(self) -> int | None:
        if self._told is None:
            self._told = self._flight.size
        return self._told

    def fileno(self) -> int:
        """For reads at an offset of the growing file; there from STREAMING on."""
        body = self._body or self._flight.body
        if body is None:
            raise ValueError("the flight has not started")
        return body.descriptor

    async def started(self) -> None:
        """Returns when the upstream has answered."""
        while self._flight.state is State.WAITING:
            await self._flight.changed()
        self._raise_if_failed()

    async def verified(self) -> None:
        while not self._flight.verified:
            self._raise_if_failed()
            await self._flight.changed()

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        flight, offset = self._flight, start
        while True:
            self._raise_if_failed()
            verified, body = flight.verified, flight.body
            if body is None or flight.state is State.WAITING:
                await flight.changed()
                continue
            self._keep_to(body)
            end, limit = body.written, stop if stop is not None else body.size
            if verified:
                end = end if limit is None else min(end, limit)
            elif limit is None:
                end -= TAIL
            else:
                end = min(end, limit - TAIL)
            if offset < end:
                self._body = body
                yield Extent(offset, end)
                offset = end
            elif verified:
                return
            else:
                await flight.changed()

    async def read(self, extent: Extent) -> bytes:
        return await read_exactly(self.fileno(), extent)

    def beginning(self, stop: int) -> Beginning | None:
        """The first bytes, up to `stop` as far as they are here, of the file that this one has kept to."""
        body = self._body
        return Beginning(body.descriptor, min(stop, body.written)) if body and body.written else None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._flight.leave()

    def _keep_to(self, body: Body) -> None:
        other_file = self._body is not None and self._body is not body
        other_size = None not in (self._told, body.size) and self._told != body.size
        if other_file or other_size:
            raise Unavailable("the download was begun anew, and its first bytes were not to be relied on")

    def _raise_if_failed(self) -> None:
        if self._flight.error is not None:
            raise self._flight.error.again()


class Flights:
    """The running downloads of this process, one per source and digest."""

    def __init__(
        self,
        place: Landing,
        tasks: Tasks,
        arrived: Callable[[Flight], Awaitable[None]],
        events: CacheEvents = UNOBSERVED,
    ) -> None:
        """`arrived` is awaited after a commit, before the flight is forgotten: it records what has come."""
        self._events = events
        self._place = place
        self._lanes = Lanes()
        self._tasks = tasks
        self._arrived = arrived
        self._running: dict[tuple[Source, Digest], Flight] = {}
        self._owners: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Ends what is still arriving, and lets what has arrived be recorded."""
        for flight in self._running.values():
            if not flight.verified:
                flight.abort()
        if self._owners:
            await asyncio.wait(self._owners, timeout=STOP_WITHIN)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def followers(self) -> int:
        """Readers of all that runs."""
        return sum(flight.followers for flight in self._running.values())

    def find(self, source: Source, digest: Digest, *, anew: bool = False) -> Flight | None:
        """The one that may be joined; what has failed is over, even while it is being cleaned up. `anew`: not one that
        may yet find that the bytes are here, and end."""
        flight = self._running.get((source, digest))
        if flight is None or not flight.joinable:
            return None
        return None if anew and not flight.anew and flight.state is State.WAITING else flight

    def join(
        self, source: Source, image: RepositoryName, digest: Digest, fetch: Fetch, *, anew: bool = False
    ) -> tuple[Flight, bool]:
        """The flight, and whether this call began it. Only for an image whose right to the digest was proved, or
        where none is running: then the fetch itself is the proof, unless it turns out that the flight does not `allow`
        the image. `anew`: a new one fetches even what is here."""
        flight = self.find(source, digest, anew=anew)
        if flight is not None:
            flight.images.add(image)
            return flight, False
        flight = self._running[source, digest] = Flight(
            source, image, digest, fetch, self._place, self._lanes, anew=anew
        )
        owner = self._tasks.start(self._own(flight), f"flight {digest}")
        self._owners.add(owner)
        owner.add_done_callback(self._owners.discard)
        return flight, True

    async def _own(self, flight: Flight) -> None:
        """From take-off to record, whatever its clients do."""
        began = time.monotonic()
        self._events.download_began(flight.source, flight.digest)
        landed = asyncio.Event()
        fill = threading.Thread(target=flight.fly, args=(landed.set,), name="fill", daemon=True)
        try:
            fill.start()
            await landed.wait()
            if flight.state is State.COMMITTED:
                self._events.content_verified(flight.source)
            recorded = 0
            while flight.state is State.COMMITTED and recorded < len(flight.images):
                recorded = len(flight.images)  # who joins while this is written down is written down too
                await self._record(flight)
            if isinstance(error := flight.error, Corrupt):
                refused = RefusedContent(flight.source, error.fault, error.reason, error.evidence)
                self._events.content_refused(refused)
        finally:
            if self._running.get((flight.source, flight.digest)) is flight:
                del self._running[flight.source, flight.digest]
            if fill.is_alive() and not landed.is_set():
                flight.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(STOP_WITHIN):
                        await landed.wait()
            flight.land(flown=fill.ident is None)
            if not (flight.borrowed or isinstance(flight.error, Arrived)):
                self._events.download_ended(_ended(flight, time.monotonic() - began))

    async def _record(self, flight: Flight) -> None:
        """What cannot be written down is asked for again some day; who reads now hears nothing of it."""
        failpoint("flight.committed")
        try:
            await self._arrived(flight)
        except Exception as error:  # whatever the index meets
            if throttle.due(type(error).__name__):
                log.error("arrival_not_recorded", digest=str(flight.digest), reason=str(error))
        failpoint("flight.recorded")


def _ended(flight: Flight, seconds: float) -> EndedDownload:
    """The event that reports a flight whose state is final."""
    return EndedDownload(
        flight.source,
        flight.image,
        flight.digest,
        committed=flight.state is State.COMMITTED,
        size=flight.written,
        seconds=seconds,
        reason=flight.error.reason if flight.error else "",
        unstorable=isinstance(flight.error, Unstorable),
    )


def worth_finishing(size: int | None, written: int) -> bool:
    """Whether a download goes on although nobody reads it any more."""
    return size is not None and (size <= KEEP_SIZE or written >= size * KEEP_SHARE)
