"""Metrics: counts for Prometheus. Labels are enums and configured upstreams, never names of images or digests.

Responses are only recorded while they are sent, and counted many at a time: to count each took several times as long.

Several processes count side by side, and any of them exposes the sum. A gauge must say how the values of processes are
combined: `multiprocess_mode="livesum"` adds those of live processes; modes without `live` include dead ones.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values

from cache.oci.errors import RefusalReason
from cache.values import FREE_OUTCOMES, Damage, Fault, Outcome
from gateway.observability.access_line import AccessLine
from gateway.observability.shared_counts import CountPlace, SharedCollector
from gateway.release import installed_version

METRICS_TYPE = CONTENT_TYPE_LATEST
BATCH = 500
"""Maximum number of recorded responses that are not yet counted."""

_METHODS = ("GET", "HEAD")
_WAIT_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 30)

# Every metric, by its name without `gateway_`.

_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pulls": ("Manifests and blobs served, by outcome", ("kind", "outcome")),
    "saved_pulls": ("Manifests served at no cost to the upstream", ("upstream",)),
    "native_pulls": ("Manifests and blobs of projects served", ("kind",)),
    "pushes": ("Manifests and blobs that projects took, mounted ones too", ("kind",)),
    "pushed_bytes": ("Bytes of bodies that came from clients that push", ()),
    "sent_bytes": ("Bytes of manifests and blobs sent, by where they came from", ("origin",)),
    "responses": ("Responses, by surface and class of status", ("surface", "status")),
    "refusals": ("Requests that were refused, by the rule or the fault that refused them", ("reason",)),
    "upstream_requests": ("Requests to upstreams", ("upstream", "method", "status")),
    "received_bytes": ("Bytes of bodies that came from upstreams", ("upstream",)),
    "upstream_faults": ("Responses of upstreams that were refused, by fault", ("upstream", "fault")),
    "upstream_credential_refusals": ("Requests for which an upstream refused our credential", ("upstream",)),
    "fills": ("Downloads of blobs that have ended, by result", ("upstream", "result")),
    "worker_restarts": ("Workers that took the place of a dead one", ()),
    "evictions": ("Blobs and manifests evicted", ()),
    "evicted_bytes": ("Bytes evicted", ()),
    "cache_damaged": ("Cached files that were not as they were written", ("damage",)),
    "gc_reviews": ("Reviews of manifests and blobs of projects that have ended", ()),
    "gc_deleted": ("Repositories, manifests and blobs that were deleted because nothing needed them", ("kind",)),
    "gc_freed_bytes": ("Bytes of the files of deleted blobs", ()),
    "audit_events": ("Events of the audit log, by result", ("result",)),
    "native_damaged": ("Native blobs that were not as they were pushed", ("damage",)),
}

_GAUGES: dict[str, tuple[str, tuple[str, ...], Literal["livesum", "max", "mostrecent"]]] = {
    "flights": ("Downloads that hold a connection", (), "livesum"),
    "followers": ("Clients that read a running download", (), "livesum"),
    "requests_in_progress": ("Requests whose responses have not ended", (), "livesum"),
    "connections": ("Open connections of clients", (), "livesum"),
    "workers": ("Processes that serve", (), "livesum"),
    "gc_stopped": ("1 while garbage collection waits for somebody, or for the clock", (), "livesum"),
    "build_info": ("1, for the version of this program and of Python", ("version", "python"), "max"),
    "miss_queue": ("Misses that wait for their upstream", ("upstream",), "livesum"),
    "upstream_quota_limit": ("Pulls that an upstream allows in a window", ("upstream",), "mostrecent"),
    "upstream_quota_remaining": ("Pulls left in the window", ("upstream",), "mostrecent"),
    "upstream_backoff_seconds": ("Seconds until requests that count are sent again", ("upstream",), "max"),
    "upstream_circuit_open": ("1 while the circuit breaker of an upstream is open", ("upstream",), "max"),
    # These are of one host: whichever of its processes reads the disk sets them for all.
    "cache_bytes": ("Bytes in the cache", (), "mostrecent"),
    "cache_blobs": ("Blobs in the cache", (), "mostrecent"),
    "cache_other_bytes": ("Bytes of quarantine and databases that count for the cache", (), "mostrecent"),
    "disk_free_bytes": ("Free bytes on the file system of the cache", (), "mostrecent"),
}

_HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "first_byte_seconds": ("From a pull to its first byte", ("kind", "outcome"), _WAIT_SECONDS),
    "fill_seconds": ("How long a committed fill took", ("upstream",), (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)),
    "fill_bytes_per_second": (
        "How fast a committed fill was",
        ("upstream",),
        (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9),
    ),
}


class FillResult(Enum):
    """The result of a download, as a label value."""

    COMMITTED = "committed"
    FAILED = "failed"


class PullLabels(NamedTuple):
    """Labels that pulls are counted by; `upstream` is a configured name."""

    upstream: str
    kind: str
    outcome: str


class ResponseTotals:
    """Sums over responses that are counted together; `waits`: how many first bytes fall into each bucket."""

    __slots__ = ("bytes", "received", "responses", "seconds", "waits")

    def __init__(self) -> None:
        self.responses = 0
        self.bytes = 0
        self.received = 0
        self.seconds = 0.0
        self.waits = [0] * (len(_WAIT_SECONDS) + 1)

    def add(self, other: "ResponseTotals") -> None:
        self.responses += other.responses
        self.bytes += other.bytes
        self.received += other.received
        self.seconds += other.seconds
        self.waits = [mine + more for mine, more in zip(self.waits, other.waits, strict=True)]


PullsCounted = Callable[[Mapping[PullLabels, ResponseTotals]], None]


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once: one by one they would cost more than all other work."""

    def add(self, totals: ResponseTotals) -> None:
        self._sum.inc(totals.seconds)
        for bucket, count in zip(self._buckets, totals.waits, strict=True):
            if count:
                bucket.inc(count)


