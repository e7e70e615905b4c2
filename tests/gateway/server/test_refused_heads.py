"""What the log says of what is no HTTP request."""

import socket
import ssl
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.server.refused_heads import RefusedHeads
from tests.conftest import GatewayFactory
from tests.parts.certs import Authority
from tests.parts.ports import HOST
from tests.parts.processes import answers_tcp, wait_until

SECRET = "Basic c2VjcmV0"


def note(heads: RefusedHeads, received: bytes, reason: str | None = None, *, encrypted: bool = False) -> None:
    heads.note(400, reason, received, "192.0.2.1", encrypted=encrypted)


def test_each_kind_is_logged_once_a_minute() -> None:
    heads = RefusedHeads()
    with capture_logs() as events:
        for _ in range(3):
            note(heads, b"\x16\x03\x01")
            note(heads, b"GET", "a rule")
            note(heads, b"\x00")
    assert [(event["event"], event["reason"]) for event in events] == [
        ("tls_to_plain_port", "a client speaks TLS, and this server does not on this port"),
        ("request_malformed", "a rule"),
        ("request_malformed", "it is no HTTP request"),
    ]


def test_where_tls_is_spoken_its_first_byte_means_nothing() -> None:
    with capture_logs() as events:
        note(RefusedHeads(), b"\x16\x03\x01", encrypted=True)
    assert [event["event"] for event in events] == ["request_malformed"]


def test_a_client_that_speaks_tls_to_a_plain_port_is_logged(gateway: GatewayFactory) -> None:
    server = gateway()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((HOST, server.port)) as connection, suppress(ssl.SSLError, OSError):
        context.wrap_socket(connection, server_hostname="registry.example.com")
    wait_until(lambda: "tls_to_plain_port" in server.log_text(), what="nothing was logged")
    [line] = [line for line in server.log_text().splitlines() if "tls_to_plain_port" in line]
    assert f"client={HOST}" in line and "remedy=" in line


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET /v2/ HTTP/1.1\r\nHost: a b\r\nAuthorization: %b\r\n\r\n", "Host is missing, repeated or malformed"),
        (b"GET /v2/ HTTP/1.1\r\nHost: a\r\nAuthorization : %b\r\n\r\n", "no valid name"),
        (b"\x00%b", "it is no HTTP request"),
    ],
)
def test_what_breaks_a_rule_is_logged_without_its_content(gateway: GatewayFactory, sent: bytes, reason: str) -> None:
    server = gateway()
    with socket.create_connection((HOST, server.port)) as connection:
        connection.sendall(sent % SECRET.encode())
        connection.settimeout(30)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
    wait_until(lambda: "request_malformed" in server.log_text(), what="nothing was logged")
    [line] = [line for line in server.log_text().splitlines() if "request_malformed" in line]
    assert reason in line and "status=400" in line
    assert SECRET not in server.log_text()


def test_a_client_that_speaks_http_to_a_port_with_tls_is_logged(gateway: GatewayFactory, authority: Authority) -> None:
    tls = [f"--tls-cert={authority.cert_file}", f"--tls-key={authority.key_file}"]
    server = gateway(start=False, arguments=tls)
    server.process.start(answers_tcp(server.port))
    with socket.create_connection((HOST, server.port)) as connection, suppress(OSError):
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.settimeout(30)
        connection.recv(100)
    wait_until(lambda: "tls_handshake_failed" in server.log_text(), what="nothing was logged")
    [line] = [line for line in server.log_text().splitlines() if "tls_handshake_failed" in line]
    assert "speaks http" in line and "use https" in line
