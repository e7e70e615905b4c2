"""UncachedBlob: where nothing can be written, a blob is fetched for one reader, hashed on the way, and not kept.

A thread fetches it and waits for the reader: a few chunks are on their way at a time, and no more memory is taken.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from cache.download.errors import abandoned, corrupt
from cache.download.incoming import Fetch, LimitedBody, agreed_size
from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.download.retry import download_into
from cache.oci.digest import Digest
from cache.runtime.context_threads import context_thread
from cache.store.base import Extent, OpenBlob, sendable
from cache.store.spool import DigestMismatch, LengthMismatch, check_content
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Rest

CHUNK = 256 * 1024
CHUNKS = 4
"""Bytes of a chunk, and chunks that are received ahead of the reader."""

UNSENT = 1024 * 1024
"""Bytes that are held for a reader that wants the verdict before the first of them."""


class SentPrefix:
    """The first bytes of a blob, which a reader was sent from a spool that was given up; on a descriptor of its own."""

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor = os.dup(descriptor)
        self.count = count


class UncachedBlob(OpenBlob):
    """An OpenBlob for one reader. Raises UpstreamError.

    `size`: the size that the reader has seen already. `prefix`: bytes that it was sent already; they are hashed with
    the rest, so that a body that completes is right as a whole.
    """

    def __init__(
        self,
        digest: Digest,
        fetch: Fetch,
        size: int | None = None,
        prefix: SentPrefix | None = None,
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """Start the download. Raises RuntimeError if no thread can be started; the caller then closes `prefix`.

        `ended` is called in the loop when the thread ends.
        """
        self.digest = digest
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[bytes | UpstreamError | None] = asyncio.Queue()
        self._responded = self._loop.create_future()
        self._position = 0
        self._held: deque[Extent] = deque()
        self._holds = False
        self._ended = ended
        self._sink = _ReaderSink(digest, fetch, size, prefix, self, limits)
        context_thread(self._sink.run, "uncached").start()

    @property
    def size(self) -> int | None:
        return self._size

    async def started(self) -> None:
        """Return when the upstream has responded. Raises UpstreamError."""
        if isinstance(error := await asyncio.shield(self._responded), UpstreamError):
            raise error

    async def verified(self) -> None:
        await self.started()
        while not self._holds:
            if sum(len(extent.data or b"") for extent in self._held) > UNSENT:
                raise Unavailable("the blob cannot be stored, and is too long to be held until it is verified")
            await self._receive(0, None)

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        await self.started()
        while True:
            limit = self._size if stop is None else stop
            end = sendable(self._position, limit, verified=self._holds)
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
        self._sink.abort()

    async def _receive(self, start: int, stop: int | None) -> None:
        """Take the next chunk, and hold what lies in [start, stop) of it."""
        event = await self._events.get()
        if isinstance(event, UpstreamError):
            raise event
        if event is None:
            self._holds = True
            return
        extent = Extent(self._position, self._position + len(event), event)
        self._position = extent.stop
        self._sink.chunk_taken()
        extent = _cut(extent, start, stop)
        if extent.data:
            self._held.append(extent)

    # Called by the thread, run in the loop.

    def put(self, event: bytes | UpstreamError | None) -> None:
        """Deliver the next chunk, a failure, or None: the digest holds."""
        self._call(self._put, event)

    def respond(self, size: int | None) -> None:
        """Report the upstream's response, and the size that it promises."""
        self._call(self._set_size, size)

    def end(self) -> None:
        """Report that the thread has ended."""
        self._call(self._ended)

    def skip(self, count: int) -> None:
        """Begin with the byte at `count`: those before it were sent."""
        self._call(self._set_position, count)

    def _put(self, event: bytes | UpstreamError | None) -> None:
        if isinstance(event, UpstreamError) and not self._responded.done():
            self._responded.set_result(event)
        self._events.put_nowait(event)

    def _set_size(self, size: int | None) -> None:
        if not self._responded.done():
            self._size = self._size if size is None else size
            self._responded.set_result(None)

    def _set_position(self, count: int) -> None:
        self._position = count

    def _call(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: no waiter is left
            self._loop.call_soon_threadsafe(callback, *arguments)


class _ReaderSink:
    """Sink of an uncached download: hashes what arrives and hands it to one reader, as fast as that takes it."""

    def __init__(
        self,
        digest: Digest,
        fetch: Fetch,
        size: int | None,
        prefix: SentPrefix | None,
        reader: UncachedBlob,
        limits: DownloadLimits,
    ) -> None:
        self.size = size
        self.bodies = 0
        self.count = 0
        self._digest, self._fetch, self._prefix = digest, fetch, prefix
        self._reader = reader
        self._limits = limits
        self._hasher = digest.hasher()
        self._slots = threading.Semaphore(CHUNKS)
        self._lock = threading.Lock()
        self._body: LimitedBody | None = None
        self._closed = threading.Event()
        self._waited = 0.0

    def abort(self) -> None:
        """End the thread soon. Called from the loop."""
        with self._lock:
            self._closed.set()
            if self._body is not None:
                self._body.abort()
        self._slots.release()

    def chunk_taken(self) -> None:
        """Let one more chunk be received. Called from the loop."""
        self._slots.release()

    def run(self) -> None:
        """Body of the thread."""
        try:
            if self._prefix is not None:
                self._hash_prefix(self._prefix)
            download_into(self, self._limits, self._closed, digest=str(self._digest))
            actual = Digest(self._digest.algorithm, self._hasher.hexdigest())
            check_content(self._digest, self.size, actual, self.count)
            self._reader.put(None)
        except UpstreamError as error:
            self._reader.put(error)
        except DigestMismatch as error:
            self._reader.put(corrupt(error))
        except Exception as error:  # a thread's last resort: its reader must learn of it
            self._reader.put(Unavailable(f"the blob could not be fetched ({type(error).__name__})"))
        finally:
            if self._prefix is not None:
                os.close(self._prefix.descriptor)
            self._reader.end()

    def _hash_prefix(self, prefix: SentPrefix) -> None:
        while self.count < prefix.count and not self._closed.is_set():
            chunk = os.pread(prefix.descriptor, min(CHUNK, prefix.count - self.count), self.count)
            if not chunk:
                raise Unavailable("bytes that were sent can no longer be read")
            self._hasher.update(chunk)
            self.count += len(chunk)
        self._reader.skip(self.count)

    def receive(self, rest: Rest | None) -> None:
        with self._fetch(rest) if rest else self._fetch() as incoming:
            body = LimitedBody(incoming, self._limits, self._clock)
            self.bodies += 1
            try:
                self.size = agreed_size(self.size, body.promised)
            except LengthMismatch as error:
                raise corrupt(error) from error
            self._reader.respond(body.promised)
            with self._lock:
                self._body = body
            try:
                self._pass_on(body)
            finally:
                with self._lock:
                    self._body = None

    def _pass_on(self, body: LimitedBody) -> None:
        """Hash and deliver a body, except the bytes that are present."""
        buffer, surplus = memoryview(bytearray(CHUNK)), self.count - body.start
        while True:
            self._await_slot()
            if self._closed.is_set():
                raise abandoned()
            try:
                received = body.receive_into(buffer)
            except BaseException:
                self._slots.release()  # the slot of this chunk is free for the next try
                raise
            skipped, surplus = min(surplus, received), max(0, surplus - received)
            if skipped == received:
                self._slots.release()
            else:
                chunk = bytes(buffer[skipped:received])
                self._hasher.update(chunk)
                self.count += len(chunk)
                self._reader.put(chunk)
            if not received:
                return

    def _await_slot(self) -> None:
        began = time.monotonic()
        self._slots.acquire()
        self._waited += time.monotonic() - began

    def _clock(self) -> float:
        """Time without the waits for the reader, which are not caused by the upstream."""
        return time.monotonic() - self._waited


def _cut(extent: Extent, start: int, stop: int | None) -> Extent:
    """The part of an extent that lies in [start, stop)."""
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