class UpstreamFigures(Protocol):
    """Figures of one upstream for its gauges; a gauge whose figure is None is not exposed."""

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
    """The counts of this process, and, if it shares memory, those of all processes that do."""

    def __init__(self, place: CountPlace | None = None) -> None:
        """`place`: where this process counts among others. `pulls_counted` is called with what was counted since its
        last call."""
        self.pulls_counted: PullsCounted = lambda totals: None
        # The library keeps the choice in a global, and makes values for new labels at any time.
        values.ValueClass = values.MutexValue if place is None else place.value_class()
        self._registry = registry = CollectorRegistry()
        self._exposed = registry
        if place is not None:
            self._exposed = CollectorRegistry()
            self._exposed.register(SharedCollector(place.memory))
        self._batch: list[AccessLine] = []
        self._levels: dict[str, list[Callable[[], float]]] = {}
        self._shown: dict[str, float] = {}
        self._counters = {
            name: Counter(f"gateway_{name}", text, labels, registry=registry)
            for name, (text, labels) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(f"gateway_{name}", text, labels, registry=registry, multiprocess_mode=mode)
            for name, (text, labels, mode) in _GAUGES.items()
        }
        self._histograms = {
            name: BulkHistogram(f"gateway_{name}", text, labels, registry=registry, buckets=buckets)
            for name, (text, labels, buckets) in _HISTOGRAMS.items()
        }
        for origin in ("cache", "native", "upstream"):  # zero is shown as zero
            self._counters["sent_bytes"].labels(origin)
        self.count_audited(0, 0)
        for reason in RefusalReason:
            self._counters["refusals"].labels(reason.value)
        for kind in _PULLED:
            self._counters["native_pulls"].labels(kind)
            self._counters["pushes"].labels(kind)
        for kind in _PULLED:
            for outcome in Outcome:
                self._counters["pulls"].labels(kind, outcome.value)

    def note_response(self, line: AccessLine) -> None:
        """Record a response, to be counted later; takes a tenth of a microsecond."""
        self._batch.append(line)
        if len(self._batch) >= BATCH:
            self.fold()

    def count_worker(self) -> None:
        """Count this process as a worker, and show what runs in it."""
        self._gauges["workers"].set(1)
        self._gauges["build_info"].labels(installed_version() or "unknown", platform.python_version()).set(1)

    def count_restart(self) -> None:
        """Count a worker that replaces a dead one."""
        self._counters["worker_restarts"].inc()

    def count_fault(self, upstream: str, fault: Fault) -> None:
        self._counters["upstream_faults"].labels(upstream, fault.value).inc()

    def count_request(self, upstream: str, method: str, status: int | None) -> None:
        """Count a request to an upstream; a `status` of None if no response came. From any thread."""
        known = method if method in _METHODS else "other"
        result = "none" if status is None else _class_of(status)
        self._counters["upstream_requests"].labels(upstream, known, result).inc()

    def count_received(self, upstream: str, size: int) -> None:
        """Count bytes of an upstream's body. From any thread."""
        self._counters["received_bytes"].labels(upstream).inc(size)

    def count_credential_refusal(self, upstream: str) -> None:
        """Count a request for which an upstream, or its token service, refused our credential. From any thread."""
        self._counters["upstream_credential_refusals"].labels(upstream).inc()

    def count_fill(self, upstream: str, result: FillResult, size: int, seconds: float) -> None:
        self._counters["fills"].labels(upstream, result.value).inc()
        if result is FillResult.COMMITTED:
            self._histograms["fill_seconds"].labels(upstream).observe(seconds)
            self._histograms["fill_bytes_per_second"].labels(upstream).observe(size / max(seconds, 1e-6))

    def show(self, name: str, level: Callable[[], float]) -> None:
        """Add a level to those whose sum a gauge shows, by its name without `gateway_`; read in the event loop."""
        self._levels.setdefault(name, []).append(level)

    def fold(self) -> None:
        """Count the recorded responses, and read the levels. Called at intervals, and before every exposition."""
        batch, self._batch = self._batch, []
        for name, levels in self._levels.items():
            shown = sum(level() for level in levels)
            if self._shown.get(name) != shown:  # an idle process would do little else
                self._gauges[name].set(shown)
                self._shown[name] = shown
        if not batch:
            return
        pulls: dict[PullLabels, ResponseTotals] = {}
        for (head, method, status, native, refusal, *labels), total in _totals(batch).items():
            self._counters["responses"].labels(_surface_of(head), _class_of(status)).inc(total.responses)
            if refusal:
                self._counters["refusals"].labels(refusal).inc(total.responses)
            if native:
                if head == _REGISTRY:  # what the REST API is sent is no content
                    self._count_native(method, status, labels[1], total)
                continue
            upstream, kind, outcome = labels
            if method == "GET" and outcome and kind in _PULLED:
                pulls.setdefault(PullLabels(upstream or "", kind or "", outcome), ResponseTotals()).add(total)
        for key, total in pulls.items():
            self._count_pulls(key, total)
        if pulls:
            self.pulls_counted(pulls)

    def set_level(self, size: int, blobs: int, disk_free: int, other: int) -> None:
        level = {"cache_bytes": size, "cache_blobs": blobs, "disk_free_bytes": disk_free, "cache_other_bytes": other}
        for name, value in level.items():
            self._gauges[name].set(value)

    def count_evicted(self, count: int, size: int) -> None:
        self._counters["evictions"].inc(count)
        self._counters["evicted_bytes"].inc(size)

    def count_damage(self, damage: Damage) -> None:
        self._counters["cache_damaged"].labels(damage.value).inc()

    def count_native_damage(self, damage: Damage) -> None:
        self._counters["native_damaged"].labels(damage.value).inc()

    def count_collected(self, reviewed: int, repositories: int, manifests: int, blobs: int, freed_bytes: int) -> None:
        self._counters["gc_reviews"].inc(reviewed)
        self._counters["gc_deleted"].labels("repository").inc(repositories)
        self._counters["gc_deleted"].labels("manifest").inc(manifests)
        self._counters["gc_deleted"].labels("blob").inc(blobs)
        self._counters["gc_freed_bytes"].inc(freed_bytes)

    def count_audited(self, written: int, dropped: int) -> None:
        """Count events of the audit log. From any thread."""
        self._counters["audit_events"].labels("written").inc(written)
        self._counters["audit_events"].labels("dropped").inc(dropped)

    def show_collection_stopped(self, is_stopped: bool) -> None:
        self._gauges["gc_stopped"].set(is_stopped)

    def show_upstreams(self, upstreams: Iterable[UpstreamFigures]) -> None:
        for each in upstreams:
            figures: dict[str, float | None] = {
                "upstream_quota_limit": each.limit,
                "upstream_quota_remaining": each.remaining,
                "upstream_backoff_seconds": round(each.pause, 1),
                "miss_queue": each.waiting,
                "upstream_circuit_open": each.circuit_open,
            }
            for name, value in figures.items():
                if value is not None:
                    self._gauges[name].labels(each.name).set(value)

    def exposition(self) -> bytes:
        """Render all metrics, of all processes that share memory, as Prometheus reads them."""
        self.fold()
        return generate_latest(self._exposed)

    def names(self) -> list[str]:
        """List the name of every metric, as in the exposition."""
        return sorted(
            f"{family.name}_total" if family.type == "counter" else family.name for family in self._registry.collect()
        )

    def _count_native(self, method: str, status: int, kind: str | None, total: ResponseTotals) -> None:
        """Count pulls from projects and pushes to them."""
        self._counters["pushed_bytes"].inc(total.received)
        if method == "GET" and kind in _PULLED and status in (200, 206, 304):
            self._counters["native_pulls"].labels(kind).inc(total.responses)
            self._counters["sent_bytes"].labels("native").inc(total.bytes)
        elif status == 201:
            pushed = "manifest" if kind == "manifest" else "blob"
            self._counters["pushes"].labels(pushed).inc(total.responses)

    def _count_pulls(self, labels: PullLabels, total: ResponseTotals) -> None:
        self._counters["pulls"].labels(labels.kind, labels.outcome).inc(total.responses)
        origin = "upstream" if labels.outcome == Outcome.MISS.value else "cache"
        self._counters["sent_bytes"].labels(origin).inc(total.bytes)
        self._histograms["first_byte_seconds"].labels(labels.kind, labels.outcome).add(total)
        if labels.kind == "manifest" and labels.outcome in FREE_OUTCOMES:
            self._counters["saved_pulls"].labels(labels.upstream).inc(total.responses)


