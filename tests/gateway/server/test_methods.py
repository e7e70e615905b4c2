"""Methods are compared as they came: one in lower case is unknown to every layer."""

import pytest

from tests.conftest import GatewayFactory
from tests.parts.images import Images
from tests.parts.liar import Liar

from .test_wire import UNKNOWN, RawConnection, request

METHODS = ["head", "Head", "get", "GeT", "options", "BREW", "connect"]


@pytest.fixture
def paths(gateway: GatewayFactory, liar: Liar, images: Images) -> tuple[RawConnection, list[str]]:
    liar.offer(images.tiny)
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    paths = ["/v2/", UNKNOWN, server.proxied_url("library/tiny/manifests/latest"), "/-/health", "/nothing"]
    return RawConnection(server), paths


def allowed_at(path: str) -> str | None:
    """Methods that the response names."""
    if path == "/nothing":
        return None
    return "DELETE, GET, HEAD, PUT" if "/manifests/" in path else "GET, HEAD"


def test_an_unknown_method_is_refused_and_its_response_has_a_body(paths: tuple[RawConnection, list[str]]) -> None:
    with paths[0] as connection:
        for path in paths[1]:
            for method in METHODS:
                connection.send(request(path, method=method), request("/-/health"))
                found = connection.answer(method)
                assert (found.status, found.complete) == (404 if path == "/nothing" else 405, True), (method, path)
                assert int(found.headers["content-length"] or 0) == len(found.body) > 0
                assert found.headers.get("allow") == allowed_at(path)
                assert b"errors" in found.body
                assert connection.answer().body == b'{"status":"ok"}', "the connection is out of step"
