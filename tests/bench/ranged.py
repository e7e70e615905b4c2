"""Cold blob from an upstream that gives 10 MB/s to each connection and supports ranges."""

from pathlib import Path

from tests.bench.clients import get
from tests.bench.measure import spread
from tests.bench.peers import IMAGE, RegistryGateway
from tests.bench.upstream import publish
from tests.parts.hub import Hub
from tests.parts.images import seeded
from tests.parts.registry import Registry

MB = 1024 * 1024
RATE = 10 * MB


def ranged(folder: Path, rounds: int, quick: bool) -> dict[str, list[float]]:
    """Seconds of a download from the upstream over one connection, and through the gateway; prints their ratio."""
    print("\nranged fill, 10 MB/s a connection")
    size = (64 if quick else 256) * MB
    registry = Registry(folder / "ranged")
    registry.start()
    hub = Hub(registry.url, registry.folder)
    hub.start()
    found: dict[str, list[float]] = {"one_connection": [], "ours": []}
    try:
        for number in range(rounds):
            hub.cdn.rate = None
            digest = registry.put_blob(IMAGE, seeded(f"ranged-{number}", size))
            publish(registry, f"v{number}", digest, size, registry.put_blob(IMAGE, b"{}"))
            hub.cdn.rate = RATE
            found["one_connection"].append(size / RATE)
            ours = RegistryGateway(upstreams={"docker.io": hub.settings()})
            ours.start(folder / f"ranged-{number}", hub.url)
            got = get(f"{ours.base}/blobs/{digest}", keep_body=True)
            ours.stop()
            if (got.status, got.size) != (200, size):
                raise RuntimeError(f"{got.status}, {got.size} bytes: {got.body[:300]!r}")
            found["ours"].append(got.seconds)
    finally:
        hub.stop()
        registry.stop()
    times = [one / mine for one, mine in zip(found["one_connection"], found["ours"], strict=True)]
    print(f"  {spread(times)} times as fast, wanted >= 3")
    return found
