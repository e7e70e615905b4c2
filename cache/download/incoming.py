"""Bodies as they arrive from an upstream, and the limits that their reader enforces."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from cache.download.limits import DownloadLimits
from cache.store.spool import LengthMismatch
from cache.upstream.client import BlobStream
from cache.upstream.errors import Corrupt, Unavailable
from cache.values import Fault, Part, Rest


class Fetch(Protocol):
    """Opens the body of a whole blob, of a part or of the rest. Raises UpstreamError.

    For a part it opens exactly that part; for the rest it may open the whole.
    """

    def __call__(self, part: Part | Rest | None = None, /) -> AbstractContextManager[BlobStream]: ...


def agreed_size(known: int | None, promised: int | None) -> int | None:
    """Bytes of the whole blob, from what earlier bodies promised and what the next one promises. Raises LengthMismatch
    where they differ."""
    if None not in (known, promised) and promised != known:
        raise LengthMismatch(f"{promised} bytes are promised where it was {known} before")
    return known if promised is None else promised


class LimitedBody:
    """A BlobStream that is ended where it is too slow, or promised no length and does not end.

    `receive_into` raises Unavailable or Corrupt then. `clock` in seconds; time that it does not count is no delay of
    the upstream's.
    """

    def __init__(
        self, incoming: BlobStream, limits: DownloadLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.start, self.size, self.accepts_ranges = incoming.start, incoming.size, incoming.accepts_ranges
        self._receive_into, self.abort = incoming.receive_into, incoming.abort  # bound once: called per few KiB
        self._left = limits.unsized - incoming.start if incoming.size is None else None
        self._rate = LeastRate(limits, clock)

    @property
    def promised(self) -> int | None:
        """Bytes of the whole blob, as this body promises them; None where it promises nothing."""
        return None if self.size is None else self.start + self.size

    def receive_into(self, buffer: memoryview) -> int:
        count = self._receive_into(buffer)
        if count:
            self._rate.add(count)
            if self._left is not None:
                self._left -= count
                if self._left < 0:
                    raise Corrupt("the upstream sends a body without end", Fault.SIZE)
        return count


class LeastRate:
    """Guard against a stream that trickles."""

    def __init__(self, limits: DownloadLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._since = clock()
        self._bytes = 0

    def add(self, count: int) -> None:
        """Count bytes that arrived. Raises Unavailable when they were too few over the last span."""
        self._bytes += count
        now = self._clock()
        if now - self._since < self._limits.least_rate_span:
            return
        if self._bytes < self._limits.least_rate * (now - self._since):
            raise Unavailable(f"only {self._bytes} bytes arrived in {now - self._since:.0f} s")
        self._since, self._bytes = now, 0
