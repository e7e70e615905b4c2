"""What is counted, and how Prometheus reads it. Labels are enums and configured upstreams, never names or digests.

Answers are only noted while they are given, and counted many at a time: to count each took several times as long.

Several processes count side by side and any of them answers for all: counters and histograms are added up. A gauge must
say how it is put together: `multiprocess_mode="livesum"` adds up those of the processes that live, `livemax` takes the
largest; modes without `live` go on showing what a dead one said, and a gauge that is set by a function has no mode.
"""

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from cache.values import Damage, Fault, Outcome
from gateway.observability.access_line import AccessLine

METRICS_TYPE = CONTENT_TYPE_LATEST
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_ATTEMPTS = 5


def share(folder: Path, place: str) -> None:
    """From here on this process counts in files of `folder`, with the others that do. To be called before Metrics().

    Who takes the place of a process that is dead goes on with its counters; for the gauges `forget` was called.
    """
    os.environ[_FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def forget(folder: Path, place: str) -> None:
    """The gauges of a process that is dead count no more."""
    mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]


NOTED = 500
"""Answers that are noted at the most before they are counted."""

FREE = (Outcome.HIT.value, Outcome.STALE.value, Outcome.COALESCED.value)
"""Outcomes of a manifest that cost the upstream nothing."""

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 30)
_FILL_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_RATES = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9)
_METHODS = ("GET", "HEAD")


class Landing(Enum):
    """How a fill ended."""

    COMMITTED = "committed"
    FAILED = "failed"


class Pulled(NamedTuple):
    """Which pulls are counted together; `upstream` is a configured name."""

    upstream: str
    kind: str
    outcome: str


class Totals:
    """Of answers that are counted together; `waits` are those for the first byte, by the bucket they fall into."""

    __slots__ = ("answers", "bytes", "seconds", "waits")

    def __init__(self) -> None:
        self.answers = 0
        self.bytes = 0
        self.seconds = 0.0
        self.waits = [0] * (len(_SECONDS) + 1)

    def add(self, other: "Totals") -> None:
        self.answers += other.answers
        self.bytes += other.bytes
        self.seconds += other.seconds
        self.waits = [mine + more for mine, more in zip(self.waits, other.waits, strict=True)]


PullsCounted = Callable[[Mapping[Pulled, Totals]], None]


class Waits(Histogram):
    """A histogram that takes many observations at once: one by one they cost more than all the rest."""

    def add(self, totals: Totals) -> None:
        self._sum.inc(totals.seconds)
        for bucket, count in zip(self._buckets, totals.waits, strict=True):
            if count:
                bucket.inc(count)


class UpstreamState(Protocol):
    """What is shown of one upstream; None is not shown."""

    @property
    def name(self) -> str: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def remaining(self) -> int | None: ...
    @property
    def pause(self) -> float: ...
    @property
    def waiting(self) -> int: ...
    @property
    def circuit_open(self) -> bool: ...


