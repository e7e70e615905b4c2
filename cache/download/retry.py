"""Retries of one download: the budget as a value, and the loop that every download runs, whatever takes its bytes."""

import threading
from dataclasses import dataclass, replace
from typing import Protocol, Self

import structlog

from cache.download.errors import abandoned
from cache.download.limits import DownloadLimits
from cache.runtime.failpoints import failpoint
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import Fault, Rest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retry budget of one download; `have`: bytes present at its start, or at the last retry that gained some.

    `used`: retries since the last progress.
    """

    have: int = 0
    used: int = 0

    def spend(self, error: UpstreamError, have: int, limits: DownloadLimits) -> tuple[float, Self] | None:
        """Seconds until the next retry, and the budget after it; None where a retry is pointless or none is left.

        `have`: bytes that are present now.
        """
        if isinstance(error, NotFound | AccessDenied) or (isinstance(error, Corrupt) and error.fault is not Fault.HTML):
            return None
        used = 0 if have - self.have >= limits.retry_progress else self.used
        after = replace(self, have=max(have, self.have), used=used + 1)
        if used >= len(limits.retry_pauses):
            return None
        requested = (error.retry_after or 0) if isinstance(error, RateLimited | Unavailable) else 0
        return max(limits.retry_pauses[used], min(requested, limits.longest_retry_pause)), after


class Sink(Protocol):
    """Destination of a download's bytes. The thread of the download calls it."""

    size: int | None
    """Bytes of the whole blob; None until the upstream promises a length."""
    bodies: int
    """Bodies that the upstream has sent so far."""

    @property
    def count(self) -> int:
        """Bytes that are present, from the start of the blob and without a gap."""

    def receive(self, rest: Rest | None) -> None:
        """Run one attempt: fetch the rest, or the whole blob for None, and append the bytes that are missing.

        `count` is right however it ends. Raises UpstreamError, which may be retried; any other error ends the download.
        """


def download_into(sink: Sink, limits: DownloadLimits, stopped: threading.Event, **fields: object) -> None:
    """Fetch until all bytes have arrived, with as many attempts as the budget allows; they may still be wrong.

    Bytes that are present are not fetched again where the upstream serves the rest; where it serves the whole, the sink
    skips them. They are not compared: the digest decides at the end. `fields` describe the download in the log.
    Raises UpstreamError, or what the sink raises; Unavailable soon after `stopped` is set.
    """
    budget, ranged = RetryBudget(sink.count), True
    while True:
        bodies = sink.bodies
        try:
            sink.receive(_rest_of(sink) if ranged else None)
            return
        except UpstreamError as error:
            if sink.bodies and sink.count == sink.size:
                return
            retry = budget.spend(error, sink.count, limits) if sink.bodies or sink.count else None
            if retry is None or stopped.is_set():
                raise
            log.info("fill_broke_off", reason=error.reason, bytes=sink.count, **fields)
            # An upstream that refuses the rest may still serve the whole.
            ranged = sink.bodies > bodies or not ranged
            pause, budget = retry
        if stopped.wait(pause):
            raise abandoned()
        failpoint("fill.resume")


def _rest_of(sink: Sink) -> Rest | None:
    """Range that is missing; None where nothing is present. While the size is unknown it begins with the last byte that
    is present: then there always is a rest to serve, and its header states the size."""
    if not sink.count:
        return None
    return Rest(sink.count if sink.size is not None else sink.count - 1, sink.size)
