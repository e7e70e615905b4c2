"""What is counted, and how Prometheus reads it. Labels are enums and configured upstreams, never names or digests."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

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

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def names(self) -> list[str]:
        """Of every metric, as they appear in the exposition."""
        return sorted(
            f"{family.name}_total" if family.type == "counter" else family.name for family in self._registry.collect()
        )
