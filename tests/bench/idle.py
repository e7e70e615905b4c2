"""Cost of a server that nobody uses: the share of a core that all of its processes take."""

import time
from pathlib import Path

from tests.bench.measure import cpu_seconds, spread
from tests.bench.peers import RegistryGateway
from tests.parts.ports import free_port

QUIET_SECONDS, SECONDS = 10.0, 60.0
WORKERS = 2


def idle(folder: Path, rounds: int, quick: bool) -> dict[str, list[float]]:
    """Measures two workers over a minute, after a quiet moment; a quick run over a third of that."""
    print("\nidle, two workers")
    shares = [_share(folder / f"idle-{number}", SECONDS / 3 if quick else SECONDS) for number in range(rounds)]
    print(f"  percent of a core {spread(shares)}")
    return {"percent": shares}


def _share(place: Path, seconds: float) -> float:
    ours = RegistryGateway(workers=WORKERS)
    ours.start(place, f"http://127.0.0.1:{free_port()}")
    try:
        time.sleep(QUIET_SECONDS)
        began, before = time.monotonic(), cpu_seconds(ours.pids)
        time.sleep(seconds)
        return (cpu_seconds(ours.pids) - before) / (time.monotonic() - began) * 100
    finally:
        ours.stop()
