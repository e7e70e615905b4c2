"""Tests of a client whose many downloads trickle: what they cost this server, and what is left for others."""

import os
from contextlib import ExitStack

from tests.conftest import GatewayFactory
from tests.faults.remains import metric, spools
from tests.parts import lies, raw
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.processes import wait_until

from .test_broken_upstreams import ask

CROWD = 150
MOST = 48
"""More downloads than one client gets at once, and fewer than the crowd requests."""


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_the_trickling_downloads_of_a_client_cost_others_neither_connections_nor_time(
    liar: Liar, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"prefetch": False}})
    created = server.cli("group", "create", "other", "--visibility", "public", "--anonymous-pull")
    assert created.returncode == 0, created.stderr
    held = server.proxied_url(f"any/image/blobs/{liar.offer_blob(seeded('held', 50_000))}")
    assert raw.get(held).status == 200
    wait_until(lambda: raw.get(held).headers["x-cache"] == "HIT")
    liar.behave("/slow/", lies.stalled(1000), "GET")
    threads, descriptors = threads_of(server.worker), descriptors_of(server.worker)
    with ExitStack() as clients:
        for number in range(CROWD):
            digest = liar.offer_blob(seeded(f"slow {number}", 100_000))
            clients.enter_context(ask(server, f"slow/image/blobs/{digest}"))
        wait_until(lambda: (metric(server, "gateway_miss_queue") or 0) >= CROWD - MOST)
        assert 0 < liar.requests.count(path_contains="/slow/") <= MOST
        assert threads_of(server.worker) - threads <= 2 * MOST
        assert descriptors_of(server.worker) - descriptors <= CROWD + 5 * MOST
        assert len(parts := [path for path in spools(server.data) if path.suffix == ".part"]) <= MOST, parts
        for number in range(3):
            new = liar.offer_blob(seeded(f"new {number}", 200_000))
            pulled = raw.get(server.proxied_url(f"any/image/blobs/{new}", "other"))
            assert (pulled.status, pulled.digest, pulled.headers["x-cache"]) == (200, new, "MISS")
            assert pulled.seconds < 5
            assert raw.get(held).headers["x-cache"] == "HIT"
    wait_until(lambda: not metric(server, "gateway_miss_queue"))
    liar.honest()
    wait_until(lambda: not metric(server, "gateway_flights"))
    wait_until(lambda: threads_of(server.worker) <= threads + 5)
