"""Flight: one download with many readers, and Flights: all that this process runs.

A flight belongs to the app, never to a request: no reader waits for another, and none of them owns the download.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from cache.download.admission import DEFAULT_PLACES, PlaceLimits, UpstreamPlaces, queue_full, waited_in_vain
from cache.download.errors import AlreadyStored, Unstorable
from cache.download.fill import FillResources
from cache.download.flight_thread import FlightThread
from cache.download.follower import Follower
from cache.download.incoming import Fetch
from cache.download.leased_spool import DownloadStorage
from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.download.progress import FlightState, Progress
from cache.events import UNOBSERVED, CacheEvents, EndedDownload, QueuedDownload, RefusedContent
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.runtime.closing import close_soon
from cache.runtime.context_threads import context_thread
from cache.runtime.failpoints import failpoint
from cache.runtime.fair_queue import NOBODY, Requester
from cache.runtime.line import Line, PlaceRequest
from cache.runtime.tasks import Tasks
from cache.runtime.throttle import LogThrottle
from cache.upstream.errors import Corrupt, Unavailable
from cache.values import Source

log = structlog.get_logger()
throttle = LogThrottle()


class Flight(Progress):
    """One running download of one blob from one source."""

    def __init__(
        self,
        source: Source,
        image: RepositoryName,
        digest: Digest,
        fetch: Fetch,
        storage: DownloadStorage,
        shared: FillResources,
        line: Line,
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
        even_if_stored: bool = False,
    ) -> None:
        """`line`: where it waits for its place. `even_if_stored`: fetch even what is stored, because nothing shows that
        it came from this source."""
        super().__init__(source, image, digest)
        self.place = PlaceRequest(line, self.signal)
        self._line = line
        self.images = {image}
        self.even_if_stored = even_if_stored
        self._limits = limits
        self._thread = FlightThread(self, fetch, storage, shared, limits=limits, even_if_stored=even_if_stored)
        self._followers = 0
        self._finished = False
        self._abandon_timer: asyncio.TimerHandle | None = None

    def run(self, ended: Callable[[], None]) -> None:
        """Body of the flight's thread. `ended` is called in the loop when the outcome is known and the spool closed."""
        self._thread.run(ended)

    def allows(self, image: RepositoryName) -> bool:
        """Whether the image's right to the bytes was proved: by the fetch itself, or by a request of its own."""
        return image in self.images and (self.proved or image != self.image)

    def admit(self, image: RepositoryName) -> None:
        """Record that the image's right was proved."""
        self.images.add(image)
        if image == self.image:
            self.proved = True

    @property
    def followers(self) -> int:
        return self._followers

    def follow(self, who: Requester = NOBODY) -> Follower:
        """Return a new reader, which its owner closes. Its size and descriptor are valid after `started`."""
        self._followers += 1
        if self._abandon_timer is not None:
            self._abandon_timer.cancel()
            self._abandon_timer = None
        self.place.add(who)
        return Follower(self, partial(self._leave, who))

    async def admitted(self, seconds: float) -> None:
        """Return when the download has its place, or was refused one. Raises Unavailable after so many seconds."""
        if not self.place.waits:
            return
        try:
            async with asyncio.timeout(seconds):
                while self.place.waits:
                    await self.changed()
        except TimeoutError:
            raise waited_in_vain(self.source.origin, seconds) from None

    def _leave(self, who: Requester) -> None:
        """Count a reader that left. A download without readers continues if it is worth finishing, but not in the
        queue."""
        self._followers -= 1
        self.place.withdraw(who)
        if not self._followers and self.place.waits:
            self.abort()
        elif not self._followers and not self._finished:
            self._schedule_abandoning()
        self._close_files()

    def finish(self, *, never_ran: bool) -> None:
        """Close what is open, at the latest with the last reader: the outcome is final and was recorded.

        `never_ran`: its thread was never started.
        """
        self._finished = True
        if self.state in (FlightState.WAITING, FlightState.STREAMING):
            self.report(FlightState.FAILED, Unavailable("the gateway gave the download up"))
        if self._abandon_timer is not None:
            self._abandon_timer.cancel()
        self._close_files()
        self._thread.finish(never_ran=never_ran)

    def _schedule_abandoning(self) -> None:
        self._abandon_timer = self._loop.call_later(self._limits.abandon_after, self._abandon)

    def _abandon(self) -> None:
        """Give up a download without readers, unless all its bytes are here, another worker waits for it, or it is
        worth finishing and nobody waits for its place."""
        if self._followers or self.verified:
            return
        worth = worth_finishing(self.size, self.written, self._limits) and not len(self._line)
        if worth or self._thread.has_waiters:
            self._schedule_abandoning()
            return
        self.abort()

    def _close_files(self) -> None:
        if self._finished and not self._followers:
            files, self.files = self.files, []
            for file in files:
                close_soon(file.descriptor)

    @property
    def joinable(self) -> bool:
        """Whether a new reader may expect the bytes: not where the flight has failed, or will since it was aborted."""
        ended = self._thread.aborted or self.place.is_refused or self.state is FlightState.FAILED
        return self.verified or not ended

    @property
    def aborted(self) -> bool:
        return self._thread.aborted

    def abort(self) -> None:
        self._thread.abort()
        if self.place.waits:
            self.place.close()


