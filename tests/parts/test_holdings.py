"""Tests of the count of a server's holdings: what clients open is counted, and what they close is missed."""

import os
import re
import signal
import socket
from contextlib import ExitStack

import pytest

from tests.conftest import GatewayFactory

from .holdings import Baseline, census
from .processes import HOST, wait_until

CLIENTS = 20


def test_connections_are_counted_with_their_descriptors_and_tasks(gateway: GatewayFactory) -> None:
    server = gateway(arguments=["--workers=2"])
    base = Baseline(server)
    assert set(server.workers) < set(census(server))
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection((HOST, server.port)))
            client.sendall(b"POST /v2/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n")
        wait_until(lambda: sum(census(server)[pid].connections for pid in server.workers) >= CLIENTS)
        found = " ".join(base.more())
        assert re.search(r"holds \d+ descriptors", found)
        assert re.search(r"holds \d+ connections", found)
        assert sum(census(server)[pid].tasks for pid in server.workers) >= CLIENTS
        with pytest.raises(AssertionError, match="connections"):
            base.await_return(within=0)
    base.await_return()


def test_a_worker_that_replaced_another_is_compared_to_the_largest(gateway: GatewayFactory) -> None:
    server = gateway(arguments=["--workers=2"])
    base, victim = Baseline(server), server.workers[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.workers) == 2 and victim not in server.workers)
    base.await_return()
    assert victim not in census(server)
