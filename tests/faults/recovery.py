"""Recovery time of a fill when its worker is killed: measured from the kill until the content grows again."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.parts.gateway import Gateway
from tests.parts.images import MB, seeded
from tests.parts.lies import trickled
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .clients import send_request
from .ledger import Kind, share
from .library import Image, make, publish
from .mischief import went_on
from .proxy import FaultProxy
from .workers import end, fillers

FOLLOWERS = 6
STEP = 1_000_000
LONGEST = 30.0
EVICTIONS = 10
PACE = (150_000, 0.01)


def measure(gateway: Gateway, image: Image, kills: int) -> list[float]:
    """Measures the seconds of each recovery. The image is evicted whenever it is committed, so that there is always a
    fill to kill."""
    recoveries: list[float] = []
    with followers(gateway, image):
        while len(recoveries) < kills:
            await_fill(gateway, image)
            filler = fillers(gateway)[:1]
            grown = [found.size for found in filler]
            wait_until(lambda grown=grown: grew(gateway, grown), within=LONGEST, what="the fill does not grow")
            for victim in fillers(gateway)[:1]:
                begun = time.monotonic()
                end(victim.pid)
                wait_until(lambda victim=victim: went_on(gateway, victim), within=LONGEST, what="no worker continued")
                recoveries.append(time.monotonic() - begun)
    return recoveries


def await_fill(gateway: Gateway, image: Image) -> None:
    """Waits until a worker fills. Content that is committed during the eviction stays, and is evicted again."""
    for _ in range(EVICTIONS):
        if fillers(gateway):
            return
        gateway.cli("cache", "evict", image.name)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: bool(fillers(gateway)), within=3)
    raise TimeoutError("no worker fills")


def recovery_line(directory: Path, registry: Registry, workers: int, kills: int) -> str:
    """Runs the measurement alone; returns a sentence with the result."""
    image = make("faults/recovered", seeded("faults recovered", 150 * MB))
    publish(image, registry)
    with FaultProxy(urlsplit(registry.url).port or 0) as proxy:
        proxy.behave(image.layer.digest, trickled(*PACE))
        gateway = Gateway(directory, {"upstreams": {"docker.io": proxy.settings()}}, arguments=[f"--workers={workers}"])
        gateway.start()
        try:
            taken = measure(gateway, image, kills)
        finally:
            gateway.kill()
    p50, p99 = share(taken, 50), share(taken, 99)
    return f"{workers} workers, {kills} kills: bytes flow again after p50 {p50:.2f} s, p99 {p99:.2f} s"


def grew(gateway: Gateway, sizes: list[int]) -> bool:
    """Whether a fill has grown noticeably, or is over."""
    now = fillers(gateway)
    return not now or not sizes or now[0].size >= sizes[0] + STEP


@contextlib.contextmanager
def followers(gateway: Gateway, image: Image) -> Iterator[None]:
    """Runs clients that pull the layer all the time, however each try ends."""
    ending = threading.Event()
    url = gateway.proxied_url(f"{image.name}/blobs/{image.layer.digest}")

    def pull() -> None:
        while not ending.is_set():
            if not send_request(Kind.BLOB, url, image.name, image.layer).served:
                ending.wait(0.1)

    threads = [threading.Thread(target=pull, daemon=True) for _ in range(FOLLOWERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(120)
