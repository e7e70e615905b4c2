"""Tests of TLS at the server's own port: versions, protocols, certificate files, and clients that speak no TLS."""

import asyncio
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from starlette.types import Receive, Scope, Send
from trustme import KeyType

from gateway.server.timings import ServerTimings
from gateway.server.tls import TlsFiles, TlsUnusable, tls_context
from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.certs import Authority
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.processes import HOST, answers_tcp, wait_until

from .serving import SMALL_BUFFER, pong, serving

GET = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SOON = 5.0


def words(authority: Authority) -> list[str]:
    return [f"--tls-cert={authority.cert_file}", f"--tls-key={authority.key_file}"]


@pytest.fixture(scope="module")
def port(authority: Authority, tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[int]:
    """Port of a server with TLS."""
    running = Gateway(tmp_path_factory.mktemp("tls"), arguments=words(authority))
    running.process.start(answers_tcp(running.port))
    yield running.port
    running.kill()
    assert "Traceback" not in running.log_text()


@contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    plain = socket.create_connection((HOST, port), timeout=SOON)
    with plain, context.wrap_socket(plain, server_hostname=HOST) as connection:
        yield connection


def offering(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Client context of one version, as lax as OpenSSL allows: an old version must fail at the server, not at the
    client."""
    context = authority.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


# Versions and protocols.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_version_is_refused(version: ssl.TLSVersion, port: int, authority: Authority) -> None:
    with pytest.raises(ssl.SSLError, match=r"EOF|PROTOCOL_VERSION"), connected(port, offering(authority, version)):
        pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_current_version_is_served(version: ssl.TLSVersion, port: int, authority: Authority) -> None:
    answer = raw.get(f"https://{HOST}:{port}/-/ready", context=offering(authority, version))
    assert (answer.status, answer.complete) == (200, True)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)],
)
def test_http_1_1_alone_is_agreed_on(offered: list[str], chosen: str | None, port: int, authority: Authority) -> None:
    context = authority.client_context()
    if offered:
        context.set_alpn_protocols(offered)
    with connected(port, context) as connection:
        assert connection.selected_alpn_protocol() == chosen
        connection.sendall(GET)
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")


def test_a_client_of_http_2_alone_gets_none(port: int, authority: Authority) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(["h2"])
    with connected(port, context) as connection:
        assert connection.selected_alpn_protocol() is None
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
        answer = b""
        while part := connection.recv(1000):
            answer += part
        assert answer.startswith(b"HTTP/1.1 505 ")


def test_plain_http_at_the_tls_port_ends_at_once(port: int) -> None:
    began = time.monotonic()
    with socket.create_connection((HOST, port), timeout=SOON) as connection:
        connection.sendall(GET)
        try:
            while connection.recv(1000):
                pass
        except ConnectionError:
            pass
    assert time.monotonic() - began < SOON


def test_who_never_begins_to_speak_is_closed(authority: Authority) -> None:
    files, timings = TlsFiles(authority.cert_file, authority.key_file), ServerTimings(tls_handshake=0.3)

    async def wait() -> None:
        async with serving(pong, tls=files, timings=timings) as served:
            with served.connect() as connection:
                async with asyncio.timeout(SOON):
                    assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""

    asyncio.run(wait())


def test_skopeo_pulls_from_it(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, authority: Authority, scratch: Path
) -> None:
    layout = published("tiny")
    running = gateway({"upstreams": {"docker.io": hub.settings()}}, arguments=words(authority), start=False)
    running.process.start(answers_tcp(running.port))
    reference = running.proxied("library/tiny:latest")
    assert skopeo.pull(reference, scratch / "pulled", trusted=authority.ca_folder).missing(layout) == []
    refused = skopeo.copy(f"docker://{reference}", f"dir:{scratch / 'refused'}", trusted=scratch, check=False)
    assert refused.returncode != 0
    assert "certificate" in refused.stderr
    assert "Traceback" not in running.log_text()


# Files.

Pair = Callable[[Path, Authority], tuple[Path, Path]]


def encrypted(directory: Path, authority: Authority) -> tuple[Path, Path]:
    key = serialization.load_pem_private_key(authority.key_file.read_bytes(), None)
    locked = directory / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return authority.cert_file, locked


def mismatched(directory: Path, authority: Authority) -> tuple[Path, Path]:
    return authority.cert_file, Authority(directory / "another").key_file


def swapped(directory: Path, authority: Authority) -> tuple[Path, Path]:
    return authority.key_file, authority.cert_file


def missing(directory: Path, authority: Authority) -> tuple[Path, Path]:
    return directory / "nothing.pem", authority.key_file


def missing_key(directory: Path, authority: Authority) -> tuple[Path, Path]:
    return authority.cert_file, directory / "nothing.key"


def folder(directory: Path, authority: Authority) -> tuple[Path, Path]:
    return directory, authority.key_file


def empty(directory: Path, authority: Authority) -> tuple[Path, Path]:
    (directory / "empty.pem").touch()
    return directory / "empty.pem", authority.key_file


def no_pem(directory: Path, authority: Authority) -> tuple[Path, Path]:
    (directory / "binary.pem").write_bytes(bytes(range(256)))
    return directory / "binary.pem", authority.key_file


PAIRS = [encrypted, mismatched, swapped, missing, missing_key, folder, empty, no_pem]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_that_cannot_be_used_is_named(pair: Pair, authority: Authority, tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, authority)
    with pytest.raises(TlsUnusable) as refusal:
        tls_context(TlsFiles(certificate, key))
    assert str(certificate) in str(refusal.value) or str(key) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("pair", [encrypted, missing])
@pytest.mark.usefixtures("processes")
def test_a_pair_that_cannot_be_used_ends_serve_with_one_line(pair: Pair, authority: Authority, tmp_path: Path) -> None:
    certificate, key = pair(tmp_path, authority)
    done = Gateway(tmp_path / "gateway").cli("serve", "--port=0", f"--tls-cert={certificate}", f"--tls-key={key}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("registry-gateway: the TLS ")
    assert done.stdout == "", "it says that it serves"


@pytest.mark.usefixtures("processes")
def test_a_certificate_without_its_key_is_refused(authority: Authority, tmp_path: Path) -> None:
    done = Gateway(tmp_path / "gateway").cli("serve", "--port=0", f"--tls-cert={authority.cert_file}")
    assert done.returncode in (1, 2)
    assert "tls_key" in done.stderr
    assert "Traceback" not in done.stderr


# Renewal.


OFTEN = ServerTimings(certificate_check=0.05)


class Issued:
    """Certificate files that are replaced by rename, as certbot and Kubernetes do it."""

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self._directory = directory
        self.files = TlsFiles(directory / "tls.crt", directory / "tls.key")
        self.context = ssl.create_default_context()
        self._authority.configure_trust(self.context)

    def issue(self, kind: KeyType = KeyType.ECDSA) -> int:
        """Puts a new pair in place; returns its serial number."""
        issued = self._authority.issue_cert(HOST, key_type=kind)
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        self.put(self.files.key, issued.private_key_pem.bytes())
        self.put(self.files.certificate, chain)
        return x509.load_pem_x509_certificate(chain).serial_number

    def put(self, place: Path, content: bytes) -> None:
        part = self._directory / "part"
        part.write_bytes(content)
        part.replace(place)

    def serial(self, port: int) -> int:
        """Serial number of the certificate that the server presents now."""
        with connected(port, self.context) as connection:
            shown = connection.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown).serial_number


@pytest.fixture
def issued(tmp_path: Path) -> Issued:
    return Issued(tmp_path)


@pytest.mark.parametrize("kind", [KeyType.ECDSA, KeyType.RSA])
@pytest.mark.parametrize("then", [KeyType.ECDSA, KeyType.RSA])
async def test_a_replaced_certificate_is_shown_to_new_connections(kind: KeyType, then: KeyType, issued: Issued) -> None:
    """A replaced certificate is presented on new connections, even if its key is of another kind, of which one context
    could hold both."""
    first = issued.issue(kind)
    async with serving(pong, tls=issued.files, timings=OFTEN) as served:
        assert await asyncio.to_thread(issued.serial, served.port) == first
        old = await asyncio.open_connection(HOST, served.port, ssl=issued.context, server_hostname=HOST)
        second = issued.issue(then)
        await shown(issued, served.port, second)
        old[1].write(GET)
        assert (await old[0].read()).endswith(b"pong"), "a connection that was open is not served on"
        old[1].close()


async def test_files_that_cannot_be_used_change_nothing_until_they_are_right(issued: Issued) -> None:
    first = issued.issue()
    async with serving(pong, tls=issued.files, timings=OFTEN) as served:
        for broken in (b"", b"no PEM", Authority(issued.files.key.parent / "another").key_file.read_bytes()):
            issued.put(issued.files.key, broken)
            await asyncio.sleep(0.3)
            assert await asyncio.to_thread(issued.serial, served.port) == first
        issued.files.key.unlink()
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(issued.serial, served.port) == first
        await shown(issued, served.port, issued.issue())


async def shown(issued: Issued, port: int, serial: int) -> None:
    await asyncio.to_thread(wait_until, lambda: issued.serial(port) == serial, SOON)


# Slow readers, and clients that send nothing.


async def test_whom_the_cap_turns_away_holds_nothing_by_saying_nothing(issued: Issued) -> None:
    """A client that the connection cap turns away holds nothing by silence; the server does not wait for its
    close_notify."""
    timings = ServerTimings(rejection=0.2)
    issued.issue()
    async with serving(pong, connections=1, tls=issued.files, timings=timings) as served, AsyncExitStack() as stack:
        held = await asyncio.open_connection(HOST, served.port, ssl=issued.context, server_hostname=HOST)
        before = served.descriptors
        for _ in range(5):
            await asyncio.to_thread(stack.enter_context, connected(served.port, issued.context))
        await served.settles(before + 5)
        held[1].close()


async def test_an_answer_arrives_whole_although_it_is_taken_slowly(issued: Issued) -> None:
    """A response arrives completely although the client reads it slowly; the server has long closed when the last bytes
    leave its buffers."""
    size = 1_200_000
    issued.issue()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    def take(port: int) -> int:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        plain.settimeout(SOON)
        plain.connect((HOST, port))
        with issued.context.wrap_socket(plain, server_hostname=HOST) as connection:
            connection.sendall(GET)
            began, taken = time.monotonic(), 0
            while part := connection.recv(16_384):
                taken += len(part)
                if time.monotonic() - began < 3.5:
                    time.sleep(0.05)
        return taken

    async with serving(large, tls=issued.files) as served:
        assert await asyncio.to_thread(take, served.port) > size
