"""Tests of clients that request large responses and do not receive them: what they cost a worker in memory."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cache.oci.manifest import SIZE_LIMIT
from cache.oci.media_types import OCI_INDEX
from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.certs import Authority
from tests.parts.gateway import Gateway
from tests.parts.holdings import resident
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.lies import answered
from tests.parts.processes import HOST, answers_tcp, wait_until

from .serving import SMALL_BUFFER

SILENT = 200
GROWTH = 100_000_000
WITHIN = 60


def offer_manifest(liar: Liar) -> str:
    """Offer a manifest almost as large as one may be; return its path."""
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [],
        "annotations": {"a": "x" * (SIZE_LIMIT - 200)},
    }
    liar.offer_manifest("large", OCI_INDEX, json.dumps(index).encode())
    return "library/any/manifests/large"


def offer_list(liar: Liar) -> str:
    tags = [f"{number:0>100}" for number in range(35_000)]
    liar.behave("/tags/list", answered(200, json.dumps({"name": "library/any", "tags": tags}).encode()))
    return "library/any/tags/list"


def offer_blob(liar: Liar) -> str:
    return f"library/any/blobs/{liar.offer_blob(seeded('not received', 12_000_000))}"


@contextmanager
def silent(
    server: Gateway, path: str, context: ssl.SSLContext | None, lines: bytes = b""
) -> Iterator[list[socket.socket]]:
    """Connect clients that request a path, receive the first bytes of the response, and then nothing."""
    head = f"GET {server.proxied_url(path).removeprefix(server.url)} HTTP/1.1\r\nHost: {HOST}\r\n".encode()
    with ExitStack() as held:
        clients = []
        for _ in range(SILENT):
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            plain.settimeout(WITHIN)
            plain.connect((HOST, server.port))
            client = held.enter_context(context.wrap_socket(plain, server_hostname=HOST) if context else plain)
            client.sendall(head + lines + b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            clients.append(client)
        yield clients


def steady(server: Gateway) -> int:
    """Return the memory of the worker once it has grown no more for a moment."""
    seen = [0, 1]
    wait_until(lambda: seen.append(resident(server.worker)) or abs(seen[-1] - seen[-2]) < 100_000, within=WITHIN)
    return seen[-1]


@pytest.mark.parametrize("offer", [offer_manifest, offer_list, offer_blob])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_clients_that_receive_nothing_cost_little_memory(
    offer: Callable[[Liar], str], encrypted: bool, gateway: GatewayFactory, liar: Liar, authority: Authority
) -> None:
    path = offer(liar)
    tls = [f"--tls-cert={authority.cert_file}", f"--tls-key={authority.key_file}"] if encrypted else []
    server = gateway({"upstreams": {"docker.io": liar.settings()}}, start=False, arguments=tls)
    server.process.start(answers_tcp(server.port))
    context = authority.client_context() if encrypted else None
    url = server.proxied_url(path)
    url = url.replace("http:", "https:") if encrypted else url
    for _ in range(3):
        assert raw.get(url, context=context).complete
    before = steady(server)
    with silent(server, path, context):
        grown = steady(server) - before
        print(f"GROWN {grown / 1e6:.1f} MB")
        assert grown < GROWTH, f"{grown / 1e6:.0f} MB for {SILENT} clients"
        assert raw.get(url, context=context).complete
