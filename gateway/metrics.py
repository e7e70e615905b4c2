"""What is counted, and how Prometheus reads it. Labels are enums and configured upstreams, never names or digests."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from cache.holdings import Damage
from cache.values import Fault, Outcome, Source

METRICS_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._pulls = Counter(
            "gateway_pulls", "Manifests and blobs answered, by how", ["kind", "outcome"], registry=self._registry
        )
        self._faults = Counter(
            "gateway_upstream_faults",
            "Answers of upstreams that were refused, by what was wrong",
            ["upstream", "fault"],
            registry=self._registry,
        )
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

        self._pull = {
            (kind, outcome): self._pulls.labels(kind, outcome.value)
            for kind in ("manifest", "blob")
            for outcome in Outcome
        }

    def count_pull(self, kind: str, outcome: Outcome) -> None:
        """`kind`: manifest or blob."""
        self._pull[kind, outcome].inc()

    def count_fault(self, source: Source, fault: Fault) -> None:
        self._faults.labels(str(source.origin), fault.value).inc()

    def set_level(self, size: int, blobs: int, disk_free: int) -> None:
        self._bytes.set(size)
        self._blobs.set(blobs)
        self._free.set(disk_free)

    def count_evicted(self, count: int, size: int) -> None:
        self._evictions.inc(count)
        self._evicted.inc(size)

    def count_damage(self, damage: Damage) -> None:
        self._damaged.labels(damage.value).inc()

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def names(self) -> list[str]:
        """Of every metric, as they appear in the exposition."""
        return sorted(
            f"{family.name}_total" if family.type == "counter" else family.name for family in self._registry.collect()
        )
