"""FetchAttempt: one attempt to fetch a blob into a spool, over one connection, or over several where one alone is slow.

It begins with one stream of the whole, or of the rest. Where that is slow and the upstream serves ranges, helper
threads fetch pieces beside it. They can only make it faster: whatever they are refused, one more stream fetches.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from cache.download.errors import abandoned
from cache.download.incoming import Fetch, LimitedBody
from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.download.ranges import Piece, Pieces
from cache.runtime.context_threads import context_thread
from cache.store.hashing import BUFFER, BufferPool, HashingWriter
from cache.store.spool import Spool
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Origin, Part, Rest

log = structlog.get_logger()

HELPERS_PER_UPSTREAM = 16
PIECE_BUFFER = 256 * 1024


class FillResources:
    """Resources that the downloads of a process share: large buffers, and the connections to each upstream that may be
    opened beside the first of each download."""

    def __init__(self, limit: int = HELPERS_PER_UPSTREAM) -> None:
        self.buffers = BufferPool()
        self._limit = limit
        self._used: Counter[Origin] = Counter()
        self._lock = threading.Lock()

    def acquire(self, origin: Origin) -> bool:
        """Whether another connection was free, and is now taken."""
        with self._lock:
            free = self._used[origin] < self._limit
            self._used[origin] += free
            return free

    def release(self, origin: Origin) -> None:
        with self._lock:
            self._used[origin] -= 1
            if not self._used[origin]:
                del self._used[origin]


class TransferRate:
    """Rate of a stream, measured over one window after another."""

    def __init__(self, limits: DownloadLimits = DEFAULT_LIMITS, clock: Callable[[], float] = time.monotonic) -> None:
        self._window, self._clock = limits.rate_window, clock
        self._since = clock()
        self._waited, self._bytes = 0.0, 0

    def add(self, count: int, since: float) -> float | None:
        """Count bytes that were waited for since then; bytes per second of waiting once the window is full, else None.

        A wait longer than the window shows a stall, which other connections would meet too, and not a rate.
        """
        now = self._clock()
        stalled = now - since > max(self._window, 0.05)
        self._waited += now - since
        self._bytes += count
        if not stalled and now - self._since < self._window:
            return None
        rate = None if stalled else self._bytes / max(self._waited, 1e-6)
        self._since, self._waited, self._bytes = now, 0.0, 0
        return rate


class FetchAttempt:
    """One attempt. `run` is called in one thread, which starts others.

    `started` is called with the first body, `grew` with the bytes that may be read, by one thread at a time.
    """

    def __init__(
        self,
        spool: Spool,
        origin: Origin,
        fetch: Fetch,
        shared: FillResources,
        started: Callable[[LimitedBody], None],
        grew: Callable[[int], None],
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
    ) -> None:
        self._spool, self._origin, self._fetch, self._shared = spool, origin, fetch, shared
        self._started, self._grew = started, grew
        self._limits = limits
        self._pieces = Pieces(0, 0, limits)
        self._changed = threading.Condition()
        self._hashing = threading.Lock()
        self._open: set[LimitedBody] = set()
        self._helpers = 0
        self._ranges_work = False
        self._stopped = False
        self._aborted = False

    def abort(self) -> None:
        """Wake every thread that waits for bytes; nothing more is written. Called from another thread."""
        with self._changed:
            self._aborted = self._stopped = True
            for body in self._open:  # under the lock: once a body is closed, its descriptor may be another's
                body.abort()
            self._changed.notify_all()

    def run(self, rest: Rest | None = None) -> None:
        """Return when all bytes have arrived. Raises UpstreamError or OSError. No thread writes once it has ended."""
        buffer = memoryview(bytearray(BUFFER))
        try:
            with self._body(rest) as body:
                self._started(body)
                size = body.promised
                self._skip(self._spool.size - body.start, body, buffer)
                if self._stream_alone(body, size) and size is not None:
                    buffer = memoryview(bytearray(PIECE_BUFFER))
                    self._stream_pieces(self._divide(size), body, buffer)
            self._fetch_pieces(buffer)
        finally:
            self._stop()
        if self._aborted:
            raise abandoned()
        self.settle()

    def settle(self) -> None:
        """Count the bytes that arrived without a gap, after a failure too. Raises OSError."""
        self._spool.advance(self._pieces.prefix)

    def _stream_alone(self, body: LimitedBody, size: int | None) -> bool:
        """Write one stream into the spool until its end; True where it turns out to be slow before that."""
        present, limits = self._spool.size, self._limits
        dividable = body.accepts_ranges and size is not None and size - present >= limits.divide_from
        rates = TransferRate(limits)
        missing = None if size is None else size - present
        with HashingWriter(self._spool, self._grew, missing, self._shared.buffers) as writer:
            while not self._stopped:
                buffer, since = writer.buffer(), time.monotonic()
                count = body.receive_into(buffer)
                if not count:
                    break
                rate = rates.add(count, since) if dividable else None
                writer.write(buffer, count)
                present += count
                if rate is not None and size and worth_dividing(size - present, rate, limits):
                    return True
        return False

    def _skip(self, count: int, body: LimitedBody, buffer: memoryview) -> None:
        """Read and drop the bytes that are present already."""
        while count > 0 and not self._stopped:
            received = body.receive_into(buffer[:count])
            if not received:
                raise Unavailable(f"{self._origin.netloc} sent less than before")
            count -= received

    def _divide(self, size: int) -> Piece | None:
        """Cut what is missing into pieces and start helpers for them; return the piece of the stream itself."""
        with self._changed:
            self._pieces = Pieces(self._spool.size, size, self._limits)
            piece = self._pieces.assign_at(self._spool.size)
        for _ in range(self._limits.connections - 1):
            if not self._shared.acquire(self._origin):
                break
            with self._changed:
                self._helpers += 1
            try:
                context_thread(self._help, "fill").start()
            except RuntimeError:  # no more threads: it continues with those that it has
                self._end_help()
                break
        log.info("fill_divided", upstream=self._origin.netloc, bytes=size, helpers=self._helpers)
        return piece

    def _stream_pieces(self, piece: Piece | None, body: LimitedBody, buffer: memoryview) -> None:
        """Continue a stream of the whole blob while it is at an offset that no other connection fetches."""
        try:
            while piece:
                self._receive(piece, body, buffer)
                piece = self._assign_at(piece.stop)
        except UpstreamError:
            if not self._ranges_work:
                raise

    def _assign_at(self, offset: int) -> Piece | None:
        with self._changed:
            return None if self._stopped else self._pieces.assign_at(offset)

    def _fetch_pieces(self, buffer: memoryview) -> None:
        """Fetch pieces as long as there are any; where ranges fail for good, one stream fetches what is missing."""
        failures = 0
        while not self._complete():
            piece = self._await_piece(assigning=failures < self._limits.range_failures)
            if piece is not None:
                try:
                    self._fetch_piece(piece, buffer)
                except UpstreamError as error:
                    failures += 1
                    log.info("fill_piece_failed", upstream=self._origin.netloc, reason=error.reason)
            elif not self._complete():
                self._stream_again(buffer)
                return

    def _complete(self) -> bool:
        with self._changed:
            return self._stopped or self._pieces.complete

    def _await_piece(self, *, assigning: bool) -> Piece | None:
        """Wait for a piece to be free; None when all have arrived, or when no helper is left to fetch the others."""
        with self._changed:
            while not self._stopped and not self._pieces.complete:
                if assigning and (piece := self._pieces.assign()):
                    return piece
                if not self._helpers:
                    return None
                self._changed.wait()
        return None

    def _stream_again(self, buffer: memoryview) -> None:
        """Fetch a second stream of the whole: skip the bytes that are present, give up those that arrived ahead."""
        with self._body() as body:
            with self._changed:
                self._pieces = Pieces(self._pieces.prefix, self._pieces.size, self._limits)
            self.settle()
            self._skip(self._pieces.prefix, body, buffer)
            self._ranges_work = False
            self._stream_pieces(self._assign_at(self._pieces.prefix), body, buffer)

    def _help(self) -> None:
        """Run a helper thread. Whatever ends it, other threads fetch the pieces that it leaves."""
        try:
            buffer = memoryview(bytearray(PIECE_BUFFER))
            while (piece := self._assign()) and self._fetch_piece(piece, buffer):
                pass
        except UpstreamError as error:
            log.info("fill_helper_ended", upstream=self._origin.netloc, reason=error.reason)
        except Exception as error:  # a thread's last resort: the first thread meets the cause itself
            log.warning("fill_helper_failed", upstream=self._origin.netloc, reason=type(error).__name__)
        finally:
            self._end_help()

    def _end_help(self) -> None:
        self._shared.release(self._origin)
        with self._changed:
            self._helpers -= 1
            self._changed.notify_all()

    def _assign(self) -> Piece | None:
        with self._changed:
            return None if self._stopped else self._pieces.assign()

    def _fetch_piece(self, piece: Piece, buffer: memoryview) -> bool:
        """Fetch one piece; False where it was taken away, or everything was stopped, before its bytes arrived."""
        pieces, start, stop = self._pieces, piece.start, piece.stop
        if start == stop:
            return True
        try:
            with self._body(Part(start, stop, pieces.size)) as body:
                with self._changed:
                    if self._stopped or not pieces.confirm(piece):
                        return not self._stopped
                    self._ranges_work = True
                self._receive(piece, body, buffer)
                return True
        finally:
            with self._changed:
                pieces.release(piece)
                self._changed.notify_all()

    def _receive(self, piece: Piece, body: LimitedBody, buffer: memoryview) -> None:
        """Receive all bytes of a piece that are still the caller's; those that do not arrive are free again."""
        try:
            while not piece.over and not self._stopped:
                count = body.receive_into(buffer[: piece.stop - piece.position])
                if not count:
                    raise Unavailable(f"{self._origin.netloc} ended a body early")
                self._spool.write_at(piece.position, buffer[:count])
                with self._changed:
                    self._pieces.advance(piece, count)
                    prefix = self._pieces.prefix
                self._hash(prefix)
        finally:
            with self._changed:
                self._pieces.release(piece)

    def _hash(self, prefix: int) -> None:
        if prefix > self._spool.size:
            with self._hashing:
                self._spool.advance(prefix)
                self._grew(self._spool.size)

    @contextmanager
    def _body(self, part: Part | Rest | None = None) -> Iterator[LimitedBody]:
        """Open a body that `abort` reaches within the block, and not after it: its connection may be another's then."""
        with self._fetch(part) if part else self._fetch() as incoming:
            body = LimitedBody(incoming, self._limits)
            with self._changed:
                self._open.add(body)
                if self._aborted:
                    body.abort()
            try:
                yield body
            finally:
                with self._changed:
                    self._open.discard(body)
                    self._changed.notify_all()

    def _stop(self) -> None:
        """Return when no thread writes any more. A helper that still waits for a response finds that it is too late."""
        with self._changed:
            self._stopped = True
            for body in self._open:
                body.abort()
            self._changed.wait_for(lambda: not self._open)


def worth_dividing(missing: int, rate: float, limits: DownloadLimits = DEFAULT_LIMITS) -> bool:
    """Whether more connections would fetch the missing bytes noticeably sooner than one of this rate does."""
    return rate < limits.fast_rate and missing > rate * limits.worth_dividing
