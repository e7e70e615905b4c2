"""The status line: what it may hold, whatever stands in the sentence of a refusal."""

import http.client
import json
import re

import pytest

from gateway.server.status_line import PHRASE_LIMIT, status_line
from tests.conftest import GatewayFactory

LINE = re.compile(rb"HTTP/1\.1 [1-5][0-9][0-9] [ -~]*\r\n")
"""RFC 9112, section 4, without tabs and without bytes beyond ASCII."""


@pytest.mark.parametrize(
    ("phrase", "sent"),
    [
        ("", b""),
        ("the upstream is down", b"the upstream is down"),
        ("two\r\nSet-Cookie: a=b\r\n\r\n", b"two??Set-Cookie: a=b????"),
        ("a\0b\tc\x7f\x80", b"a?b?c??"),
        ("größer 中 🐳", b"gr??er ? ?"),
        ("a" * PHRASE_LIMIT, b"a" * PHRASE_LIMIT),
        ("a" * (PHRASE_LIMIT + 1), b"a" * (PHRASE_LIMIT - 3) + b"..."),
        ("\n" * 100_000, b"?" * (PHRASE_LIMIT - 3) + b"..."),
    ],
)
def test_a_phrase_is_one_line_of_printable_ascii_and_bounded(phrase: str, sent: bytes) -> None:
    assert status_line(503, phrase) == b"HTTP/1.1 503 %b\r\n" % sent
    assert LINE.fullmatch(status_line(503, phrase))


def test_a_refusal_has_its_message_in_the_status_line_of_get_and_head_alike(gateway: GatewayFactory) -> None:
    """On one connection, so that none of the lines spoils the response after it."""
    server = gateway()
    connection = http.client.HTTPConnection(server.host, timeout=30)
    for path in ("/v2/nowhere/a/manifests/1", "/v2/hub/dependency_proxy/containers/a%0d%0ab%c3%a4/manifests/1"):
        phrases = set()
        for method in ("GET", "HEAD"):
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            assert response.status >= 400
            assert re.fullmatch("[ -~]+", response.reason)
            phrases.add(response.reason)
            if body:
                [entry] = json.loads(body)["errors"]
                assert status_line(response.status, entry["message"]) == (
                    f"HTTP/1.1 {response.status} {response.reason}\r\n".encode()
                )
        assert len(phrases) == 1
    connection.request("GET", "/-/health")
    response = connection.getresponse()
    assert (response.status, response.reason) == (200, "")
    connection.close()
