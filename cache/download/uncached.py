"""PrivateBlob: where nothing can be written, a blob is fetched for each reader alone, hashed in passing, and not kept.

A thread brings it and waits for its reader: a few pieces are on their way at a time, and no more memory is taken.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from cache.download.fill import UNSIZED_LIMIT, Fetch, Incoming
from cache.download.retry import Patience, Trickle
from cache.oci.digest import Digest
from cache.store.base import Extent
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.values import Fault, Rest

PIECE = 256 * 1024
PIECES = 4
TAIL = 32 * 1024
"""Bytes at the end of what is asked for that wait for the verdict, as those of every response."""

UNSENT = 1024 * 1024
"""Bytes that are held for who wants the verdict before the first of them."""


class Beginning:
    """The first bytes of a blob, as a spool holds them that was given up; of its owner's own descriptor."""

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor = os.dup(descriptor)
        self.count = count


class PrivateBlob:
    """An OpenBlob of one reader. Raises UpstreamError. `size`: what the reader was told already; what was sent of
    `beginning` is hashed with the rest, so that a body that completes is right as a whole."""

    def __init__(
        self, digest: Digest, fetch: Fetch, size: int | None = None, beginning: Beginning | None = None
    ) -> None:
        self.digest = digest
        self.size = size
        self._fetch, self._beginning = fetch, beginning
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[bytes | UpstreamError | None] = asyncio.Queue()
        self._answered = self._loop.create_future()
        self._slots = threading.Semaphore(PIECES)
        self._lock = threading.Lock()
        self._incoming: Incoming | None = None
        self._closed = False
        self._waited = 0.0
        self._position = 0
        self._held: deque[Extent] = deque()
        self._holds = False
        threading.Thread(target=self._run, name="private", daemon=True).start()

    def fileno(self) -> int:
        raise ValueError("these bytes are in no file")

    async def started(self) -> None:
        """Returns when the upstream has answered."""
        if isinstance(error := await asyncio.shield(self._answered), UpstreamError):
            raise error

    async def verified(self) -> None:
        await self.started()
        while not self._holds:
            if sum(len(extent.data or b"") for extent in self._held) > UNSENT:
                raise Unavailable("this blob cannot be stored here, and is too long to be held until it is verified")
            await self._receive(0, None)

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        await self.started()
        while True:
            limit = stop if stop is not None else self.size
            end = self._position if limit is None else min(self._position, limit)
            if not self._holds:
                end = end - TAIL if limit is None else min(end, limit - TAIL)
            while self._held and self._held[0].start < end:
                extent = _cut(self._held.popleft(), start, limit)
                if extent.stop > end:
                    extent, later = _split(extent, end)
                    self._held.appendleft(later)
                if extent.data:
                    yield extent
            if self._holds:
                return
            await self._receive(start, limit)

    async def read(self, extent: Extent) -> bytes:
        return extent.data or b""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._incoming is not None:
                self._incoming.abort()
        self._slots.release()

    async def _receive(self, start: int, stop: int | None) -> None:
        """The next piece, of which nothing below `start` and nothing from `stop` on is held."""
        event = await self._events.get()
        if isinstance(event, UpstreamError):
            raise event
        if event is None:
            self._holds = True
            return
        extent = Extent(self._position, self._position + len(event), event)
        self._position = extent.stop
        self._slots.release()
        extent = _cut(extent, start, stop)
        if extent.data:
            self._held.append(extent)

    # In the thread.

    def _run(self) -> None:
        try:
            self._bring()
            self._tell(None)
        except UpstreamError as error:
            self._tell(error)
        except Exception as error:  # a thread's last resort: its reader must hear of it
            self._tell(Unavailable(f"the blob could not be fetched ({type(error).__name__})"))
        finally:
            if self._beginning is not None:
                os.close(self._beginning.descriptor)

    def _bring(self) -> None:
        hasher, here = self.digest.hasher(), 0
        if self._beginning is not None:
            self._hash_beginning(self._beginning, hasher.update)
            here = self._beginning.count
        patience, ranged, size = Patience(here), True, self.size

        def take(piece: bytes) -> None:
            nonlocal here
            hasher.update(piece)
            here += len(piece)
            self._tell(piece)

        while True:
            answered = False
            try:
                rest = Rest(here, size) if here and ranged and size is not None else None
                with self._fetch(rest) if rest else self._fetch() as incoming:
                    answered = True
                    size = self._begin(incoming, size)
                    self._pass(incoming, here, take)
                break
            except UpstreamError as error:
                pause = patience.pause(error, here) if self._answered.done() or here else None
                if pause is None or self._closed:
                    raise
                ranged = answered or not ranged
            threading.Event().wait(pause)
        if size is not None and here != size:
            raise Corrupt(f"{here} bytes arrived where {size} were promised for {self.digest}", Fault.LENGTH)
        if hasher.hexdigest() != self.digest.hex:
            raise Corrupt(f"the {here} bytes that arrived do not have the digest {self.digest}", Fault.DIGEST)

    def _hash_beginning(self, beginning: Beginning, update: Callable[[bytes], None]) -> None:
        offset = 0
        while offset < beginning.count and not self._closed:
            piece = os.pread(beginning.descriptor, min(PIECE, beginning.count - offset), offset)
            if not piece:
                raise Unavailable("what was sent cannot be read any more")
            update(piece)
            offset += len(piece)
        self._call(self._skip, beginning.count)

    def _begin(self, incoming: Incoming, size: int | None) -> int | None:
        total = None if incoming.size is None else incoming.start + incoming.size
        if None not in (size, total) and size != total:
            raise Corrupt(f"{total} bytes are promised where it was {size} before", Fault.LENGTH)
        self._call(self._begun, total)
        return size if total is None else total

    def _pass(self, incoming: Incoming, here: int, take: Callable[[bytes], None]) -> None:
        buffer, over, trickle = memoryview(bytearray(PIECE)), here - incoming.start, Trickle(self._clock)
        with self._lock:
            self._incoming = incoming
        try:
            while True:
                self._await_slot()
                if self._closed:
                    raise Unavailable("the client has left")
                count = incoming.receive_into(buffer)
                if not count:
                    self._slots.release()
                    return
                passed, over = min(over, count), max(0, over - count)
                if passed == count:
                    self._slots.release()
                else:
                    take(bytes(buffer[passed:count]))
                    here += count - passed
                if incoming.size is None and here > UNSIZED_LIMIT:
                    raise Corrupt("a body without end", Fault.SIZE)
                trickle.note(count)
        finally:
            with self._lock:
                self._incoming = None

    def _await_slot(self) -> None:
        began = time.monotonic()
        self._slots.acquire()
        self._waited += time.monotonic() - began

    def _clock(self) -> float:
        """How long the reader takes is no measure of the upstream."""
        return time.monotonic() - self._waited

    # From the thread to the loop.

    def _tell(self, event: bytes | UpstreamError | None) -> None:
        self._call(self._put, event)

    def _put(self, event: bytes | UpstreamError | None) -> None:
        if isinstance(event, UpstreamError) and not self._answered.done():
            self._answered.set_result(event)
        self._events.put_nowait(event)

    def _begun(self, total: int | None) -> None:
        if not self._answered.done():
            self.size = self.size if total is None else total
            self._answered.set_result(None)

    def _skip(self, count: int) -> None:
        self._position = count

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody is left to hear of it
            self._loop.call_soon_threadsafe(callback, *arguments)


def _cut(extent: Extent, start: int, stop: int | None) -> Extent:
    """What of it lies in [start, stop)."""
    data = extent.data or b""
    first = max(0, start - extent.start)
    last = len(data) if stop is None else max(first, min(len(data), stop - extent.start))
    return Extent(
        extent.start + min(first, len(data)), extent.start + max(min(first, len(data)), last), data[first:last]
    )


def _split(extent: Extent, at: int) -> tuple[Extent, Extent]:
    data = extent.data or b""
    cut = at - extent.start
    return Extent(extent.start, at, data[:cut]), Extent(at, extent.stop, data[cut:])
