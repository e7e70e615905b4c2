"""Tests of a server with few descriptors, for all of which clients wait that send or receive nothing."""

import socket
import struct
from contextlib import ExitStack

import pytest

from tests.conftest import GatewayFactory
from tests.e2e.datafolder import trouble
from tests.parts import raw
from tests.parts.certs import Authority
from tests.parts.gateway import Gateway
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.processes import HOST, answers_tcp, wait_until
from tests.security.conftest import descriptors

LIMIT = 1024
CLIENTS = 400
WITHIN = 30
SMALL_BUFFER = 4096


def with_few_descriptors(server: Gateway) -> Gateway:
    server.process.argv = ["/bin/sh", "-c", f'ulimit -n {LIMIT} && exec "$@"', "sh", *server.process.argv]
    server.process.start(answers_tcp(server.port))
    return server


def connect(server: Gateway) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.settimeout(WITHIN)
    client.connect((HOST, server.port))
    return client


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_clients_that_only_connect_stop_nobody(
    encrypted: bool, gateway: GatewayFactory, liar: Liar, authority: Authority
) -> None:
    digest = liar.offer_blob(seeded("few descriptors", 100_000))
    tls = [f"--tls-cert={authority.cert_file}", f"--tls-key={authority.key_file}"] if encrypted else []
    config = {"upstreams": {"docker.io": liar.settings()}}
    server = with_few_descriptors(gateway(config, start=False, arguments=tls))
    context = authority.client_context() if encrypted else None
    url = server.url.replace("http:", "https:") if encrypted else server.url
    paths = ["/-/health", "/-/metrics", server.proxied_url(f"library/any/blobs/{digest}").removeprefix(server.url)]
    assert raw.get(f"{url}{paths[2]}", context=context).digest == digest
    with ExitStack() as held:
        for _ in range(LIMIT):
            held.enter_context(connect(server))
        for path in paths:
            assert raw.get(f"{url}{path}", context=context, timeout=WITHIN).status == 200
    assert "accept_paused" not in server.log_text()


def test_slow_readers_up_to_the_cap_leave_descriptors_for_others(gateway: GatewayFactory, liar: Liar) -> None:
    digest = liar.offer_blob(seeded("slow readers", 12_000_000))
    server = gateway({"upstreams": {"docker.io": liar.settings()}}, start=False, arguments=["--log-format=json"])
    with_few_descriptors(server)
    url = server.proxied_url(f"library/any/blobs/{digest}")
    assert raw.get(url).digest == digest
    request = f"GET {url.removeprefix(server.url)} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with ExitStack() as held:
        served = []
        for _ in range(CLIENTS):
            client = held.enter_context(connect(server))
            client.sendall(request)
            if client.recv(12) == b"HTTP/1.1 200":
                served.append(client)
        assert 100 < len(served) < CLIENTS
        assert descriptors(server.worker) < LIMIT - 100
        served.pop().close()
        wait_until(lambda: raw.get(url, timeout=WITHIN).digest == digest)
        assert raw.get(f"{server.url}/-/metrics", timeout=WITHIN).status == 200
    assert "accept_paused" not in server.log_text()
    assert trouble(server) == []
