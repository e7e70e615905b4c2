"""Flight: one download, many readers.

A fill in threads of its own brings the bytes into a spool; every reader, the first included, follows the growing file
at an offset of its own. Reader and download are strangers: none waits for another's client.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import structlog

from cache.fill import Fetch, Fill, Lanes
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.store.base import BlobStore, Extent
from cache.store.filesystem import read_exactly
from cache.store.quarantine import Quarantine
from cache.store.spool import DigestMismatch, LengthMismatch, Spool
from cache.tasks import Tasks
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.values import Fault, Source

log = structlog.get_logger()

TAIL = 32 * 1024
"""Bytes at the end of every response that wait for the verdict, so that a wrong body never completes."""

KEEP_SIZE = 64 * 1024 * 1024
KEEP_SHARE = 0.25
ABANDON_AFTER = 5.0
STOP_WITHIN = 3.0


class State(Enum):
    WAITING = "waiting"
    STREAMING = "streaming"
    VERIFIED = "verified"
    COMMITTED = "committed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Landing:
    """Where downloads grow, come to rest, and go when they are not what they should be."""

    spools: Path
    store: BlobStore
    quarantine: Quarantine


class Flight:
    """One running download of one blob from one source. It belongs to the app, whoever reads it.

    WAITING → STREAMING → VERIFIED → COMMITTED, or FAILED from any of the first three. `size` is known from STREAMING
    on, if the upstream tells it.
    """

    def __init__(self, source: Source, image: RepositoryName, digest: Digest) -> None:
        self.source = source
        self.image = image
        self.images = {image}
        self.digest = digest
        self.state = State.WAITING
        self.size: int | None = None
        self.written = 0
        self.error: UpstreamError | None = None
        self._followers = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._wake_scheduled = False
        self._descriptor: int | None = None
        self._filling: Fill | None = None
        self._aborted = False
        self._over = False
        self._desertion: asyncio.TimerHandle | None = None

    @property
    def followers(self) -> int:
        return self._followers

    @property
    def verified(self) -> bool:
        return self.state in (State.VERIFIED, State.COMMITTED)

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

    def land(self) -> None:
        """The outcome is final and was recorded; what is open is closed with the last follower."""
        self._over = True
        if self.state in (State.WAITING, State.STREAMING):
            self._tell(State.FAILED, Unavailable("the gateway gave the download up"))
        if self._desertion is not None:
            self._desertion.cancel()
        self._release()

    def _abandon(self) -> None:
        if not self._followers and not worth_finishing(self.size, self.written):
            self.abort()

    def _release(self) -> None:
        if self._over and not self._followers and self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def changed(self) -> None:
        """Returns after the next change of state or of `written`; any change that was missed is seen before waiting."""
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    @property
    def joinable(self) -> bool:
        """Whether a new reader may hope for the bytes: what has failed, or will because it was given up, is over."""
        return self.verified or not (self._aborted or self.state is State.FAILED)

    def abort(self) -> None:
        self._aborted = True
        filling = self._filling
        if filling is not None:
            filling.abort()

    def descriptor(self) -> int:
        """For reads at an offset of the growing file; there from STREAMING on, and as long as somebody follows."""
        if self._descriptor is None:
            raise ValueError("the flight has not started")
        return self._descriptor

    def fly(self, fetch: Fetch, place: Landing, lanes: Lanes, landed: Callable[[], None]) -> None:
        """The body of the thread. `landed` is called in the loop when the outcome is known and the spool is closed."""
        try:
            self._fill(fetch, place, lanes)
        except UpstreamError as error:
            self._tell(State.FAILED, error)
        except DigestMismatch as error:
            fault = Fault.LENGTH if isinstance(error, LengthMismatch) else Fault.DIGEST
            self._tell(State.FAILED, Corrupt(f"{self.source.origin.host}: {error}", fault))
        except OSError as error:
            self._tell(State.FAILED, Unavailable(f"the blob cannot be written here ({error.strerror or error})"))
        except Exception as error:  # a thread's last resort: whoever waits must hear of it
            log.exception("fill_failed", digest=str(self.digest), source=str(self.source))
            self._tell(State.FAILED, Unavailable(f"the fill failed ({type(error).__name__})"))
        finally:
            self._call(landed)

    def _fill(self, fetch: Fetch, place: Landing, lanes: Lanes) -> None:
        with Spool.create(place.spools, self.digest) as spool:
            self._descriptor = spool.open()
            filling = self._filling = Fill(spool, self.source.origin, fetch, lanes, self._started, self._grew)
            if self._aborted:
                filling.abort()
            filling.run()
            try:
                spool.seal(self.size)
            except DigestMismatch:
                place.quarantine.take_file(spool.path, str(self.digest))
                raise
            self.size = spool.size
            self._tell(State.VERIFIED)
            spool.commit(place.store)
            self._tell(State.COMMITTED)

    def _started(self, size: int | None) -> None:
        self.size = size
        self._tell(State.STREAMING)

    def _grew(self, written: int) -> None:
        self.written = written
        self._signal()

    def _tell(self, state: State, error: UpstreamError | None = None) -> None:
        if self.state is State.FAILED:
            return
        if self.verified and state is State.FAILED:
            # The bytes are right, they only did not come to rest: who reads them reads on.
            log.error("commit_failed", digest=str(self.digest), reason=error.reason if error else "")
            return
        self.error = error
        self.state = state
        self._signal()

    def _signal(self) -> None:
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._call(self._wake)

    def _call(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody is left to hear of it
            self._loop.call_soon_threadsafe(callback)

    def _wake(self) -> None:
        self._wake_scheduled = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Follower:
    """An OpenBlob over a growing file. Raises the flight's UpstreamError where that failed."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._closed = False
        self.digest = flight.digest

    @property
    def size(self) -> int | None:
        return self._flight.size

    def fileno(self) -> int:
        return self._flight.descriptor()

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
            verified, end = flight.verified, flight.written
            limit = stop if stop is not None else flight.size
            if verified:
                end = end if limit is None else min(end, limit)
            elif limit is None:
                end -= TAIL
            else:
                end = min(end, limit - TAIL)
            if offset < end:
                yield Extent(offset, end)
                offset = end
            elif verified:
                return
            else:
                await flight.changed()

    async def read(self, extent: Extent) -> bytes:
        return await read_exactly(self.fileno(), extent)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._flight.leave()

    def _raise_if_failed(self) -> None:
        if self._flight.error is not None:
            raise self._flight.error.again()


