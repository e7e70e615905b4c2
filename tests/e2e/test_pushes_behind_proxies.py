"""Pushes through the reverse proxies of their page: bodies stream through them, and every Location leads back."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.parts import logins
from tests.parts.gateway import Gateway
from tests.parts.go_clients import CRANE, build_go_client
from tests.parts.images import Images, digest_of, seeded
from tests.parts.logins import Program
from tests.parts.ports import HOST
from tests.parts.processes import wait_until
from tests.parts.proxies import FrontProxy

from .closed_group import PROJECT, ClosedGroup
from .conftest import LongLived
from .fronts import KINDS, make_front

HALF = 8_000_000
UNWRITTEN = 2 * 1024 * 1024
"""Bytes of a body that may be on their way, or in buffers of the server, while its client pauses."""


@pytest.fixture(scope="module", params=KINDS[1:])
def front(request: pytest.FixtureRequest, workplace: Path) -> Iterator[tuple[FrontProxy, int]]:
    """The proxy, and the port to which it forwards everything."""
    proxy, backend = make_front(request.param, workplace / "pushes")
    proxy.start()
    yield proxy, backend
    proxy.stop()


@pytest.fixture(scope="module")
def server(front: tuple[FrontProxy, int], long_lived: LongLived) -> Gateway:
    proxy, backend = front
    config = {"external_url": proxy.url, "trusted_proxies": [f"{HOST}/32"], "workers": 2}
    return long_lived(config, port=backend)


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


def received(server: Gateway) -> int:
    """Bytes of the one unfinished upload."""
    return sum(file.stat().st_size for file in (server.data / "spool" / "uploads").iterdir())


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_arrives_while_its_client_still_sends_it(
    framing: str, front: tuple[FrontProxy, int], server: Gateway, team: ClosedGroup
) -> None:
    proxy, _ = front
    content = seeded(f"{proxy.directory.name}, {framing}", 2 * HALF)
    client = http.client.HTTPConnection(HOST, proxy.port, timeout=60)

    def send(method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        chunked = "Transfer-Encoding" in headers
        client.request(method, path, body, team.ann.basic | headers, encode_chunked=chunked)
        response = client.getresponse()
        response.read()
        return response

    def in_halves() -> Iterator[bytes]:
        yield content[:HALF]
        wait_until(lambda: received(server) >= HALF - UNWRITTEN, what="the proxy keeps the body")
        yield content[HALF:]

    def location(response: http.client.HTTPResponse) -> str:
        target = urlsplit(urljoin(proxy.url, response.headers["Location"]))
        assert target.netloc == proxy.host
        return target.path

    begun = send("POST", f"/v2/{PROJECT}/streamed/blobs/uploads/", **{"Content-Length": "0"})
    headers = {"Transfer-Encoding": "chunked"} if framing == "chunks" else {"Content-Length": str(len(content))}
    sent = send("PATCH", location(begun), in_halves(), **headers)
    assert (begun.status, sent.status) == (202, 202)
    made = send("PUT", f"{location(sent)}?digest={digest_of(content)}", **{"Content-Length": "0"})
    assert made.status == 201
    client.request("GET", location(made), headers=team.ann.basic)
    assert digest_of(client.getresponse().read()) == digest_of(content)
    client.close()


@pytest.mark.parametrize("name", ["skopeo", "crane"])
def test_clients_push_through_it_and_pull_the_same_bytes(
    name: str, front: tuple[FrontProxy, int], team: ClosedGroup, images: Images, workplace: Path, scratch: Path
) -> None:
    """skopeo sends a layer of 60 MB with one chunked PATCH; crane does so too, and logs in by itself."""
    host, layout = front[0].host, images["mid"]
    makers: dict[str, Program] = {
        "skopeo": logins.skopeo(scratch / "skopeo"),
        "crane": logins.crane(build_go_client(CRANE), scratch / "crane"),
    }
    client, folder, reference = makers[name], scratch / "login", f"{host}/{PROJECT}/{name}:latest"
    assert client.login(folder, host, team.ann.user, team.ann.secret).done
    pushed = client.push(folder, layout.path, reference)
    assert pushed.done, pushed.text
    pulled = client.pull(folder, reference)
    assert pulled.done, pulled.text
    found = {digest_of(file.read_bytes()) for file in (folder / "pulled").rglob("*") if file.is_file()}
    assert set(layout.blobs) - {layout.digest} <= found
