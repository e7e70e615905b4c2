"""Shared counts: memory in which the processes of a server count side by side, so that each can expose the sum.

The memory belongs to no file. A mapping of a file ends the process by SIGBUS when it is written to while the file
system is full, and /dev/shm is small in a container and open to every user of a machine.

Each process writes its own region, and reads all. A region begins with the number of bytes in use. Entries follow: the
size of a key, the key as JSON, padding to eight bytes, a value, and the time at which it was set.
"""

import json
import mmap
import struct
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog
from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

log = structlog.get_logger()

REGION_BYTES = 4 * 1024 * 1024
"""Address space of each process, of which only what is written takes memory: some 15,000 values."""

_SIZE = struct.Struct("=q")
_ENTRY = struct.Struct("=dd")


class _Key(NamedTuple):
    """The identity of a value. `mode`: how the values of several processes are combined; empty if they are added."""

    type: str
    mode: str
    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str

    @classmethod
    def parse(cls, text: bytes) -> "_Key":
        kind, mode, metric, sample, labels, help_text = json.loads(text)
        return cls(kind, mode, metric, sample, tuple((name, value) for name, value in labels), help_text)


class CountMemory:
    """Regions for a number of processes; made by the process that forks them."""

    def __init__(self, places: int) -> None:
        size = places * REGION_BYTES
        self._memory = memoryview(mmap.mmap(-1, size))

    def region(self, place: int) -> "CountRegion":
        """The region of one process. The next process with this place continues its counts."""
        return CountRegion(self._memory[place * REGION_BYTES :][:REGION_BYTES])

    def regions(self) -> Iterator["CountRegion"]:
        for place in range(len(self._memory) // REGION_BYTES):
            yield self.region(place)


class CountRegion:
    """The values of one process. Only its owner adds and sets values, under a lock; any process may read them."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._places: dict[bytes, int] = {}

    def entries(self) -> Iterator[tuple[bytes, int]]:
        """List the keys with the offsets of their values."""
        at, end = _SIZE.size, _SIZE.unpack_from(self._memory)[0]
        while at < end:
            [size] = _SIZE.unpack_from(self._memory, at)
            key_at = at + _SIZE.size
            value_at = key_at + _padded(size)
            yield bytes(self._memory[key_at : key_at + size]), value_at
            at = value_at + _ENTRY.size

    def place(self, key: bytes) -> int | None:
        """Find the offset of a value, or add the value; None if the region is full."""
        if not self._places:
            self._places = dict(self.entries())
        if key not in self._places:
            used = max(_SIZE.size, _SIZE.unpack_from(self._memory)[0])
            entry = _SIZE.pack(len(key)) + key.ljust(_padded(len(key)), b" ") + _ENTRY.pack(0.0, 0.0)
            if used + len(entry) > len(self._memory):
                return None
            self._memory[used : used + len(entry)] = entry
            self._memory[: _SIZE.size] = _SIZE.pack(used + len(entry))  # last: readers find whole entries
            self._places[key] = used + len(entry) - _ENTRY.size
        return self._places[key]

    def get(self, place: int) -> tuple[float, float]:
        """The value at an offset, and the time at which it was set."""
        value, at = _ENTRY.unpack_from(self._memory, place)
        return value, at

    def set(self, place: int, value: float, at: float) -> None:
        # One assignment: struct.pack_into writes zeros first, which a reader might see.
        self._memory[place : place + _ENTRY.size] = _ENTRY.pack(value, at)

    def forget_levels(self) -> None:
        """Set to zero what only a live process has, after its process has died.

        A maximum too: where nobody takes the place of the process, nothing would ever lower it.
        """
        for text, place in self.entries():
            if _Key.parse(text).mode in ("livesum", "max"):
                self.set(place, 0.0, 0.0)


def _padded(size: int) -> int:
    return -(-size // 8) * 8


@dataclass(frozen=True, slots=True)
class CountPlace:
    """The place of one process in the memory of all."""

    memory: CountMemory
    number: int

    def value_class(self) -> type:
        """Make the class with which prometheus_client keeps the values of metrics that are made from now on."""
        region, lock = self.memory.region(self.number), threading.Lock()

        class SharedValue:
            """A value in the region of this process, or, if that is full, in no other process's sight."""

            def __init__(
                self,
                typ: str,
                metric_name: str,
                name: str,
                labelnames: Iterable[str],
                labelvalues: Iterable[str],
                help_text: str,
                multiprocess_mode: str = "",
                **_: Any,
            ) -> None:
                labels = sorted(zip(labelnames, labelvalues, strict=True))
                key = json.dumps(_Key(typ, multiprocess_mode, metric_name, name, tuple(labels), help_text))
                with lock:
                    self._place = region.place(key.encode())
                    self._value = 0.0 if self._place is None else region.get(self._place)[0]
                if self._place is None:
                    log.warning("count_not_shared", metric=name, reason="the memory for shared counts is full")

            def inc(self, amount: float) -> None:
                with lock:
                    self._write(self._value + amount)

            def set(self, value: float, timestamp: float | None = None) -> None:
                with lock:
                    self._write(value, timestamp or 0.0)

            def get(self) -> float:
                return self._value

            def set_exemplar(self, exemplar: object) -> None:
                """Exemplars are not kept."""

            def get_exemplar(self) -> None:
                return None

            def _write(self, value: float, at: float = 0.0) -> None:
                self._value = value
                if self._place is not None:
                    region.set(self._place, value, at)

        return SharedValue


class SharedCollector(Collector):
    """Collects the values of all processes, combined as their metrics demand."""

    def __init__(self, memory: CountMemory) -> None:
        self._memory = memory

    def collect(self) -> Iterator[Metric]:
        keys: dict[bytes, _Key] = {}
        combined: dict[bytes, tuple[float, float]] = {}
        for region in self._memory.regions():
            for text, place in region.entries():
                key = keys.get(text) or keys.setdefault(text, _Key.parse(text))
                found = region.get(place)
                combined[text] = _combined(key.mode, combined[text], found) if text in combined else found
        metrics: dict[str, Metric] = {}
        buckets: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = defaultdict(dict)
        for text, (value, at) in combined.items():
            key = keys[text]
            if key.mode == "mostrecent" and not at:
                continue  # no process has set it
            metric = metrics.setdefault(key.metric, Metric(key.metric, key.help, key.type))
            labels = dict(key.labels)
            if bound := labels.pop("le", None):
                buckets[key.metric, tuple(labels.items())][float(bound)] = value
            else:
                metric.samples.append(Sample(key.sample, labels, value))
        for (name, pairs), counts in buckets.items():
            metrics[name].samples += _histogram(name, dict(pairs), counts)
        yield from metrics.values()


def _combined(mode: str, one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Combine the values of two processes, each with its time."""
    if mode == "max":
        return max(one, other)
    if mode == "mostrecent":
        return max(one, other, key=lambda pair: pair[1])
    return one[0] + other[0], 0.0


def _histogram(name: str, labels: dict[str, str], counts: dict[float, float]) -> Iterator[Sample]:
    """Yield the samples of a histogram, each bucket with all that are below it: as Prometheus reads them."""
    total = 0.0
    for bound, count in sorted(counts.items()):
        total += count
        yield Sample(f"{name}_bucket", {**labels, "le": floatToGoString(bound)}, total)  # type: ignore[no-untyped-call]
    yield Sample(f"{name}_count", labels, total)