class Tower(Protocol):
    """Is told of every flight, in the loop."""

    def began(self, flight: Flight) -> None: ...

    def ended(self, flight: Flight, seconds: float) -> None:
        """With its outcome in `state` and `error`, before it is forgotten."""


class Flights:
    """The running downloads of this process, one per source and digest."""

    def __init__(
        self,
        place: Landing,
        tasks: Tasks,
        arrived: Callable[[Flight], Awaitable[None]],
        refused: Callable[[Source, Corrupt], None] = lambda source, error: None,
        tower: Tower | None = None,
    ) -> None:
        """`arrived` is awaited after a commit, before the flight is forgotten: it records what has come. `refused` is
        told of each body that was not what it should be."""
        self._tower = tower
        self._place = place
        self._lanes = Lanes()
        self._refused = refused
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

    def find(self, source: Source, digest: Digest) -> Flight | None:
        """The one that may be joined; what has failed is over, even while it is being cleaned up."""
        flight = self._running.get((source, digest))
        return flight if flight is not None and flight.joinable else None

    def join(self, source: Source, image: RepositoryName, digest: Digest, fetch: Fetch) -> tuple[Flight, bool]:
        """The flight, and whether this call began it. Only for an image whose right to the digest was proved, or
        where none is running: then the fetch itself is the proof."""
        flight = self.find(source, digest)
        if flight is not None:
            flight.images.add(image)
            return flight, False
        flight = self._running[source, digest] = Flight(source, image, digest)
        owner = self._tasks.start(self._own(flight, fetch), f"flight {digest}")
        self._owners.add(owner)
        owner.add_done_callback(self._owners.discard)
        return flight, True

    async def _own(self, flight: Flight, fetch: Fetch) -> None:
        """From take-off to record, whatever its clients do."""
        began = time.monotonic()
        if self._tower:
            self._tower.began(flight)
        landed = asyncio.Event()
        work = (fetch, self._place, self._lanes, landed.set)
        fill = threading.Thread(target=flight.fly, args=work, name="fill", daemon=True)
        try:
            fill.start()
            await landed.wait()
            recorded = 0
            while flight.state is State.COMMITTED and recorded < len(flight.images):
                recorded = len(flight.images)  # who joins while this is written down is written down too
                await self._arrived(flight)
            if isinstance(flight.error, Corrupt):
                self._refused(flight.source, flight.error)
        finally:
            if self._running.get((flight.source, flight.digest)) is flight:
                del self._running[flight.source, flight.digest]
            if fill.is_alive() and not landed.is_set():
                flight.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(STOP_WITHIN):
                        await landed.wait()
            flight.land()
            if self._tower:
                self._tower.ended(flight, time.monotonic() - began)


def worth_finishing(size: int | None, written: int) -> bool:
    """Whether a download goes on although nobody reads it any more."""
    return size is not None and (size <= KEEP_SIZE or written >= size * KEEP_SHARE)
