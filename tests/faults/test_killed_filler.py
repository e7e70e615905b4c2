"""Tests that kill the filling worker repeatedly while many clients pull: other clients are not affected, and nothing is
left over."""

import threading

from tests.conftest import GatewayFactory
from tests.parts.gateway import Gateway
from tests.parts.lies import trickled
from tests.parts.processes import wait_until

from .conftest import LARGE_SEED
from .crowd import pull_at_once
from .library import Image
from .proxy import FaultProxy
from .recovery import PACE as RECOVERY_PACE
from .recovery import measure
from .remains import leftovers, rest_of, unrest
from .workers import end_with_clients, fillers

CLIENTS = 50
WORKERS = 4
KILLED_EVERY = 2.0
MOST_KILLS = 12
"""Limit above the number of kills on an idle machine; on a busy one the last bytes arrive without a kill."""

PACE = (1_000_000, 0.01)
PROMISED_RECOVERY = 5.0


class Killer:
    """Kills the filling worker every two seconds. `victims`: the ports of the clients that it cut off."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.kills = 0
        self.victims: set[int] = set()

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while self.kills < MOST_KILLS and not self._ending.wait(KILLED_EVERY):
            filling = fillers(self._gateway)
            if filling:
                self.victims |= end_with_clients(filling[0].pid, self._gateway.port)
                self.kills += 1


def test_fifty_clients_over_four_workers_outlive_the_killed_fillers(
    gateway: GatewayFactory, proxy: FaultProxy, large: Image
) -> None:
    proxy.behave(large.layer.digest, trickled(*PACE))
    server = gateway({"upstreams": {"docker.io": proxy.settings()}}, arguments=[f"--workers={WORKERS}"])
    base = rest_of(server)
    url = server.proxied_url(f"{large.name}/blobs/{large.layer.digest}")

    with Killer(server) as killer:
        pulled = pull_at_once(url, LARGE_SEED, large.layer.size, CLIENTS)
    every = [seen for tries in pulled for seen in tries]
    print(f"{killer.kills} kills, {len(killer.victims)} clients cut off, {len(every) - CLIENTS} tries more")
    assert killer.kills > 0
    assert all(seen.right for seen in every)
    assert all(tries[-1].served for tries in pulled)
    assert all(sum(seen.received for seen in tries) == large.layer.size for tries in pulled)
    assert [seen for seen in every if not seen.served and seen.port not in killer.victims] == []
    assert proxy.gets()[large.layer.digest] <= 1 + killer.kills
    wait_until(lambda: unrest(server, base) == [], within=30, what="the server does not come to rest")
    assert server.stop() == 0
    assert leftovers(server) == []


def test_bytes_flow_again_soon_after_the_filler_was_killed(
    gateway: GatewayFactory, proxy: FaultProxy, large: Image
) -> None:
    proxy.behave(large.layer.digest, trickled(*RECOVERY_PACE))
    server = gateway({"upstreams": {"docker.io": proxy.settings()}}, arguments=["--workers=2"])
    recoveries = measure(server, large, kills=6)
    print(f"recovery after kill -9 of the filler: {', '.join(f'{seconds:.2f}' for seconds in recoveries)} s")
    assert len(recoveries) == 6
    assert max(recoveries) <= PROMISED_RECOVERY
