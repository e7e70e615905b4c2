"""Observers: what the cache reports of its work becomes log lines, counts, and what is remembered of an image."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from cache.download.errors import Unstorable
from cache.download.flight import Flight, State
from cache.index.happenings import Chronicle, Happening, What
from cache.index.maintenance import Held
from cache.index.usage import Pulls, UsageFile
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.throttle import Seldom
from cache.store.quarantine import Quarantine
from cache.upstream.errors import Corrupt, UpstreamError
from cache.values import Source
from gateway.observability.metrics import Landing, Metrics, Pulled, PullsCounted, Totals

log = structlog.get_logger()
seldom = Seldom()

NameOf = Callable[[Source], str]
Clock = Callable[[], datetime]


class UpstreamTraffic:
    """What passes between here and one upstream, by its configured name."""

    def __init__(self, metrics: Metrics, upstream: str) -> None:
        self._metrics = metrics
        self._upstream = upstream

    def asked(self, method: str, status: int | None) -> None:
        self._metrics.count_asked(self._upstream, method, status)

    def received(self, size: int) -> None:
        self._metrics.count_received(self._upstream, size)


class Downloads:
    """Told of every flight: two lines in the log, counts, and how fast it was."""

    def __init__(self, metrics: Metrics, chronicle: Chronicle, name_of: NameOf, clock: Clock) -> None:
        self._metrics = metrics
        self._chronicle = chronicle
        self._name_of = name_of
        self._clock = clock

    def began(self, flight: Flight) -> None:
        log.info("fill_began", digest=str(flight.digest), upstream=self._name_of(flight.source))

    def ended(self, flight: Flight, seconds: float) -> None:
        upstream, error = self._name_of(flight.source), flight.error
        if flight.borrowed:  # its own worker tells of it
            return
        if isinstance(error, Unstorable) and not seldom(error.reason):
            return
        landing = Landing.COMMITTED if flight.state is State.COMMITTED else Landing.FAILED
        self._metrics.count_fill(upstream, landing, flight.written, seconds)
        fields = {
            "digest": str(flight.digest),
            "upstream": upstream,
            "outcome": landing.value,
            "bytes": flight.written,
            "seconds": round(seconds, 3),
            "bytes_per_second": round(flight.written / max(seconds, 1e-6)),
        }
        if landing is Landing.COMMITTED:
            log.info("fill_ended", **fields)
        else:
            log.warning("fill_ended", **fields, reason=error.reason if error else "it was not committed")
        what = What.FILLED if landing is Landing.COMMITTED else What.REFUSED
        reason = error.reason if error else ""
        self._chronicle.note(
            Happening(
                what, self._clock(), flight.source, flight.image, str(flight.digest), reason, flight.written, seconds
            )
        )

    def evicted(self, held: Sequence[Held], freed: int) -> None:
        """From the thread that made room."""
        self._metrics.count_evicted(len(held), freed)
        now = self._clock()
        for each in held:
            reason = "it was worth the least when room was needed"
            self._chronicle.note(Happening(What.EVICTED, now, None, None, str(each.digest), reason, each.size))


class Troubles:
    """Told of what upstreams gave that must not be passed on, and of what they did not give."""

    def __init__(
        self, metrics: Metrics, chronicle: Chronicle, quarantine: Quarantine, name_of: NameOf, clock: Clock
    ) -> None:
        self._metrics = metrics
        self._chronicle = chronicle
        self._quarantine = quarantine
        self._name_of = name_of
        self._clock = clock

    def refused(self, source: Source, error: Corrupt) -> None:
        upstream = self._name_of(source)
        self._metrics.count_fault(upstream, error.fault)
        log.error("upstream_answer_refused", upstream=upstream, fault=error.fault.value, reason=error.reason)
        if error.evidence:
            self._quarantine.take_bytes(error.evidence, f"manifest-{error.fault.value}")

    def failed(self, source: Source, image: RepositoryName, reference: Tag | Digest, error: UpstreamError) -> None:
        self._chronicle.note(Happening(What.REFUSED, self._clock(), source, image, str(reference), error.reason))


def counting_into(usage: UsageFile, clock: Clock) -> PullsCounted:
    """Pulls by the day, for `cache status`."""

    def count(totals: Mapping[Pulled, Totals]) -> None:
        day = clock().date().isoformat()
        for pulled, total in totals.items():
            counted = Pulls(day, pulled.upstream, pulled.kind, pulled.outcome, total.answers, total.bytes)
            usage.count_pulls(counted)

    return count
