"""The server on a socket: framing of responses, bodies that fail, and what clients leave behind that disconnect."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count

import pytest

from tests.conftest import GATEWAYS, GatewayFactory
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.holds import Hold
from tests.parts.images import Images, digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Framing, Lie
from tests.parts.processes import HOST, answers_tcp, wait_until
from tests.parts.raw import RawResponse, RawStream

MANY = 200
LARGE = 400_000
BEYOND_BUFFERS = 12_000_000
SMALL = 10_000
UNKNOWN = "/v2/library/tiny/manifests/latest"
_numbers = count()


@dataclass
class Pair:
    """A server and the upstream behind it."""

    server: Gateway
    upstream: Liar

    def offer(self, size: int = LARGE, lie: Lie | None = None) -> tuple[bytes, str]:
        """Offer a blob that no other test has requested; returns it and its URL at the server."""
        content = seeded(f"wire {next(_numbers)}", size)
        digest = self.upstream.offer_blob(content)
        if lie is not None:
            self.upstream.behave(digest, lie)
        return content, self.server.proxied_url(f"library/any/blobs/{digest}")

    def close_circuit(self) -> None:
        """Send a right body after wrong ones, so that the circuit breaker of the upstream closes."""
        content, url = self.offer(1)
        wait_until(lambda: raw.get(url).body == content, 40)

    def cached(self, size: int = LARGE) -> tuple[bytes, str]:
        """Offer a blob and pull it into the cache; returns it and its URL at the server."""
        content, url = self.offer(size)
        assert raw.get(url).body == content
        wait_until(lambda: raw.head(url).headers["x-cache"] == "HIT")
        return content, url

    def open_files(self) -> dict[str, int]:
        """Count the descriptors of the server that lead to sockets, and to each file of a blob."""
        found: dict[str, int] = {}
        for entry in os.scandir(f"/proc/{self.server.worker}/fd"):
            try:
                target = os.readlink(entry.path)
            except FileNotFoundError:
                continue
            if target.startswith("socket:") or "/spool/" in target or "/cache/" in target:
                kind = target.partition("[")[0]
                found[kind] = found.get(kind, 0) + 1
        return found

    def settles(self, before: dict[str, int]) -> None:
        """Wait until no more is open than before, except a kept connection to the upstream."""

        def settled() -> bool:
            now = self.open_files()
            return all(number <= before.get(kind, 0) + (kind == "socket:") for kind, number in now.items())

        try:
            wait_until(settled, within=30)
        except TimeoutError as error:
            raise AssertionError(f"open before: {before}, and now: {self.open_files()}") from error


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Pair]:
    with Liar() as upstream:
        server = Gateway(tmp_path_factory.mktemp("wire"), {"upstreams": {"docker.io": upstream.settings()}})
        try:
            server.start()
            yield Pair(server, upstream)
            server.process.signal(signal.SIGTERM)
            assert server.process.wait(30) == 0, "work that a test began has not ended"
        finally:
            server.kill()


@pytest.fixture
def pair(started: Pair, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Share one server among tests that leave it as it was. None of them may make it log a traceback."""
    request.node.stash[GATEWAYS] = [started.server]
    begins = len(started.server.log_text())
    yield started
    started.upstream.honest()
    started.close_circuit()
    assert "Traceback" not in started.server.log_text()[begins:]


@pytest.fixture
def own(gateway: GatewayFactory, liar: Liar) -> Pair:
    """Start a server and its upstream for a test that stops it."""
    return Pair(gateway({"upstreams": {"docker.io": liar.settings()}}), liar)


