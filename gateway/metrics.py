"""What is counted, and how Prometheus reads it. Labels are enums and configured upstreams, never names or digests.

Several processes count side by side and any of them answers for all: counters and histograms are added up. A gauge must
say how it is put together: `multiprocess_mode="livesum"` adds up those of the processes that live, `livemax` takes the
largest; modes without `live` go on showing what a dead one said, and a gauge that is set by a function has no mode.
"""

import os
import struct
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from cache.values import Fault, Outcome, Source

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


class Metrics:
    """What this process counts, and, where it shares, what all of them have counted."""

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
        self.flights = self._gauge("gateway_flights", "Running downloads from upstreams")
        self._workers = self._gauge("gateway_workers", "Processes that serve")
        self._restarts = Counter(
            "gateway_worker_restarts", "Workers that took the place of a dead one", registry=self._registry
        )

        self._pull = {
            (kind, outcome): self._pulls.labels(kind, outcome.value)
            for kind in ("manifest", "blob")
            for outcome in Outcome
        }

    def count_worker(self) -> None:
        """This process is a worker."""
        self._workers.set(1)

    def count_restart(self) -> None:
        """Another worker takes the place of a dead one."""
        self._restarts.inc()

    def count_pull(self, kind: str, outcome: Outcome) -> None:
        """`kind`: manifest or blob."""
        self._pull[kind, outcome].inc()

    def count_fault(self, source: Source, fault: Fault) -> None:
        self._faults.labels(str(source.origin), fault.value).inc()

    def exposition(self) -> bytes:
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

    def _gauge(self, name: str, help_text: str) -> Gauge:
        """One that adds up over living processes."""
        return Gauge(name, help_text, registry=self._registry, multiprocess_mode="livesum")
