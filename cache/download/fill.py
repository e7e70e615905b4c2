"""Fill: the bytes of one blob come into a spool, over one connection, or over several where one alone is slow.

It begins with one stream of the whole. Where that is slow and the upstream gives ranges, helpers fetch pieces beside
it. They can only make it faster: whatever they are refused, one stream more brings the blob.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import structlog

from cache.download.ranges import Piece, Pieces
from cache.download.retry import Trickle
from cache.store.hashing import BUFFER, Hashing
from cache.store.spool import Spool
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.values import Fault, Origin, Part, Rest

log = structlog.get_logger()

UNSIZED_LIMIT = 16 * 1024 * 1024 * 1024
"""Bytes of a blob whose length the upstream does not tell; one that it tells is held to it."""

LARGE = 16 * 1024 * 1024
SLOW = 25_000_000
"""Bytes per second. What is faster has our own limits, not those of the upstream, and gains nothing by more streams."""

WINDOW = 0.3
WORTH = 1.0
"""Seconds: so long a rate is measured, and so long the rest must take at that rate, for helpers to be called."""

CONNECTIONS = 4
HELPERS_PER_UPSTREAM = 16
RANGE_FAILURES = 3

clock = time.monotonic


class Incoming(Protocol):
    """A body as it arrives. `receive_into` blocks and returns 0 at the end; `abort` wakes it from another thread.

    Its first byte is that at `start` of the blob; `size` bytes will come, where that is known.
    """

    start: int
    size: int | None
    accepts_ranges: bool

    def receive_into(self, buffer: memoryview) -> int: ...
    def abort(self) -> None: ...


class Fetch(Protocol):
    """Opens the body of the whole, of a part or of the rest; of a part it gives exactly that, or raises UpstreamError,
    and for the rest it may give the whole."""

    def __call__(self, part: Part | Rest | None = None, /) -> AbstractContextManager[Incoming]: ...


class Lanes:
    """The connections that may be opened to an upstream beside the first of each download, over all downloads."""

    def __init__(self, limit: int = HELPERS_PER_UPSTREAM) -> None:
        self._limit = limit
        self._used: Counter[Origin] = Counter()
        self._lock = threading.Lock()

    def acquire(self, origin: Origin) -> bool:
        with self._lock:
            free = self._used[origin] < self._limit
            self._used[origin] += free
            return free

    def release(self, origin: Origin) -> None:
        with self._lock:
            self._used[origin] -= 1
            if not self._used[origin]:
                del self._used[origin]


class Pace:
    """How fast a stream is, told from time to time."""

    def __init__(self) -> None:
        self._since = clock()
        self._waited, self._bytes = 0.0, 0

    def note(self, count: int, asked: float) -> float | None:
        """Of so many bytes that were asked for then; bytes per second of waiting once the window is full.

        A wait longer than the window tells of a stall, which other connections would meet too, and not of a rate.
        """
        now = clock()
        stalled = now - asked > max(WINDOW, 0.05)
        self._waited += now - asked
        self._bytes += count
        if not stalled and now - self._since < WINDOW:
            return None
        rate = None if stalled else self._bytes / max(self._waited, 1e-6)
        self._since, self._waited, self._bytes = now, 0.0, 0
        return rate


class Fill:
    """`run` is the work of one thread, which calls others. `started` is given the first body, `grew` the bytes that may
    be read, each time from one thread at a time."""

    def __init__(
        self,
        spool: Spool,
        origin: Origin,
        fetch: Fetch,
        lanes: Lanes,
        started: Callable[[Incoming], None],
        grew: Callable[[int], None],
    ) -> None:
        self.answered = False
        """Whether the upstream gave a body at all."""
        self._spool, self._origin, self._fetch, self._lanes = spool, origin, fetch, lanes
        self._started, self._grew = started, grew
        self._pieces = Pieces(0, 0, CONNECTIONS)
        self._changed = threading.Condition()
        self._hashing = threading.Lock()
        self._open: set[Incoming] = set()
        self._helpers = 0
        self._ranges_work = False
        self._stopped = False
        self._aborted = False

    def abort(self) -> None:
        """From another thread: whoever waits for bytes is woken, and nothing more is written."""
        with self._changed:
            self._aborted = self._stopped = True
            for incoming in self._open:  # under the lock: once closed, its descriptor may be somebody else's
                incoming.abort()
            self._changed.notify_all()

    def run(self, rest: Rest | None = None) -> None:
        """Returns when all has come. Raises UpstreamError or OSError; then and always nobody writes any more."""
        buffer = memoryview(bytearray(BUFFER))
        try:
            with self._fetch(rest) if rest else self._fetch() as incoming:
                self.answered = True
                self._started(incoming)
                size = None if incoming.size is None else incoming.start + incoming.size
                with self._listening(incoming):
                    self._pass_over(self._spool.size - incoming.start, incoming, buffer)
                    if self._alone(incoming, size) and size is not None:
                        self._first(self._divide(size), incoming, buffer)
            self._together(buffer)
        finally:
            self._dismiss()
        if self._aborted:
            raise Unavailable("every client has left")
        self._spool.advance(self._pieces.prefix)

    def settle(self) -> None:
        """After a failure: what has come without a gap is counted."""
        self._spool.advance(self._pieces.prefix)

    def _alone(self, incoming: Incoming, size: int | None) -> bool:
        """One stream into the spool, until its end, or until it has turned out to be slow: then True."""
        here = self._spool.size
        dividable = incoming.accepts_ranges and size is not None and size - here >= LARGE
        pace, trickle = Pace(), Trickle(clock)
        with Hashing(self._spool, self._grew, None if size is None else size - here) as hashing:
            while not self._stopped:
                buffer, asked = hashing.buffer(), clock()
                count = incoming.receive_into(buffer)
                if not count:
                    break
                trickle.note(count)
                rate = pace.note(count, asked) if dividable else None
                hashing.take(buffer, count)
                here += count
                if size is None and here > UNSIZED_LIMIT:
                    raise Corrupt(f"{self._origin.host} sends without end", Fault.SIZE)
                if rate is not None and size and worth_dividing(size - here, rate):
                    return True
        return False

    def _pass_over(self, count: int, incoming: Incoming, buffer: memoryview) -> None:
        """Reads and drops what is here already."""
        trickle = Trickle(clock)
        while count > 0 and not self._stopped:
            got = incoming.receive_into(buffer[:count])
            if not got:
                raise Unavailable(f"{self._origin.host} sent less than before")
            trickle.note(got)
            count -= got

    def _divide(self, size: int) -> Piece | None:
        """The rest becomes pieces, of which the first is returned; helpers are called for the others."""
        with self._changed:
            self._pieces = Pieces(self._spool.size, size, CONNECTIONS)
            piece = self._pieces.take(self._spool.size)
        for _ in range(CONNECTIONS - 1):
            if not self._lanes.acquire(self._origin):
                break
            with self._changed:
                self._helpers += 1
            try:
                threading.Thread(target=self._help, name="fill", daemon=True).start()
            except RuntimeError:  # no more threads: it goes on with those it has
                self._end_help()
                break
        log.info("fill_divided", upstream=self._origin.host, bytes=size, helpers=self._helpers)
        return piece

    def _first(self, piece: Piece | None, incoming: Incoming, buffer: memoryview) -> None:
        """The stream of the whole goes on as far as it stands before bytes that nobody else brings."""
        try:
            while piece:
                self._receive(piece, incoming, buffer)
                piece = self._take(piece.stop)
        except UpstreamError:
            if not self._ranges_work:
                raise

    def _take(self, offset: int) -> Piece | None:
        with self._changed:
            return None if self._stopped else self._pieces.take(offset)

    def _together(self, buffer: memoryview) -> None:
        """Pieces, as long as there are any; when nobody gets any further, one stream brings what is missing."""
        failures = 0
        while not self._pieces_complete():
            piece = self._await_piece(claiming=failures < RANGE_FAILURES)
            if piece is not None:
                try:
                    self._bring(piece, buffer)
                except UpstreamError as error:
                    failures += 1
                    log.info("fill_piece_failed", upstream=self._origin.host, reason=error.reason)
            elif not self._pieces_complete():
                self._begin_again(buffer)
                return

    def _pieces_complete(self) -> bool:
        with self._changed:
            return self._stopped or self._pieces.complete

    def _await_piece(self, *, claiming: bool) -> Piece | None:
        """One that is free, or gets free; None when all have come or nobody is left to bring the others."""
        with self._changed:
            while not self._stopped and not self._pieces.complete:
                if claiming and (piece := self._pieces.claim()):
                    return piece
                if not self._helpers:
                    return None
                self._changed.wait()
        return None

    def _begin_again(self, buffer: memoryview) -> None:
        """A second stream of the whole. What is here is passed over; what came ahead of it is given up."""
        with self._fetch() as incoming, self._listening(incoming):
            with self._changed:
                self._pieces = Pieces(self._pieces.prefix, self._pieces.size, CONNECTIONS)
            self._spool.advance(self._pieces.prefix)
            self._pass_over(self._pieces.prefix, incoming, buffer)
            self._ranges_work = False
            self._first(self._take(self._pieces.prefix), incoming, buffer)

    def _help(self) -> None:
        """The body of a helper's thread. Whatever stops it, others do what it leaves."""
        try:
            buffer = memoryview(bytearray(BUFFER))
            while (piece := self._claim()) and self._bring(piece, buffer):
                pass
        except UpstreamError as error:
            log.info("fill_helper_ended", upstream=self._origin.host, reason=error.reason)
        except Exception as error:  # a thread's last resort: the first thread meets what is the matter itself
            log.warning("fill_helper_failed", upstream=self._origin.host, reason=type(error).__name__)
        finally:
            self._end_help()

    def _end_help(self) -> None:
        self._lanes.release(self._origin)
        with self._changed:
            self._helpers -= 1
            self._changed.notify_all()

    def _claim(self) -> Piece | None:
        with self._changed:
            return None if self._stopped else self._pieces.claim()

    def _bring(self, piece: Piece, buffer: memoryview) -> bool:
        """False when it was taken away, or everything was stopped, before its bytes came."""
        pieces, start, stop = self._pieces, piece.start, piece.stop
        if start == stop:
            return True
        try:
            with self._fetch(Part(start, stop, pieces.size)) as incoming, self._listening(incoming):
                with self._changed:
                    if self._stopped or not pieces.confirm(piece):
                        return not self._stopped
                    self._ranges_work = True
                self._receive(piece, incoming, buffer)
                return True
        finally:
            with self._changed:
                pieces.give_back(piece)
                self._changed.notify_all()

    def _receive(self, piece: Piece, incoming: Incoming, buffer: memoryview) -> None:
        """All of a piece that belongs to the caller; what does not come is free again."""
        trickle = Trickle(clock)
        try:
            while not piece.over and not self._stopped:
                count = incoming.receive_into(buffer[: piece.stop - piece.position])
                if not count:
                    raise Unavailable(f"{self._origin.host} ended a body early")
                trickle.note(count)
                self._spool.write_at(piece.position, buffer[:count])
                with self._changed:
                    self._pieces.wrote(piece, count)
                    prefix = self._pieces.prefix
                self._hash(prefix)
        finally:
            with self._changed:
                self._pieces.give_back(piece)

    def _hash(self, prefix: int) -> None:
        if prefix > self._spool.size:
            with self._hashing:
                self._spool.advance(prefix)
                self._grew(self._spool.size)

    @contextmanager
    def _listening(self, incoming: Incoming) -> Iterator[None]:
        """Within, an abort reaches the body; it must not once its connection may be somebody else's."""
        with self._changed:
            self._open.add(incoming)
            if self._aborted:
                incoming.abort()
        try:
            yield
        finally:
            with self._changed:
                self._open.discard(incoming)
                self._changed.notify_all()

    def _dismiss(self) -> None:
        """Returns when nobody writes any more. Who still waits for an answer will find that it is too late."""
        with self._changed:
            self._stopped = True
            for incoming in self._open:
                incoming.abort()
            self._changed.wait_for(lambda: not self._open)


def worth_dividing(rest: int, rate: float) -> bool:
    """Whether more connections would bring the rest, in bytes, noticeably sooner than one of this rate does."""
    return rate < SLOW and rest > rate * WORTH