def request(url: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    path = url if url.startswith("/") else "/" + url.split("/", 3)[3]
    head = [f"{method} {path} HTTP/{version}", *([f"Host: {HOST}"] if version == "1.1" else []), *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


class RawConnection:
    """A connection on which a test writes any bytes, and reads one response after the other."""

    def __init__(self, server: Gateway) -> None:
        self.socket = socket.create_connection((HOST, server.port), timeout=30)

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *requests: bytes) -> None:
        self.socket.sendall(b"".join(requests))

    def answer(self, method: str = "GET", then: Callable[[], None] = lambda: None) -> RawResponse:
        """Read the next response and no byte of the one after it; `then` is called when its head has arrived."""
        stream = RawStream(Exactly(self.socket), method, 0)  # type: ignore[arg-type]
        then()
        body = stream.read_all()
        return RawResponse(stream.status, stream.headers, body, stream.complete, stream.reset, 0)

    def ended(self) -> bool:
        """Whether the server has closed without sending anything more."""
        return self.socket.recv(1) == b""

    def reset(self) -> None:
        """Disconnect as a killed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
        self.socket.close()


class Exactly:
    """A socket that is read byte by byte, so that no byte of the next response is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def recv(self, _: int) -> bytes:
        return self._connection.recv(1)


# A body that fails.

WRONG = {
    "wrong at the end": lies.flipped(-1),
    "wrong at the start": lies.flipped(0),
    "too long": lies.long(),
    "chunked, wrong": replace(lies.chunked(), flip=-1),
    "chunked, cut": lies.unfinished(LARGE // 2),
    "until close, cut": lies.until_close(LARGE // 2),
}


@pytest.mark.parametrize("wanted", [(), (("Range", "bytes=1000-"),)], ids=["whole", "part"])
@pytest.mark.parametrize("lie", WRONG.values(), ids=WRONG)
def test_a_large_body_that_fails_is_seen_to_be_incomplete(
    lie: Lie, wanted: Sequence[tuple[str, str]], pair: Pair
) -> None:
    content, url = pair.offer(LARGE, replace(lie, hold=(hold := Hold(LARGE // 4))))
    with raw.open_stream("GET", url, wanted) as found:
        hold.release()
        body = found.read_all()
    assert found.status == (206 if wanted and lie.framing is Framing.LENGTH else 200)
    assert not found.complete
    assert len(body) < len(content)
    chunked = found.headers.get("transfer-encoding") == "chunked"
    assert chunked == ("content-length" not in found.headers) == (lie.framing is not Framing.LENGTH)


@pytest.mark.parametrize("lie", [lies.short(100), lies.flipped(-1), lies.long(), lies.html()], ids=str)
def test_a_small_body_that_fails_is_a_clear_error(lie: Lie, pair: Pair) -> None:
    _, url = pair.offer(SMALL, lie)
    found = raw.get(url)
    assert found.status in (502, 503)
    assert found.complete
    assert json.loads(found.body)["errors"][0]["code"] in ("UNKNOWN", "UNAVAILABLE")


def test_nothing_follows_a_body_that_failed_on_its_connection(pair: Pair) -> None:
    _, url = pair.offer(LARGE, replace(lies.flipped(-1), hold=(hold := Hold(LARGE // 2))))
    with RawConnection(pair.server) as connection:
        connection.send(request(url))
        assert not connection.answer(then=hold.release).complete
        assert connection.ended()


def test_no_waiting_request_is_answered_inside_a_body_that_failed(pair: Pair) -> None:
    content, url = pair.offer(LARGE, replace(lies.flipped(-1), hold=(hold := Hold(LARGE // 2))))
    with RawConnection(pair.server) as connection:
        connection.send(request(url), request("/v2/"))
        found = connection.answer(then=hold.release)
        assert not found.complete
        assert content.startswith(found.body)
        assert connection.ended()


# Whole bodies.


@pytest.mark.parametrize("size", [0, 1, SMALL, LARGE, BEYOND_BUFFERS])
@pytest.mark.parametrize("framing", [Lie(), lies.chunked(), lies.until_close()], ids=["length", "chunked", "close"])
def test_a_body_comes_whole_however_the_upstream_frames_it(framing: Lie, size: int, pair: Pair) -> None:
    content, url = pair.offer(size, framing)
    for _ in range(2):
        found = raw.get(url)
        assert (found.status, found.complete, found.digest) == (200, True, digest_of(content))


def test_a_connection_serves_one_request_after_the_other(pair: Pair) -> None:
    content, url = pair.cached(SMALL)
    with RawConnection(pair.server) as connection:
        for _ in range(3):
            for path, status, body in ((url, 200, content), (UNKNOWN, 401, None), ("/v2/", 401, None)):
                connection.send(request(path))
                found = connection.answer()
                assert (found.status, found.complete) == (status, True)
                assert body is None or found.body == body


@pytest.mark.parametrize("path", ["/v2/", UNKNOWN, None], ids=["ping", "error", "blob"])
def test_a_connection_is_closed_for_those_who_ask_for_it(path: str | None, pair: Pair) -> None:
    with RawConnection(pair.server) as connection:
        connection.send(request(path or pair.cached(SMALL)[1], "Connection: close"))
        found = connection.answer()
        assert found.complete
        assert found.headers["connection"] == "close"
        assert connection.ended()


def test_requests_that_are_sent_at_once_are_answered_in_order(pair: Pair) -> None:
    content, url = pair.cached(SMALL)
    large, other = pair.offer(LARGE)
    wanted = [
        ("GET", url, (), 200, content),
        ("HEAD", url, (), 200, b""),
        ("GET", UNKNOWN, (), 401, None),
        ("GET", other, (), 200, large),
        ("GET", url, ("Range: bytes=5-9",), 206, content[5:10]),
        ("GET", url, ("If-None-Match: *",), 304, b""),
        ("GET", "/v2/", ("Connection: close",), 401, None),
    ]
    with RawConnection(pair.server) as connection:
        connection.send(*(request(path, *lines, method=method) for method, path, lines, _, _ in wanted))
        for method, _, _, status, body in wanted:
            found = connection.answer(method)
            assert (found.status, found.complete) == (status, True)
            assert body is None or found.body == body
        assert connection.ended()


def test_the_answer_to_head_has_no_body(pair: Pair, images: Images) -> None:
    tiny = pair.upstream.offer(images.tiny)
    content, held = pair.cached(LARGE)
    _, not_held = pair.offer(LARGE)
    tag = pair.server.proxied_url("library/tiny/manifests/latest")
    lengths = {held: len(content), not_held: LARGE, tag: len(tiny.manifest_bytes), UNKNOWN: None, "/v2/": None}
    with RawConnection(pair.server) as connection:
        for path, length in lengths.items():
            connection.send(request(path, method="HEAD"), request("/-/health"))
            found = connection.answer("HEAD")
            assert found.status == (401 if path in (UNKNOWN, "/v2/") else 200)
            assert length is None or found.headers["content-length"] == str(length)
            assert connection.answer().body == b'{"status":"ok"}'


def test_an_answer_of_not_modified_has_no_body(pair: Pair, images: Images) -> None:
    pair.upstream.offer(images.tiny)
    _, held = pair.cached(LARGE)
    _, arriving = pair.offer(LARGE)
    with RawConnection(pair.server) as connection:
        for path in (held, arriving, pair.server.proxied_url("library/tiny/manifests/latest")):
            connection.send(request(path, "If-None-Match: *"), request("/-/health"))
            found = connection.answer()
            assert (found.status, found.body) == (304, b"")
            assert "transfer-encoding" not in found.headers
            assert connection.answer().body == b'{"status":"ok"}'


# Clients that speak HTTP/1.0, such as a reverse proxy in its default.


@pytest.mark.parametrize("framing", [Lie(), lies.chunked()], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_old_client_gets_a_length_and_the_connections_end(framing: Lie, size: int, pair: Pair) -> None:
    content, url = pair.offer(size, framing)
    for _ in range(2):
        with RawConnection(pair.server) as connection:
            connection.send(request(url, version="1.0"))
            found = connection.answer()
            assert (found.status, found.body, found.complete) == (200, content, True)
            assert found.headers["content-length"] == str(size)
            assert "transfer-encoding" not in found.headers
            assert connection.ended()


def test_an_old_client_is_told_of_a_failure_whose_end_it_could_not_see(pair: Pair) -> None:
    _, url = pair.offer(LARGE, replace(lies.chunked(), flip=-1))
    with RawConnection(pair.server) as connection:
        connection.send(request(url, version="1.0"))
        found = connection.answer()
        assert (found.status, found.complete) == (502, True)


def test_an_old_client_sees_a_large_body_that_fails_as_incomplete(pair: Pair) -> None:
    _, url = pair.offer(LARGE, replace(lies.flipped(-1), hold=(hold := Hold(LARGE // 2))))
    with RawConnection(pair.server) as connection:
        connection.send(request(url, version="1.0"))
        assert not connection.answer(then=hold.release).complete


# Clients that disconnect.


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("held", [True, False], ids=["cached", "arriving"])
def test_a_client_that_leaves_midway_leaves_nothing(how: str, held: bool, pair: Pair) -> None:
    before = pair.open_files()
    _, url = pair.cached(BEYOND_BUFFERS) if held else pair.offer(BEYOND_BUFFERS)
    stream = raw.open_stream("GET", url)
    assert stream.read(1_000)
    stream.close() if how == "close" else stream.abort()
    pair.settles(before)


def test_those_who_leave_a_download_that_stalls_leave_nothing(pair: Pair) -> None:
    before = pair.open_files()
    lie = lies.stalled(LARGE // 2)
    content, url = pair.offer(LARGE, lie)
    streams = [raw.open_stream("GET", url) for _ in range(20)]
    assert lie.hold is not None
    assert lie.hold.reached.wait(30)
    for stream in streams:
        assert stream.read(1_000)
        stream.abort()
    lie.hold.release()
    pair.settles(before)
    assert raw.get(url).body == content


@pytest.mark.parametrize("where", ["before the headers", "within the headers"])
def test_a_client_that_leaves_early_leaves_nothing(where: str, pair: Pair) -> None:
    before = pair.open_files()
    lie = lies.stalled(-1)
    _, url = pair.offer(LARGE, lie)
    assert lie.hold is not None
    whole = request(url)
    connections = [RawConnection(pair.server) for _ in range(10)]
    for connection in connections:
        connection.send(whole if where == "before the headers" else whole[:40])
    if where == "before the headers":
        pair.upstream.requests.wait_for(1, path_contains=url[-64:])
    for connection in connections:
        connection.reset()
    lie.hold.release()
    pair.settles(before)


def test_many_who_leave_leave_nothing(pair: Pair) -> None:
    _, held = pair.cached(BEYOND_BUFFERS)
    before = pair.open_files()
    urls = [held, pair.offer(BEYOND_BUFFERS)[1], pair.offer(LARGE)[1], pair.server.url + UNKNOWN]

    def leave(number: int) -> None:
        with RawConnection(pair.server) as connection:
            connection.send(request(urls[number % len(urls)], *(["Range: bytes=7-"] if number % 3 else [])))
            if number % 5:
                connection.socket.recv(number * 100)
            if number % 2:
                connection.reset()

    with ThreadPoolExecutor(20) as clients:
        list(clients.map(leave, range(MANY)))
    pair.settles(before)
    assert raw.get(held).complete


# Names that a client gives the server.


def test_nothing_that_a_client_calls_the_server_comes_back(pair: Pair, images: Images) -> None:
    pair.upstream.offer(images.tiny)
    more = {"Link": '</v2/library/tiny/tags/list?n=1&last=latest>; rel="next"'}
    pair.upstream.behave("/tags/list", Lie(headers=more))
    _, blob = pair.cached(SMALL)
    evil = [
        ("Host", "evil.localhost:1234"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Proto", "evil"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-Host", "evil.example"),
        ("X-Original-URL", "/evil"),
        ("Forwarded", "host=evil.example;proto=evil"),
    ]
    tags = pair.server.proxied_url("library/tiny/tags/list?n=1")
    page = raw.get(tags, evil)
    expected = f"{pair.server.proxied_url('library/tiny/tags/list')}?n=1&last=latest"
    assert page.headers["link"] == f'<{expected}>; rel="next"'
    urls = [tags, blob, pair.server.proxied_url("library/tiny/manifests/latest")]
    urls += [pair.server.url + path for path in ("/v2/", "/v2", "/nothing", UNKNOWN, "/-/health", "/-/ready", "//x")]
    urls += [pair.server.proxied_url("quay.io/a/b/tags/list"), pair.server.proxied_url("A/tags/list")]
    for url in urls:
        for method in ("GET", "PUT", "POST"):
            found = raw.request(method, url, evil)
            told = "".join(f"{name}: {value}\n" for name, value in found.headers.lines) + found.body.decode("latin-1")
            assert "evil" not in told
            assert "location" not in found.headers


# Stopping.


@dataclass
class Streaming:
    """A pull in progress, which continues when its hold is released."""

    content: bytes
    stream: RawStream
    lie: Lie

    def finish(self) -> RawResponse:
        assert self.lie.hold is not None
        self.lie.hold.release()
        with self.stream as stream:
            body = stream.read_all()
        return RawResponse(stream.status, stream.headers, body, stream.complete, stream.reset, 0)


def begin(pair: Pair) -> Streaming:
    lie = lies.stalled(LARGE // 2)
    content, url = pair.offer(LARGE, lie)
    stream = raw.open_stream("GET", url)
    assert lie.hold is not None
    assert lie.hold.reached.wait(30)
    return Streaming(content, stream, lie)


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGTERM], [signal.SIGINT]],
    ids=["TERM", "INT"],
)
def test_a_server_that_is_stopped_finishes_what_it_is_sending(signals: list[signal.Signals], own: Pair) -> None:
    pull = begin(own)
    for number in signals:
        own.server.process.signal(number)
    wait_until(lambda: not answers_tcp(own.server.port)(), what="connections are still accepted")
    found = pull.finish()
    assert (found.status, found.complete, found.body) == (200, True, pull.content)
    assert own.server.process.wait(30) == 0
    assert "Traceback" not in own.server.log_text()
    assert not (own.server.data / "run.json").exists()
    assert sorted(file.name for file in (own.server.data / "spool").iterdir()) == ["leases", "uploads"]


def test_a_server_that_is_stopped_closes_the_connections_that_wait(own: Pair) -> None:
    with RawConnection(own.server) as idle, RawConnection(own.server) as silent:
        idle.send(request("/-/health"))
        assert idle.answer().status == 200
        own.server.process.signal(signal.SIGTERM)
        assert idle.ended()
        assert silent.ended()
    assert own.server.process.wait(30) == 0
    assert "Traceback" not in own.server.log_text()


def test_a_server_is_stopped_although_clients_left_with_requests_waiting(own: Pair) -> None:
    """A connection whose next request waits is not read while its first request runs, so its end is not seen."""
    before = own.open_files()
    _, url = own.cached(BEYOND_BUFFERS)
    for how in (RawConnection.reset, RawConnection.__exit__):
        for _ in range(5):
            connection = RawConnection(own.server)
            connection.send(request(url), request(url), request("/v2/"))
            assert connection.socket.recv(1_000)
            how(connection)
    own.settles(before)
    own.server.process.signal(signal.SIGTERM)
    assert own.server.process.wait(30) == 0
    assert "Traceback" not in own.server.log_text()


def test_a_server_that_is_stopped_in_the_moment_its_clients_leave_stops_at_once(
    gateway: Callable[..., Gateway], liar: Liar
) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(64)]
    for client in clients:
        client.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    for client in clients[:32]:
        client.close()
    server.process.signal(signal.SIGTERM)
    for client in clients[32:]:
        client.close()
    assert server.process.wait(30) == 0
