"""Patience: how often and how soon an upstream that broke off is asked again, and what is too slow to wait for."""

import time
from collections.abc import Callable

from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import Fault

PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each further try."""

LONGEST_PAUSE = 10.0
PROGRESS = 1024 * 1024
"""Bytes after which an upstream has earned all tries anew."""

SPAN = 60.0
LEAST = 1024
"""A stream that brings fewer bytes per second over that many seconds is ended; the next try may do better."""


class Patience:
    """With one download, which has so many bytes when it begins."""

    def __init__(self, have: int = 0) -> None:
        self._have = have
        self._tries = 0

    def pause(self, error: UpstreamError, have: int) -> float | None:
        """Seconds until the next try; None when there is none, since the upstream says no or has had enough tries."""
        if isinstance(error, NotFound | AccessDenied) or (isinstance(error, Corrupt) and error.fault is not Fault.HTML):
            return None
        if have - self._have >= PROGRESS:
            self._tries = 0
        self._have = max(have, self._have)
        if self._tries >= len(PAUSES):
            return None
        self._tries += 1
        asked = (error.retry_after or 0) if isinstance(error, RateLimited) else 0
        return max(PAUSES[self._tries - 1], min(asked, LONGEST_PAUSE))


class Trickle:
    """Watches one stream."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._bytes = 0

    def note(self, count: int) -> None:
        """So many bytes have come. Raises Unavailable when that is too little."""
        self._bytes += count
        now = self._clock()
        if now - self._since < SPAN:
            return
        if self._bytes < LEAST * (now - self._since):
            raise Unavailable(f"only {self._bytes} bytes arrived in {now - self._since:.0f} s")
        self._since, self._bytes = now, 0
