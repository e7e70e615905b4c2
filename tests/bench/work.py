"""Pieces of work that are measured; each returns one round's figures of one peer."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench.clients import at_once, get, pull
from tests.bench.measure import cpu_seconds, memory_bytes
from tests.bench.peers import Peer
from tests.bench.upstream import Upstream
from tests.parts.processes import binary

Figures = dict[str, float]
MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Round:
    """One peer that was started afresh on an empty cache, in front of an upstream."""

    peer: Peer
    upstream: Upstream
    seconds: float


def warm(one: Round, clients: int = 8) -> Figures:
    """Eight concurrent pulls of cached content, with a small request every 10 ms at the same time."""
    digest = one.upstream.layers["large"]
    pull(one.peer.base, digest, "large")
    time.sleep(0.5)
    waits: list[float] = []
    done = threading.Event()

    def small() -> None:
        while not done.wait(0.01):
            waits.append(get(f"{one.peer.base}/manifests/large", keep_body=True).seconds)

    beside = threading.Thread(target=small)
    before = cpu_seconds(one.peer.pids)
    beside.start()
    results, wall = at_once(clients, lambda: pull(one.peer.base, digest, "large"))
    cpu = cpu_seconds(one.peer.pids) - before
    done.set()
    beside.join()
    moved = sum(result.size for result in results)
    return {"wall": wall, "cpu_per_gb": cpu / (moved / 1e9), "small_p99": percentile(waits, 0.99)}


def cold_one(one: Round) -> Figures:
    result = pull(one.peer.base, one.upstream.layers["large"], "large")
    return {"wall": result.seconds, "first_byte": result.first_byte}


def cold_many(one: Round, clients: int = 16) -> Figures:
    digest = one.upstream.layers["large"]
    one.upstream.forget_requests()
    results, wall = at_once(clients, lambda: pull(one.peer.base, digest, "large"))
    return {
        "wall": wall,
        "first_byte": max(result.first_byte for result in results),
        "upstream_gets": float(one.upstream.gets(digest)),
    }


def follow(one: Round, clients: int = 8) -> Figures:
    """Cost of following a blob that arrives: with two workers half of the clients follow another worker's file."""
    digest = one.upstream.layers["large"]
    before = cpu_seconds(one.peer.pids)
    results, _ = at_once(clients, lambda: pull(one.peer.base, digest, "large"))
    moved = sum(result.size for result in results)
    return {"cpu_per_gb": (cpu_seconds(one.peer.pids) - before) / (moved / 1e9)}


def beside_fills(one: Round) -> Figures:
    """Small requests every 10 ms while three large blobs arrive and the server does its background work."""
    layers = one.upstream.layers
    pull(one.peer.base, layers["large"], "large")
    waits: list[float] = []
    done = threading.Event()

    def small() -> None:
        while not done.wait(0.01):
            waits.append(get(f"{one.peer.base}/manifests/large", keep_body=True).seconds)

    beside = threading.Thread(target=small)
    beside.start()
    fills = iter([layers["large1"], layers["large16"], layers["small16"]])
    at_once(3, lambda: get(f"{one.peer.base}/blobs/{next(fills)}"))
    time.sleep(one.seconds)
    done.set()
    beside.join()
    return {"small_p99": percentile(waits, 0.99)}


def first_byte(one: Round) -> Figures:
    """Delay of the first byte over the upstream's own with as many clients: a small and a large blob, one client and
    sixteen."""
    figures: Figures = {}
    for size in ("small", "large"):
        for clients in (1, 16):
            digest = one.upstream.layers[f"{size}{clients}"]
            own, ours = (
                at_once(clients, lambda base=base, digest=digest: get(f"{base}/blobs/{digest}").first_byte)[0]  # type: ignore[misc]
                for base in (one.upstream.base, one.peer.base)
            )
            figures[f"{size}_{clients}"] = max(ours) - max(own)
    return figures


def cached_tag(one: Round, keep_alive: bool = True) -> Figures:
    get(f"{one.peer.base}/manifests/large", keep_body=True)
    return {"rps": requests_per_second(f"{one.peer.base}/manifests/large", one.seconds, keep_alive)}


def slow_readers(one: Round, clients: int = 300, rate: int = 10 * 1024) -> Figures:
    """A fast pull alone, and during pulls of clients that take 10 KiB/s each of the same blob."""
    digest = one.upstream.layers["large"]
    pull(one.peer.base, digest, "large")
    time.sleep(0.5)
    idle = memory_bytes(one.peer.pids)
    alone = _median([pull(one.peer.base, digest, "large").seconds for _ in range(9)])
    with _Crowd(f"{one.peer.base}/blobs/{digest}", clients, rate):
        beside = _median([pull(one.peer.base, digest, "large").seconds for _ in range(9)])
        grown = memory_bytes(one.peer.pids) - idle
    return {"grown_mb": grown / MB, "speed_kept": alone / beside}


def requests_per_second(url: str, seconds: float, keep_alive: bool, *header: str) -> float:
    """Requests per second, measured by wrk with one thread and 16 connections. Raises RuntimeError for a response that
    is no success."""
    lines = [line for line in ("" if keep_alive else "Connection: close", *header) if line]
    headers = [word for line in lines for word in ("-H", line)]
    command = [binary("wrk", "wrk"), "-t1", "-c16", f"-d{seconds:.0f}s", *headers, url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise RuntimeError(f"{url}: {output}")
    [line] = [line for line in output.splitlines() if line.startswith("Requests/sec:")]
    return float(line.split()[1])


class _Crowd:
    """Clients in one thread that read a blob slowly while the block runs."""

    def __init__(self, url: str, clients: int, rate: int) -> None:
        self._url, self._clients, self._rate = url, clients, rate
        self._stop = threading.Event()
        self._ready = threading.Barrier(2)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()
        self._ready.wait()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        parts = urlsplit(self._url)
        crowd = []
        for _ in range(self._clients):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            one.connect((parts.hostname, parts.port))
            one.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            crowd.append(one)
        time.sleep(1)
        self._ready.wait()
        while not self._stop.wait(1):
            for one in crowd:
                one.recv(self._rate)
        for one in crowd:
            one.close()


def percentile(values: list[float], share: float) -> float:
    """The value that a share of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


Work = Callable[[Round], Figures]