class Metrics:
    """What this process counts, and, where it shares, what all of them have counted."""

    def __init__(self) -> None:
        """`pulls_counted` is called with what was counted since it was last called."""
        self.pulls_counted: PullsCounted = lambda totals: None
        self._registry = registry = CollectorRegistry()
        self._noted: list[AccessLine] = []
        self._levels: dict[str, list[Callable[[], float]]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gateway_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"gateway_{name}", text, labels, registry=registry, buckets=buckets)

        def level(name: str, text: str) -> Gauge:
            return Gauge(f"gateway_{name}", text, registry=registry, multiprocess_mode="livesum")

        self._pulls = counter("pulls", "Manifests and blobs answered, by how", "kind", "outcome")
        self._saved = counter("saved_pulls", "Manifests answered at no cost to the upstream", "upstream")
        self._sent = counter("sent_bytes", "Bytes of manifests and blobs sent, by where they came from", "origin")
        self._responses = counter("responses", "Answers, by surface and class of status", "surface", "status")
        self._first_byte = Waits(
            "gateway_first_byte_seconds",
            "From a pull to its first byte",
            ("kind", "outcome"),
            registry=registry,
            buckets=_SECONDS,
        )
        self._asked = counter("upstream_requests", "Requests to upstreams", "upstream", "method", "status")
        self._received = counter("received_bytes", "Bytes of bodies that came from upstreams", "upstream")
        self._faults = counter(
            "upstream_faults", "Answers of upstreams that were refused, by what was wrong", "upstream", "fault"
        )
        self._fills = counter("fills", "Downloads of blobs that have ended, by how", "upstream", "result")
        self._fill_seconds = histogram("fill_seconds", "How long a committed fill took", _FILL_SECONDS, "upstream")
        self._fill_rate = histogram("fill_bytes_per_second", "How fast a committed fill was", _RATES, "upstream")
        self._gauges = {
            "flights": level("flights", "Downloads that run"),
            "followers": level("followers", "Clients that read what is still arriving"),
            "requests_in_progress": level("requests_in_progress", "Requests whose answers have not ended"),
            "connections": level("connections", "Open connections of clients"),
        }
        self._limit = self._upstream_gauge("quota_limit", "Pulls that an upstream gives in a window", "mostrecent")
        self._remaining = self._upstream_gauge("quota_remaining", "Pulls that are left of it", "mostrecent")
        self._pause = self._upstream_gauge("backoff_seconds", "How long nothing that counts is asked", "max")
        self._circuit = self._upstream_gauge("circuit_open", "1 while an upstream that fails is left alone", "max")
        self._queue = Gauge(
            "gateway_miss_queue",
            "Misses that wait until an upstream may be asked",
            ["upstream"],
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._workers = level("workers", "Processes that serve")
        self._restarts = counter("worker_restarts", "Workers that took the place of a dead one")
        for origin in ("cache", "upstream"):  # what is nought is shown as nought
            self._sent.labels(origin)
        for kind in ("manifest", "blob"):
            for outcome in Outcome:
                self._pulls.labels(kind, outcome.value)
        # Of one host: whichever of its processes looks at the disk speaks for all.
        self._bytes, self._blobs, self._free = (
            Gauge(f"gateway_{name}", text, registry=self._registry, multiprocess_mode="mostrecent")
            for name, text in (
                ("cache_bytes", "Bytes of what was pulled through and is kept"),
                ("cache_blobs", "Blobs that were pulled through and are kept"),
                ("disk_free_bytes", "Bytes that are free on the file system of the cache"),
            )
        )
        self._evictions = Counter("gateway_evictions", "Blobs and manifests that made room", registry=self._registry)
        self._evicted = Counter("gateway_evicted_bytes", "Bytes that made room", registry=self._registry)
        self._damaged = Counter(
            "gateway_cache_damaged",
            "Cached files that were not as they were written",
            ["damage"],
            registry=self._registry,
        )

    def note_response(self, line: AccessLine) -> None:
        """Of every request; costs a tenth of a microsecond."""
        self._noted.append(line)
        if len(self._noted) >= NOTED:
            self.fold()

    def count_worker(self) -> None:
        """This process is a worker."""
        self._workers.set(1)

    def count_restart(self) -> None:
        """Another worker takes the place of a dead one."""
        self._restarts.inc()

    def count_fault(self, upstream: str, fault: Fault) -> None:
        self._faults.labels(upstream, fault.value).inc()

    def count_asked(self, upstream: str, method: str, status: int | None) -> None:
        """One request and its answer; a `status` of None where none came. From any thread."""
        known = method if method in _METHODS else "other"
        self._asked.labels(upstream, known, "none" if status is None else _class_of(status)).inc()

    def count_received(self, upstream: str, size: int) -> None:
        """From any thread."""
        self._received.labels(upstream).inc(size)

    def count_fill(self, upstream: str, landing: Landing, size: int, seconds: float) -> None:
        self._fills.labels(upstream, landing.value).inc()
        if landing is Landing.COMMITTED:
            self._fill_seconds.labels(upstream).observe(seconds)
            self._fill_rate.labels(upstream).observe(size / max(seconds, 1e-6))

    def show(self, name: str, level: Callable[[], float]) -> None:
        """One more part of what a gauge, by its name without `gateway_`, shows; asked in the event loop."""
        self._levels.setdefault(name, []).append(level)

    def fold(self) -> None:
        """Counts what was noted, and reads the levels. Called now and then, and before anybody is told."""
        noted, self._noted = self._noted, []
        for name, levels in self._levels.items():
            self._gauges[name].set(sum(level() for level in levels))
        pulls: dict[Pulled, Totals] = {}
        for (head, method, status, *pulled), total in _totals(noted).items():
            self._responses.labels(_surface_of(head), _class_of(status)).inc(total.answers)
            upstream, kind, outcome = pulled
            if method == "GET" and outcome:
                pulls.setdefault(Pulled(upstream or "", kind or "", outcome), Totals()).add(total)
        for key, total in pulls.items():
            self._count_pulls(key, total)
        if pulls:
            self.pulls_counted(pulls)

    def set_level(self, size: int, blobs: int, disk_free: int) -> None:
        self._bytes.set(size)
        self._blobs.set(blobs)
        self._free.set(disk_free)

    def count_evicted(self, count: int, size: int) -> None:
        self._evictions.inc(count)
        self._evicted.inc(size)

    def count_damage(self, damage: Damage) -> None:
        self._damaged.labels(damage.value).inc()

    def show_upstreams(self, states: Iterable[UpstreamState]) -> None:
        for state in states:
            upstream = state.name
            if state.limit is not None:
                self._limit.labels(upstream).set(state.limit)
            if state.remaining is not None:
                self._remaining.labels(upstream).set(state.remaining)
            self._pause.labels(upstream).set(round(state.pause, 1))
            self._queue.labels(upstream).set(state.waiting)
            self._circuit.labels(upstream).set(state.circuit_open)

    def _upstream_gauge(self, name: str, text: str, mode: Literal["max", "mostrecent"]) -> Gauge:
        return Gauge(f"gateway_upstream_{name}", text, ["upstream"], registry=self._registry, multiprocess_mode=mode)

    def exposition(self) -> bytes:
        self.fold()
        folder = os.environ.get(_FOLDER)
        if not folder:
            return generate_latest(self._registry)
        for attempt in range(_ATTEMPTS):
            everybody = CollectorRegistry()
            MultiProcessCollector(everybody, folder)  # type: ignore[no-untyped-call]
            try:
                return generate_latest(everybody)
            except (struct.error, RuntimeError, OSError):  # a file that another process is just making or taking away
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise RuntimeError("not reached")

    def names(self) -> list[str]:
        """Of every metric, as they appear in the exposition."""
        return sorted(
            f"{family.name}_total" if family.type == "counter" else family.name for family in self._registry.collect()
        )

    def _count_pulls(self, pulled: Pulled, total: Totals) -> None:
        self._pulls.labels(pulled.kind, pulled.outcome).inc(total.answers)
        self._sent.labels("upstream" if pulled.outcome == Outcome.MISS.value else "cache").inc(total.bytes)
        self._first_byte.labels(pulled.kind, pulled.outcome).add(total)
        if pulled.kind == "manifest" and pulled.outcome in FREE:
            self._saved.labels(pulled.upstream).inc(total.answers)


_Alike = tuple[str, str, int, str | None, str | None, str | None]
"""The beginning of the path, method, status, upstream, kind, outcome."""


def _totals(lines: list[AccessLine]) -> dict[_Alike, Totals]:
    totals: dict[_Alike, Totals] = {}
    for method, path, status, outcome, kind, _, upstream, size, _, wait, *_ in lines:
        alike = (path[:3], method, status, upstream, kind, outcome)
        total = totals.get(alike)
        if total is None:
            total = totals[alike] = Totals()
        seconds = (wait or 0.0) / 1000
        total.answers += 1
        total.bytes += size
        total.seconds += seconds
        total.waits[bisect_left(_SECONDS, seconds)] += 1
    return totals


def _class_of(status: int) -> str:
    """`2xx`; `none` for a request that ended without an answer."""
    return f"{status // 100}xx" if status else "none"


def _surface_of(head: str) -> str:
    return {"/v2": "registry", "/-/": "operations"}.get(head, "other")