class Flights:
    """Running downloads of this process, one per source and digest."""

    def __init__(
        self,
        storage: DownloadStorage,
        tasks: Tasks,
        record: Callable[[Flight], Awaitable[None]],
        events: CacheEvents = UNOBSERVED,
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
        places: PlaceLimits = DEFAULT_PLACES,
    ) -> None:
        """`record` is awaited after a commit, before the flight is forgotten: it writes down what was stored."""
        self.limits = limits
        """Limits of the flights that begin from now on."""
        self._events = events
        self._storage = storage
        self._shared = FillResources()
        self.places = UpstreamPlaces(places)
        """Places of all downloads, with those of single readers (`UncachedBlob`)."""
        self._tasks = tasks
        self._record_stored = record
        self._running: dict[tuple[Source, Digest], Flight] = {}
        self._owners: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Abort what is still arriving, and let what is verified be recorded."""
        for flight in self._running.values():
            if not flight.verified:
                flight.abort()
        if self._owners:
            await asyncio.wait(self._owners, timeout=self.limits.stop_within)

    def __len__(self) -> int:
        """Number of flights, with those that wait for a place."""
        return len(self._running)

    @property
    def followers(self) -> int:
        """Readers of all running flights."""
        return sum(flight.followers for flight in self._running.values())

    def find(self, source: Source, digest: Digest, *, even_if_stored: bool = False) -> Flight | None:
        """Find the flight that may be joined; None also for one that has failed and is still being cleaned up.

        `even_if_stored`: not one that may yet find the bytes stored, and end.
        """
        flight = self._running.get((source, digest))
        if flight is None or not flight.joinable:
            return None
        return None if even_if_stored and not flight.even_if_stored and flight.state is FlightState.WAITING else flight

    def join(
        self, source: Source, image: RepositoryName, digest: Digest, fetch: Fetch, *, even_if_stored: bool = False
    ) -> tuple[Flight, bool]:
        """Join the flight or begin one; the flight, and whether this call began it. The caller follows it at once: a
        flight waits for its place on behalf of its readers.

        Call it for an image whose right to the digest was proved, or where no flight runs: then the fetch itself is the
        proof, unless the flight turns out not to allow the image. `even_if_stored`: fetch even what is stored.
        """
        flight = self.find(source, digest, even_if_stored=even_if_stored)
        if flight is not None:
            flight.images.add(image)
            return flight, False
        flight = self._running[source, digest] = Flight(
            *(source, image, digest, fetch, self._storage, self._shared, self.places.line(source.origin)),
            limits=self.limits,
            even_if_stored=even_if_stored,
        )
        owner = self._tasks.start(self._own(flight), f"flight {digest}")
        self._owners.add(owner)
        owner.add_done_callback(self._owners.discard)
        return flight, True

    async def _own(self, flight: Flight) -> None:
        """Own a flight from its wait for a place to its record, whatever its readers do."""
        try:
            await self._run(flight)
        finally:
            flight.place.close()

    async def _run(self, flight: Flight) -> None:
        began = time.monotonic()
        ended = asyncio.Event()
        thread = context_thread(partial(flight.run, ended.set), "fill")
        try:
            if not await self._is_admitted(flight):
                return
            began = time.monotonic()
            self._events.download_began(flight.source, flight.digest)
            thread.start()
            await ended.wait()
            if flight.state is FlightState.COMMITTED:
                self._events.content_verified(flight.source, flight.image)
            recorded = 0
            while flight.state is FlightState.COMMITTED and recorded < len(flight.images):
                recorded = len(flight.images)  # an image that joins meanwhile is recorded in another round
                await self._record(flight)
            if isinstance(error := flight.error, Corrupt):
                refused = RefusedContent(flight.source, flight.image, error.fault, error.reason, error.evidence)
                self._events.content_refused(refused)
        finally:
            if self._running.get((flight.source, flight.digest)) is flight:
                del self._running[flight.source, flight.digest]
            if thread.is_alive() and not ended.is_set():
                flight.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.limits.stop_within):
                        await ended.wait()
            flight.finish(never_ran=thread.ident is None)
            if flight.begun_elsewhere or isinstance(flight.error, AlreadyStored):
                self._events.download_followed(flight.source, flight.digest)
            elif flight.place.is_held:
                self._events.download_ended(_ended(flight, time.monotonic() - began))

    async def _is_admitted(self, flight: Flight) -> bool:
        """Wait until the flight has its place; False where it was refused one, or all its readers have left."""
        began, place = time.monotonic(), flight.place
        if waited := place.waits:
            self._events.download_queued(QueuedDownload(flight.source, flight.image, flight.digest, 0.0))
        while place.waits:
            await flight.changed()
        if place.is_refused:
            refusal = queue_full(flight.source.origin)
            flight.report(FlightState.FAILED, refusal)
            self._events.lookup_failed(flight.source, flight.image, flight.digest, refusal.reason)
        elif waited:
            queued = QueuedDownload(flight.source, flight.image, flight.digest, time.monotonic() - began)
            self._events.download_queued(queued)
        return place.is_held and not flight.aborted

    async def _record(self, flight: Flight) -> None:
        """Record what was stored. A failure is logged and costs one more download some day; readers do not notice."""
        failpoint("flight.committed")
        try:
            await self._record_stored(flight)
        except Exception as error:  # whatever the index raises
            if throttle.due(type(error).__name__):
                log.error("arrival_not_recorded", digest=str(flight.digest), reason=str(error))
        failpoint("flight.recorded")


def _ended(flight: Flight, seconds: float) -> EndedDownload:
    """The event that reports a flight whose state is final."""
    return EndedDownload(
        flight.source,
        flight.image,
        flight.digest,
        committed=flight.state is FlightState.COMMITTED,
        size=flight.written,
        seconds=seconds,
        reason=flight.error.reason if flight.error else "",
        unstorable=isinstance(flight.error, Unstorable),
    )


def worth_finishing(size: int | None, written: int, limits: DownloadLimits = DEFAULT_LIMITS) -> bool:
    """Whether a download without readers continues."""
    return size is not None and (size <= limits.keep_size or written >= size * limits.keep_share)
