"""Tests of clients that hold connections: each of them is disconnected in time, and no other client is affected."""

import asyncio
import os
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.cli import folder
from gateway.http.disconnect import while_connected
from gateway.http.stalls import DEFAULT_STALL_LIMITS, StalledClients, StallLimits
from gateway.server.client_connection import ConnectionInScope
from gateway.server.timings import DEFAULT_TIMINGS, ServerTimings
from gateway.server.tls import TlsFiles
from gateway.server.unsent import Unsent
from gateway.server.zerocopy import EXTENSION, ZeroCopy
from gateway.settings.tables import Settings
from gateway.wiring.app import running
from tests.conftest import GatewayFactory
from tests.e2e.datafolder import trouble
from tests.parts import raw
from tests.parts.certs import Authority
from tests.parts.gateway import Gateway
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.processes import HOST, wait_until

from .conftest import descriptors
from .serving import SMALL_BUFFER, Served, pong, read_to_end, serving

TIMEOUT = 0.3
WINDOW = 0.4
SHORT_IDLE = ServerTimings(keep_alive=WINDOW)
SHORT_WINDOW = StallLimits(body_window=WINDOW)
PIECE = 256 * 1024
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_AND_CLOSE = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_nobody_holds_a_connection_for_longer_than_this() -> None:
    assert DEFAULT_TIMINGS.keep_alive <= 10
    assert DEFAULT_STALL_LIMITS.body_window <= 30
    assert DEFAULT_STALL_LIMITS.body_bytes / DEFAULT_STALL_LIMITS.body_window >= 1024
    assert DEFAULT_STALL_LIMITS.response_window <= 60
    assert DEFAULT_STALL_LIMITS.response_rate >= 1024
    assert DEFAULT_TIMINGS.last_bytes <= 60
    assert DEFAULT_TIMINGS.tls_handshake <= 10


# Heads.


