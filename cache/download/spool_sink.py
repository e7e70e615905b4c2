"""SpoolSink: the sink of a shared download. A stream that breaks off is resumed, and no reader notices."""

import threading
from collections.abc import Callable

from cache.download.errors import abandoned
from cache.download.fill import FetchAttempt, FillResources
from cache.download.incoming import Fetch, LimitedBody, agreed_size
from cache.download.limits import DEFAULT_LIMITS, DownloadLimits
from cache.download.retry import download_into
from cache.store.spool import Spool
from cache.upstream.errors import UpstreamError
from cache.values import Origin, Rest


class SpoolSink:
    """Sink that appends to a spool, with one FetchAttempt per try. `run` is called in one thread.

    `size`: bytes of the whole blob, where an earlier download learned them. `started` is called with the size once the
    upstream has responded, `grew` with the bytes that may be read.
    """

    def __init__(
        self,
        spool: Spool,
        size: int | None,
        origin: Origin,
        fetch: Fetch,
        shared: FillResources,
        started: Callable[[int | None], None],
        grew: Callable[[int], None],
        *,
        limits: DownloadLimits = DEFAULT_LIMITS,
    ) -> None:
        self.size = size
        self.bodies = 0
        self._spool, self._origin, self._fetch, self._shared = spool, origin, fetch, shared
        self._started, self._grew = started, grew
        self._limits = limits
        self._aborted = threading.Event()
        self._lock = threading.Lock()
        self._attempt: FetchAttempt | None = None

    def abort(self) -> None:
        """Wake the thread that waits for bytes or for a retry; nothing more is written. Called from another thread."""
        with self._lock:
            self._aborted.set()
            attempt = self._attempt
        if attempt is not None:
            attempt.abort()

    def run(self) -> None:
        """Return when all bytes have arrived. Raises UpstreamError, OSError, or LengthMismatch where the upstream
        promises another length than before. No thread writes once it has ended."""
        download_into(self, self._limits, self._aborted, upstream=self._origin.netloc)

    @property
    def count(self) -> int:
        return self._spool.size

    def receive(self, rest: Rest | None) -> None:
        with self._lock:
            if self._aborted.is_set():
                raise abandoned()
            attempt = self._attempt = FetchAttempt(
                *(self._spool, self._origin, self._fetch, self._shared, self._responded, self._grew),
                limits=self._limits,
            )
        self._spool.rewind()
        self._spool.resumed = self._spool.resumed or self._spool.size > 0
        try:
            attempt.run(rest)
        except UpstreamError:
            attempt.settle()
            raise

    def _responded(self, body: LimitedBody) -> None:
        self.bodies += 1
        self.size = agreed_size(self.size, body.promised)
        self._spool.promise(self.size)
        if self.bodies == 1:
            self._started(body.promised)