_PULLED = ("manifest", "blob")
"""Kinds of endpoints whose responses are pulls; a list that is served stale is none."""

_BatchKey = tuple[str, str, int, bool, str | None, str | None, str | None, str | None]
"""The beginning of the path, method, status, whether a project was meant, why refused, upstream, kind, outcome."""


def _totals(lines: list[AccessLine]) -> dict[_BatchKey, ResponseTotals]:
    totals: dict[_BatchKey, ResponseTotals] = {}
    for line in lines:
        status, outcome, method, path, refusal, _, _, upstream, project, kind, size, _, received, wait, *_ = line
        key = (path[:3], method, status, project is not None, refusal, upstream, kind, outcome)
        total = totals.get(key)
        if total is None:
            total = totals[key] = ResponseTotals()
        seconds = (wait or 0.0) / 1000
        total.responses += 1
        total.bytes += size
        total.received += received
        total.seconds += seconds
        total.waits[bisect_left(_WAIT_SECONDS, seconds)] += 1
    return totals


def _class_of(status: int) -> str:
    """Name the class of a status, `2xx`; `none` for a request that ended without a response."""
    return f"{status // 100}xx" if status else "none"


_REGISTRY = "/v2"
"""The beginning of the paths of the registry."""


def _surface_of(head: str) -> str:
    return {_REGISTRY: "registry", "/ap": "rest", "/-/": "operations"}.get(head, "other")