@pytest.mark.parametrize("first", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a.test\r\n"])
async def test_a_head_that_comes_too_slowly_ends_the_connection(first: bytes) -> None:
    """The connection ends even if more of the head keeps arriving."""
    async with serving(pong, timings=SHORT_IDLE) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect() as connection:
            began = time.monotonic()
            await loop.sock_sendall(connection, first)

            async def trickle() -> None:
                with suppress(ConnectionError):
                    while first:
                        await asyncio.sleep(WINDOW / 5)
                        await loop.sock_sendall(connection, b"A")

            trickling = asyncio.ensure_future(trickle())
            assert await read_to_end(connection) == b""
            assert WINDOW * 0.9 < time.monotonic() - began < WINDOW * 4
            trickling.cancel()
        await served.settles(before)


async def test_a_connection_that_is_kept_is_closed_when_it_stays_idle() -> None:
    async with serving(pong, timings=SHORT_IDLE) as served:
        with served.connect() as connection:
            await asyncio.get_running_loop().sock_sendall(connection, GET)
            assert (await read_to_end(connection)).endswith(b"pong")


async def test_a_client_that_leaves_after_its_answer_is_not_waited_for() -> None:
    async with serving(pong) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        began = time.monotonic()
        for request in (GET, b""):
            with served.connect() as connection:
                await loop.sock_sendall(connection, request)
                if request:
                    assert await loop.sock_recv(connection, 1000)
        await served.settles(before)
        assert time.monotonic() - began < DEFAULT_TIMINGS.keep_alive / 2


# Request bodies.


class Reader:
    """Reads every body to its end, and records the last message it received."""

    last: Message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            self.last = await receive()
            if self.last["type"] == "http.disconnect" or not self.last["more_body"]:
                break
        await pong(scope, receive, send)


@pytest.mark.parametrize("framing", [POST, CHUNKED])
@pytest.mark.parametrize("trickles", [False, True])
async def test_a_body_that_comes_too_slowly_ends_the_connection(framing: bytes, trickles: bool) -> None:
    reader = Reader()
    async with serving(ConnectionInScope(StalledClients(reader, SHORT_WINDOW))) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect() as connection:
            await loop.sock_sendall(connection, framing)

            async def trickle() -> None:
                with suppress(ConnectionError):
                    while trickles:
                        await loop.sock_sendall(connection, b"1\r\na\r\n")
                        await asyncio.sleep(WINDOW / 10)

            trickling = asyncio.ensure_future(trickle())
            began = time.monotonic()
            assert await read_to_end(connection) == b""
            assert time.monotonic() - began < WINDOW * 4
            assert reader.last["type"] == "http.disconnect"
            trickling.cancel()
        await served.settles(before)


async def test_a_body_that_brings_enough_in_each_window_goes_on() -> None:
    limits = StallLimits(body_window=WINDOW, body_bytes=1000)
    reader = Reader()
    async with serving(ConnectionInScope(StalledClients(reader, limits))) as served:
        loop = asyncio.get_running_loop()
        with served.connect() as connection:
            await loop.sock_sendall(
                connection, POST.replace(b"1000000", b"8000").replace(b"Host", b"Connection: close\r\nHost")
            )
            for _ in range(8):
                await asyncio.sleep(WINDOW / 3)
                await loop.sock_sendall(connection, bytes(1000))
            assert (await read_to_end(connection)).endswith(b"pong")
    assert reader.last["type"] == "http.request"


# Responses.


class Endless:
    """Sends endless responses, from memory or from a file, as long as the client is connected."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._answer(scope, send))

    async def _answer(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await asyncio.sleep(0)  # reading a piece takes a turn of the loop too
            if self._file is not None and EXTENSION in scope["extensions"]:
                message: dict[str, Any] = {"type": EXTENSION, "file": self._file, "offset": 0, "count": PIECE}
            else:
                message = {"type": "http.response.body", "body": bytes(PIECE)}
            await send(message | {"more_body": True})


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.truncate(PIECE)
        yield file


def watched(app: ASGIApp, zero_copy: bool) -> ASGIApp:
    return ConnectionInScope(ZeroCopy(StalledClients(app, StallLimits(response_window=TIMEOUT)), zero_copy))


@pytest.mark.parametrize("zero_copy", [False, True])
@pytest.mark.parametrize("requests", [1, 3])
async def test_an_answer_that_nobody_takes_is_ended(zero_copy: bool, requests: int, file: IO[bytes]) -> None:
    """A response that the client does not read is ended, even if more requests wait behind it and the connection is
    therefore not read."""
    async with serving(watched(Endless(file), zero_copy)) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect(SMALL_BUFFER) as connection:
            await loop.sock_sendall(connection, GET * requests)
            assert await loop.sock_recv(connection, 1000)
            await served.settles(before + 1)
            await read_to_end(connection)


@pytest.mark.parametrize("zero_copy", [False, True])
async def test_an_answer_that_is_taken_slowly_goes_on(zero_copy: bool, file: IO[bytes]) -> None:
    async with serving(watched(Endless(file), zero_copy)) as served:
        loop = asyncio.get_running_loop()
        with served.connect(SMALL_BUFFER) as connection:
            await loop.sock_sendall(connection, GET)
            began = time.monotonic()
            while time.monotonic() - began < TIMEOUT * 6:
                await asyncio.sleep(TIMEOUT / 8)
                assert await loop.sock_recv(connection, 2000)


@pytest.mark.parametrize("zero_copy", [False, True])
async def test_an_answer_that_is_taken_too_slowly_is_ended(zero_copy: bool, file: IO[bytes]) -> None:
    """A client that receives some bytes in each window, but too few, is disconnected, whether or not the bytes of one
    message are enough to make the response wait for that long."""
    limits = StallLimits(response_window=WINDOW, response_rate=10_000_000)
    async with serving(ConnectionInScope(ZeroCopy(StalledClients(Endless(file), limits), zero_copy))) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect(SMALL_BUFFER) as connection:
            await loop.sock_sendall(connection, GET)

            async def trickle() -> None:
                with suppress(ConnectionError):
                    while True:
                        await asyncio.sleep(WINDOW / 20)
                        if not await loop.sock_recv(connection, 2000):
                            break

            trickling = asyncio.ensure_future(trickle())
            await served.settles(before + 1)
            await trickling


@pytest.mark.parametrize("request_", [GET, GET_AND_CLOSE])
@pytest.mark.parametrize("size", [40_000, 60_000])
async def test_a_short_answer_that_nobody_takes_is_ended_too(request_: bytes, size: int) -> None:
    """A short response that the client does not read is ended too: it fits into the server's buffers, so only closing
    waits."""
    timings = ServerTimings(keep_alive=WINDOW, last_bytes=TIMEOUT)

    async def short(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.body", "body": bytes(size)})

    async with serving(ConnectionInScope(StalledClients(short)), timings=timings) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect(SMALL_BUFFER) as connection:
            await loop.sock_sendall(connection, request_)
            await loop.sock_recv(connection, 100)
            await served.settles(before + 1)


async def test_what_waits_for_all_is_limited() -> None:
    """Above the limit the responses that have waited longest are ended; a client that receives is served."""

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        body = os.urandom(8) * 250_000
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    unsent = Unsent(7_000_000)
    async with serving(ConnectionInScope(StalledClients(large)), unsent=unsent) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with ExitStack() as held:
            for _ in range(10):
                connection = held.enter_context(served.connect(SMALL_BUFFER))
                await loop.sock_sendall(connection, GET)
                assert await loop.sock_recv(connection, 100)
            await served.settles(before + 10 + 3)
            assert unsent.bytes > 0
            with served.connect() as healthy:
                await loop.sock_sendall(healthy, GET_AND_CLOSE)
                assert len(await read_to_end(healthy)) > 2_000_000
        await served.settles(before)
        assert unsent.bytes == 0


async def test_a_stopped_server_does_not_wait_for_those_who_take_nothing(file: IO[bytes]) -> None:
    app = ConnectionInScope(ZeroCopy(StalledClients(Endless(file))))
    with ExitStack() as held:
        async with serving(app) as served:
            loop = asyncio.get_running_loop()
            for _ in range(5):
                connection = held.enter_context(served.connect(SMALL_BUFFER))
                await loop.sock_sendall(connection, GET * 2)
                assert await loop.sock_recv(connection, 100)


async def test_the_application_notices_them_too(liar: Liar, scratch: Path) -> None:
    """The whole application ends such clients as well, with a cached blob that is sent from its file."""
    digest = liar.offer_blob(seeded("not taken", 3_000_000))
    settings = Settings.model_validate({"data": str(scratch), "upstreams": {"docker.io": liar.settings()}})
    request = GET.replace(b"a.test", b"localhost").replace(
        b" / ", f" /v2/hub/dependency_proxy/containers/library/any/blobs/{digest} ".encode()
    )
    await prepare(scratch)
    limits = StallLimits(response_window=TIMEOUT)
    async with running(settings, ["http://127.0.0.1:8080"], stalls=limits) as [app], serving(app) as served:
        await asyncio.to_thread(raw.get, f"http://{HOST}:{served.port}{request.split()[1].decode()}")
        before, loop = served.descriptors, asyncio.get_running_loop()
        with served.connect(SMALL_BUFFER) as connection:
            await loop.sock_sendall(connection, request * 2)
            assert await loop.sock_recv(connection, 1000)
            await served.settles(before + 1)


async def prepare(data: Path) -> None:
    async with folder.open_made(Settings.model_validate({"data": str(data)})):
        pass


# Many clients.

PUT_OF_SOME_SIZE = b"PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999\r\n\r\n" + bytes(99_999)


WAIT = b"GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n"


class PongOrWait:
    """Responds at once, or on /wait when the client has left."""

    def __init__(self) -> None:
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            self.waiting += 1
            while (await receive())["type"] != "http.disconnect":
                pass
        await pong(scope, receive, send)

    async def occupy(self, served: Served, stack: AsyncExitStack, count: int) -> list[socket.socket]:
        """Make connections that have requests in progress, and are reset when they are closed."""
        held = [stack.enter_context(served.connect()) for _ in range(count)]
        for connection in held:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await asyncio.get_running_loop().sock_sendall(connection, WAIT)
        await asyncio.to_thread(wait_until, lambda: self.waiting == count)
        return held


async def test_above_the_cap_a_connection_is_told_to_come_back_and_below_it_served() -> None:
    app = PongOrWait()
    async with serving(app, connections=3) as served, AsyncExitStack() as stack:
        before = served.descriptors
        held = await app.occupy(served, stack, 3)
        with served.connect() as late:
            told = await read_to_end(late)
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in told
        held.pop().close()
        await served.reaches(before + 4)
        assert await asked(served) == b"pong"
        for connection in held:
            connection.close()
        await served.settles(before)
        for _ in range(10):
            assert await asked(served) == b"pong"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", GET], ids=["nothing", "half a head", "one request"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_those_who_only_connect_give_way_to_those_with_a_request(
    sent: bytes, encrypted: bool, authority: Authority
) -> None:
    """Connections without a request in progress, or without their TLS handshake, take no place from a new one."""
    tls = TlsFiles(authority.cert_file, authority.key_file) if encrypted else None
    async with serving(PongOrWait(), connections=5, tls=tls) as served:
        before, loop = served.descriptors, asyncio.get_running_loop()
        with ExitStack() as stack:
            for _ in range(50):
                silent = stack.enter_context(served.connect())
                if sent and not encrypted:
                    await loop.sock_sendall(silent, sent)
            url = f"{'https' if encrypted else 'http'}://{HOST}:{served.port}/"
            for _ in range(3):
                answer = await asyncio.to_thread(raw.get, url, context=authority.client_context() if tls else None)
                assert answer.body == b"pong"
            await served.settles(before + 50 + 5)
        await served.settles(before)


@pytest.mark.parametrize("sent", [GET_AND_CLOSE, PUT_OF_SOME_SIZE], ids=["a request", "with a body"])
async def test_what_is_said_above_the_cap_is_not_lost_with_the_connection(sent: bytes) -> None:
    app, loop = PongOrWait(), asyncio.get_running_loop()
    async with serving(app, connections=1) as served, AsyncExitStack() as stack:
        await app.occupy(served, stack, 1)
        for _ in range(20):
            with served.connect() as late:
                await loop.sock_sendall(late, sent)
                late.shutdown(socket.SHUT_WR)
                assert (await loop.sock_recv(late, 1000)).startswith(b"HTTP/1.1 503 ")
                assert await loop.sock_recv(late, 1000) == b"", "no reset"


async def test_who_stays_above_the_cap_is_left_alone_after_a_moment() -> None:
    app, timings = PongOrWait(), ServerTimings(rejection=0.1)
    async with serving(app, connections=1, timings=timings) as served, AsyncExitStack() as stack:
        await app.occupy(served, stack, 1)
        before = served.descriptors
        late = [stack.enter_context(served.connect()) for _ in range(5)]
        await served.settles(before + len(late))


async def asked(served: Served) -> bytes:
    with served.connect() as connection:
        await asyncio.get_running_loop().sock_sendall(connection, GET_AND_CLOSE)
        return (await read_to_end(connection))[-4:]


HOSTILE = 125
PULLS = 24
HEALTHY_WITHIN = 30


class Attackers:
    """Sockets of four kinds that occupy a server: half a head, half a body, no reading, leaving early."""

    def __init__(self, port: int, blob: str) -> None:
        self._port, self._target = port, blob.encode()
        self._held = ExitStack()

    def __enter__(self) -> "Attackers":
        for _ in range(HOSTILE):
            self._send(b"GET " + self._target + b" HTTP/1.1\r\nHost: localhost\r\nA: ")
            self._send(b"POST " + self._target + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc")
            self._send(b"GET " + self._target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def leave_early(self, number: int) -> None:
        connection = self._send(b"GET " + self._target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", hold=False)
        with suppress(ConnectionError):
            connection.recv(1000)
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _send(self, data: bytes, hold: bool = True) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        connection.settimeout(HEALTHY_WITHIN)
        connection.connect((HOST, self._port))
        connection.sendall(data)
        return self._held.enter_context(connection) if hold else connection


def test_500_hostile_sockets_stop_no_healthy_pull_and_leave_nothing(gateway: GatewayFactory, liar: Liar) -> None:
    content = seeded("beside attackers", 3_000_000)
    digest = liar.offer_blob(content)
    target = gateway({"upstreams": {"docker.io": liar.settings()}})
    url = target.proxied_url(f"library/any/blobs/{digest}")
    pull_all(target, url, digest, 1)
    wait_until(lambda: raw.head(url).headers["x-cache"] == "HIT")
    wait_until(lambda: steady(target))
    before = descriptors(target.worker)
    with Attackers(target.port, url.removeprefix(target.url)) as attackers:
        wait_until(lambda: descriptors(target.worker) >= before + 3 * HOSTILE)
        with ThreadPoolExecutor(4) as leaving:
            left = leaving.map(attackers.leave_early, range(HOSTILE))
            pull_all(target, url, digest, PULLS)
            assert len(list(left)) == HOSTILE
        assert descriptors(target.worker) >= before + 2 * HOSTILE, "the attackers are no longer connected"
    wait_until(lambda: descriptors(target.worker) <= before, within=30)
    pull_all(target, url, digest, PULLS)
    assert trouble(target) == []


def pull_all(target: Gateway, url: str, digest: str, count: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: raw.get(url, timeout=HEALTHY_WITHIN), range(count)))
    assert [(answer.status, answer.complete, answer.digest) for answer in answers] == [(200, True, digest)] * count


def steady(target: Gateway) -> bool:
    """Whether no connection opens or closes for a moment."""
    seen = set()
    for _ in range(5):
        seen.add(descriptors(target.worker))
        time.sleep(0.05)
    return len(seen) == 1
