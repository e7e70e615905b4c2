"""A client that sends no more after its requests receives every response whole."""

import json
import socket

import pytest

from tests.conftest import GatewayFactory
from tests.parts import lies, raw
from tests.parts.images import Images, seeded
from tests.parts.liar import Liar
from tests.parts.processes import wait_until
from tests.parts.raw import RawStream

from .test_wire import BEYOND_BUFFERS, LARGE, SMALL, UNKNOWN, RawConnection, request


@pytest.mark.parametrize("zero_copy", [True, False])
def test_a_half_closed_client_receives_the_whole_response(
    zero_copy: bool, gateway: GatewayFactory, liar: Liar, images: Images
) -> None:
    tiny = liar.offer(images.tiny)
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "zero_copy": zero_copy})
    blobs = {size: seeded(f"half-closed {size}", size) for size in (0, 1, SMALL, LARGE, BEYOND_BUFFERS)}
    urls = {size: server.proxied_url(f"library/any/blobs/{liar.offer_blob(blobs[size])}") for size in blobs}
    expected = {
        "/v2/": (401, None),
        UNKNOWN: (401, None),
        server.proxied_url("library/tiny/manifests/latest"): (200, tiny.manifest_bytes),
        **{urls[size]: (200, content) for size, content in blobs.items()},
    }
    for _ in ("missed", "cached"):
        for url, (status, body) in expected.items():
            with RawConnection(server) as connection:
                connection.send(request(url))
                connection.socket.shutdown(socket.SHUT_WR)
                found = RawStream(connection.socket, "GET", 0)
                content = found.read_all()
                assert (found.status, found.complete) == (status, True), url
                assert body is None or content == body
                assert connection.ended()
        wait_until(lambda: all(raw.head(url).headers["x-cache"] == "HIT" for url in urls.values()))


def test_a_half_closed_client_waits_for_an_upstream(gateway: GatewayFactory, liar: Liar) -> None:
    content = seeded("half-closed and waiting", LARGE)
    lie = lies.stalled(LARGE // 2)
    liar.behave(digest := liar.offer_blob(content), lie)
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    with RawConnection(server) as connection:
        connection.send(request(server.proxied_url(f"library/any/blobs/{digest}")))
        connection.socket.shutdown(socket.SHUT_WR)
        assert lie.hold is not None
        assert lie.hold.reached.wait(30)
        lie.hold.release()
        found = RawStream(connection.socket, "GET", 0)
        assert (found.status, found.read_all(), found.complete) == (200, content, True)


def test_a_half_closed_client_receives_each_response_that_it_requested(gateway: GatewayFactory, liar: Liar) -> None:
    content = seeded("half-closed and several", SMALL)
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    url = server.proxied_url(f"library/any/blobs/{liar.offer_blob(content)}")
    with RawConnection(server) as connection:
        connection.send(request(url), request("/v2/"), request(url))
        connection.socket.shutdown(socket.SHUT_WR)
        answers = [connection.answer() for _ in range(3)]
        assert [(answer.status, answer.body) for answer in answers[::2]] == [(200, content)] * 2
        assert (answers[1].status, json.loads(answers[1].body)["errors"][0]["code"]) == (401, "UNAUTHORIZED")
        assert connection.ended()
