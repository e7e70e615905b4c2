"""ResumingFill: a fill that goes on where the upstream broke off, without its readers hearing of it."""

import threading
from collections.abc import Callable

import structlog

from cache.download.fill import Fetch, Fill, Incoming, Lanes
from cache.download.retry import Patience
from cache.runtime.failpoints import failpoint
from cache.store.spool import LengthMismatch, Spool
from cache.upstream.errors import Unavailable, UpstreamError
from cache.values import Origin, Rest

log = structlog.get_logger()


class ResumingFill:
    """`run` is the work of one thread. `started` is told the size when the upstream has answered, `grew` the bytes
    that may be read.

    What the spool holds already, of `size` bytes if that is known, is not fetched again where the upstream gives the
    rest; where it gives the whole, that much is passed over. Nothing is compared: the digest decides at the end.
    """

    def __init__(
        self,
        spool: Spool,
        size: int | None,
        origin: Origin,
        fetch: Fetch,
        lanes: Lanes,
        started: Callable[[int | None], None],
        grew: Callable[[int], None],
    ) -> None:
        self.size = size
        self._spool, self._origin, self._fetch, self._lanes = spool, origin, fetch, lanes
        self._started, self._grew = started, grew
        self._begun = False
        self._aborted = threading.Event()
        self._lock = threading.Lock()
        self._fill: Fill | None = None

    def abort(self) -> None:
        """From another thread: whoever waits for bytes is woken, and nothing more is written."""
        with self._lock:
            self._aborted.set()
            fill = self._fill
        if fill is not None:
            fill.abort()

    def run(self) -> None:
        """Returns when all has come. Raises UpstreamError, OSError, or LengthMismatch where the upstream promises
        another length than before; then and always nobody writes any more."""
        patience, ranged = Patience(self._spool.size), True
        while True:
            fill = self._next()
            rest = self._rest() if ranged else None
            try:
                fill.run(rest)
                return
            except UpstreamError as error:
                fill.settle()
                if self._complete and self._begun:
                    return
                pause = patience.pause(error, self._spool.size) if self._begun or self._spool.size else None
                if pause is None or self._aborted.is_set():
                    raise
                log.info("fill_broke_off", upstream=self._origin.host, reason=error.reason, bytes=self._spool.size)
                # Who refuses the rest may still give the whole.
                ranged = fill.answered or not ranged
            if self._aborted.wait(pause):
                raise Unavailable("every client has left")
            failpoint("fill.resume")
            self._spool.rewind()
            self._spool.resumed = self._spool.resumed or self._spool.size > 0

    @property
    def _complete(self) -> bool:
        return self.size is not None and self._spool.size == self.size

    def _next(self) -> Fill:
        with self._lock:
            if self._aborted.is_set():
                raise Unavailable("every client has left")
            self._fill = Fill(self._spool, self._origin, self._fetch, self._lanes, self._answered, self._grew)
            return self._fill

    def _rest(self) -> Rest | None:
        """Of an unknown whole from the last byte that is here: so there is something to give, which tells the size."""
        here = self._spool.size
        return Rest(here if self.size is not None else here - 1, self.size) if here else None

    def _answered(self, incoming: Incoming) -> None:
        total = None if incoming.size is None else incoming.start + incoming.size
        if None not in (self.size, total) and total != self.size:
            raise LengthMismatch(f"{total} bytes are promised where it was {self.size} before")
        first, self._begun = not self._begun, True
        self.size = self.size if total is None else total
        self._spool.promised = self.size
        if first:
            self._started(total)
