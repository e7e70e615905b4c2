"""Large bodies are read into reused buffers: not a byte is lost, added or taken from the next request."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.http.drain import DrainedRefusals, DrainLimits
from gateway.http.stalls import StalledClients, StallLimits
from gateway.server.buffers import BUFFER, BodyBuffers
from gateway.server.chunked_body import ChunkedBody
from gateway.server.client_connection import ConnectionInScope
from gateway.server.direct_body import LEAST_ROOM, ChunkedFraming, DirectBody
from gateway.server.large_body import LEAST_LEFT, accept_reused_buffers
from gateway.server.strict_connection import StrictConnection
from gateway.server.tls import TlsFiles
from tests.parts.certs import Authority
from tests.parts.images import seeded
from tests.parts.processes import HOST
from tests.security.serving import WITHIN, Served, read_to_end, serving

CONTENT = seeded("large body", 3 * BUFFER + 12_345)
NEXT = b"GET /next HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
SIZES = [100, 4096, 32 * 1024, BUFFER + 3]


@dataclass
class Reading:
    """An app that reads bodies, as far as `reads` says, and keeps what it saw of each request."""

    accepts: bool = True
    reads: int = 1 << 40
    paths: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    received: int = 0
    large: int = 0
    """Pieces that were in a reused buffer."""
    ended: Message | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Unset, the app waits after its first piece in a reused buffer."""
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        if self.accepts:
            accept_reused_buffers(scope)
        digest, begun = hashlib.sha256(), self.received
        while self.received - begun < self.reads:
            message = await receive()
            body = message.get("body", b"")
            if isinstance(body, memoryview):
                self.large += 1
                self.waiting.set()
                await self.go.wait()
            digest.update(body)
            self.received += len(body)
            if not message.get("more_body"):
                self.ended = message
                break
        self.digests.append(digest.hexdigest())
        text = digest.hexdigest().encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"64")]})
        await send({"type": "http.response.body", "body": text})


@dataclass
class Server:
    """A server of an app, with the pool of its buffers."""

    app: Reading
    served: Served
    buffers: BodyBuffers

    async def converse(self, *parts: bytes, half_close: bool = False) -> bytes:
        """Send the parts, each after the one before was taken, and read to the end of the connection."""
        loop, connection = asyncio.get_running_loop(), self.served.connect()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            reading = asyncio.ensure_future(read_to_end(connection))
            try:
                for part in parts:
                    await loop.sock_sendall(connection, part)
                    await asyncio.sleep(0)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except ConnectionError:
                pass  # the server has closed before it read everything
            return await reading


@asynccontextmanager
async def running(
    app: Reading,
    *,
    buffers: BodyBuffers | None = None,
    h11_type: type[StrictConnection] | None = None,
    stalls: StallLimits | None = None,
    tls: TlsFiles | None = None,
    drain: DrainLimits | None = None,
) -> AsyncIterator[Server]:
    """Serve an app within the middleware that reads bodies; all buffers must have come back in the end."""
    app.go.set()
    pool = buffers or BodyBuffers()
    wrapped = ConnectionInScope(StalledClients(DrainedRefusals(app, drain or DrainLimits()), stalls or StallLimits()))
    async with serving(wrapped, h11_type=h11_type, buffers=pool, tls=tls) as served:
        yield Server(app, served, pool)
    assert pool.taken == 0


def with_length(body: bytes, *lines: str) -> bytes:
    head = ["PUT /large HTTP/1.1", "Host: a.test", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def with_chunks(body: bytes, size: int, extension: str = "", trailers: str = "") -> bytes:
    head = b"PATCH /large HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    frames = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension.encode(), part) for part in parts)
    return head + frames + b"0\r\n" + trailers.encode() + b"\r\n"


def split(request: bytes, at: Sequence[int]) -> list[bytes]:
    """Split a request behind the offsets; a negative one counts from its end."""
    places = [0, *sorted(place % len(request) for place in at), len(request)]
    return [request[start:stop] for start, stop in pairwise(places)]


def converse_over_tls(port: int, sent: bytes, authority: Authority) -> bytes:
    context = ssl.create_default_context(cafile=authority.ca_file)
    received = b""
    with (
        socket.create_connection((HOST, port), timeout=WITHIN) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        connection.sendall(sent)
        while part := connection.recv(65_536):
            received += part
    return received


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


DIGEST = hashlib.sha256(CONTENT).hexdigest()
NOTHING = hashlib.sha256().hexdigest()
BODIES = {
    "a length": with_length(CONTENT),
    "100-continue": with_length(CONTENT, "Expect: 100-continue"),
    **{f"chunks of {size}": with_chunks(CONTENT, size) for size in SIZES},
    "one chunk": with_chunks(CONTENT, len(CONTENT)),
    "extensions and trailers": with_chunks(CONTENT, BUFFER, ";a=b", "A: b\r\nC: d\r\n"),
}


@pytest.mark.parametrize("sent", BODIES.values(), ids=BODIES)
async def test_a_large_body_is_read_into_buffers_and_the_next_request_is_answered(sent: bytes) -> None:
    app = Reading()
    async with running(app) as server:
        answers = await server.converse(sent + sent + NEXT)
    assert app.digests == [DIGEST, DIGEST, NOTHING]
    assert app.paths == ["/large", "/large", "/next"]
    assert answers.count(b"HTTP/1.1 200") == 3
    assert app.large >= 2


@pytest.mark.parametrize(
    "at", [(-1,), (-2, -4, -5), (70_000, 70_001, -1_000_000), (200, 300_000, 300_001, -3)], ids=str
)
@pytest.mark.parametrize("name", ["a length", "chunks of 4096", "chunks of 32768", "extensions and trailers"])
async def test_it_arrives_whole_however_it_is_divided(name: str, at: tuple[int, ...]) -> None:
    app = Reading()
    async with running(app) as server:
        answers = await server.converse(*split(BODIES[name], at), NEXT)
    assert (app.digests, answers.count(b"HTTP/1.1 200")) == ([DIGEST, NOTHING], 2)
    assert app.large


async def test_frames_that_arrive_byte_by_byte_are_decoded() -> None:
    """The bytes around a chunk are read singly, before and after the switch to buffers."""
    part = CONTENT[: 200 * 1024]
    frames = [bytes([byte]) for byte in b"32000;a=b\r\n"]
    end = [bytes([byte]) for byte in b"\r\n"]
    head = b"PATCH /large HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    last = [bytes([byte]) for byte in b"0\r\nA: b\r\n\r\n"]
    app = Reading()
    async with running(app) as server:
        answers = await server.converse(head, *(*frames, part, *end) * 3, *last, NEXT)
    assert app.digests == [hashlib.sha256(part * 3).hexdigest(), NOTHING]
    assert answers.count(b"HTTP/1.1 200") == 2
    assert app.large


async def test_nothing_is_read_past_a_length() -> None:
    """The next request lies in the socket while the body is read, and stays there."""
    app = Reading()
    requests = b"".join(with_length(CONTENT[: LEAST_LEFT + number]) for number in range(40))
    async with running(app) as server:
        await server.converse(requests + NEXT)
    expected = [hashlib.sha256(CONTENT[: LEAST_LEFT + number]).hexdigest() for number in range(40)]
    assert app.digests == [*expected, NOTHING]


async def test_a_body_of_any_length_arrives_whole_when_it_is_sent_at_once() -> None:
    """While the reader is held for the switch, more arrives, and what is left may be too little for it."""
    lengths = range(LEAST_LEFT, 4 * LEAST_LEFT + 1, 24 * 1024)
    for length in lengths:
        app = Reading()
        async with running(app) as server:
            await server.converse(with_length(CONTENT[:length]) + NEXT)
        assert app.digests == [hashlib.sha256(CONTENT[:length]).hexdigest(), NOTHING], length


@pytest.mark.parametrize("pool", [BodyBuffers(1), BodyBuffers(0)], ids=["one", "none"])
async def test_bodies_at_once_need_no_more_buffers_than_there_are(pool: BodyBuffers) -> None:
    app = Reading()
    async with running(app, buffers=pool) as server:
        await asyncio.gather(*(server.converse(BODIES[name] + NEXT) for name in ("a length", "chunks of 32768") * 4))
    assert sorted(app.digests) == sorted([DIGEST, NOTHING] * 8)


async def test_a_client_that_sends_nothing_more_holds_no_buffer() -> None:
    app = Reading()
    async with running(app) as server:
        connection = server.served.connect()
        with connection:
            await asyncio.get_running_loop().sock_sendall(connection, with_length(CONTENT)[: 2 * BUFFER])
            await until(lambda: app.received == 2 * BUFFER - len(with_length(CONTENT)) + len(CONTENT))
            await until(lambda: server.buffers.taken == 0)


async def test_a_piece_is_valid_until_the_next_is_requested() -> None:
    pieces: list[memoryview] = []

    class Keeping(Reading):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def receive_and_keep() -> Message:
                message = await receive()
                if isinstance(message.get("body"), memoryview):
                    for earlier in pieces:
                        with pytest.raises(ValueError, match="released"):
                            len(earlier)
                    pieces.append(message["body"])
                return message

            await super().__call__(scope, receive_and_keep, send)

    async with running(Keeping()) as server:
        await server.converse(BODIES["a length"] + NEXT)
    assert len(pieces) >= 2


@pytest.mark.parametrize("name", ["a length", "chunks of 32768"])
@pytest.mark.parametrize("share", [3, 2])
async def test_a_client_that_leaves_is_noticed_after_all_that_it_sent(name: str, share: int) -> None:
    app = Reading()
    sent = BODIES[name][: len(BODIES[name]) * (share - 1) // share]
    async with running(app) as server:
        await server.converse(sent, half_close=True)
        await until(lambda: app.ended is not None)
    assert app.ended == {"type": "http.disconnect"}
    head = sent.index(b"\r\n\r\n") + 4
    content = len(sent) - head if name == "a length" else (len(sent) - head) // (32 * 1024 + 8) * 32 * 1024
    assert 0 <= app.received - content <= (0 if name == "a length" else 32 * 1024)
    assert app.large


@pytest.mark.parametrize("bad", [b"8000\n", b"+1\r\n", b"1 \r\n", b"7fff\r\n" + bytes(32 * 1024)], ids=range(4))
async def test_a_refused_chunk_ends_the_connection(bad: bytes) -> None:
    good = with_chunks(CONTENT, 32 * 1024).removesuffix(b"0\r\n\r\n")
    app = Reading()
    async with running(app) as server:
        answers = await server.converse(good + bad + NEXT)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert (answers.count(b"HTTP/1.1"), app.paths, app.ended) == (1, ["/large"], {"type": "http.disconnect"})
    assert app.large


@pytest.mark.parametrize("size, at_once", [(100, 64 * 1024), (8 * 1024, 256 * 1024), (32 * 1024, 512 * 1024)])
def test_fewer_bytes_of_small_chunks_are_read_at_once(size: int, at_once: int) -> None:
    """To decode a chunk takes 3 to 13 microseconds, in which the worker does nothing else."""
    chunks = ChunkedBody()
    chunks.decode(with_chunks(CONTENT, size).partition(b"\r\n\r\n")[2][: 200 * 1024])
    assert ChunkedFraming(chunks).limit(BUFFER) == at_once


class Transport:
    """A transport that notes whether it reads."""

    def __init__(self) -> None:
        self.reads = False

    def get_protocol(self) -> None:
        return None

    def set_protocol(self, protocol: object) -> None:
        pass

    def resume_reading(self) -> None:
        self.reads = True

    def pause_reading(self) -> None:
        self.reads = False


async def test_a_buffer_that_frames_left_a_little_room_in_is_given_without_another_read() -> None:
    transport, content = Transport(), bytes(range(256)) * 8192
    sent = with_chunks(content, 32 * 1024).partition(b"\r\n\r\n")[2]
    chunks = ChunkedBody()
    begun = 200 * 1024
    decoded, _ = chunks.decode(sent[:begun])
    unused: Any = None
    body = DirectBody(transport, unused, ChunkedFraming(chunks), BodyBuffers(), unused)
    at = begun
    while transport.reads:
        assert at < begun + BUFFER, "a read for the room that frames have left"
        view = body.get_buffer(-1)
        view[:] = sent[at : at + len(view)]
        at += len(view)
        body.buffer_updated(len(view))
    piece = await body.receive()
    assert piece is not None and BUFFER - LEAST_ROOM < len(piece) < BUFFER
    start = sum(part.stop - part.start for part in decoded)
    assert piece == content[start : start + len(piece)]
    body.close()


@pytest.mark.parametrize("name", ["a length", "chunks of 32768"])
async def test_a_body_whose_response_is_early_is_drained(name: str) -> None:
    app = Reading(reads=BUFFER)
    async with running(app) as server:
        answers = await server.converse(BODIES[name] + NEXT)
    assert (app.paths, answers.count(b"HTTP/1.1 200")) == (["/large", "/next"], 2)


@pytest.mark.parametrize("name", ["a length", "chunks of 32768"])
async def test_a_body_that_is_not_read_to_its_end_ends_the_connection(name: str) -> None:
    """Its content has the form of a request."""
    app, begin = Reading(reads=LEAST_LEFT), BODIES[name][: BODIES[name].index(b"\r\n\r\n") + 4]
    requests = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n" * 80_000
    body = with_chunks(requests, 32 * 1024).partition(b"\r\n\r\n")[2] if b"chunked" in begin else requests
    async with running(app, drain=DrainLimits(bytes=0)) as server:
        answers = await server.converse(begin + body + NEXT)
    assert app.paths == ["/large"]
    assert answers.count(b"HTTP/1.1") <= 1, "the response may be lost to the reset that unread bytes cause"
    assert app.large


async def test_the_buffer_of_an_app_that_ended_is_not_used_again() -> None:
    pieces: list[memoryview] = []

    class Ending(Reading):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            accept_reused_buffers(scope)
            while not isinstance(body := (await receive())["body"], memoryview):
                pass
            pieces.append(body)

    async with running(Ending(), drain=DrainLimits(bytes=0)) as server:
        for _ in range(3):
            await server.converse(BODIES["a length"])
    assert len({id(piece.obj) for piece in pieces}) == len(pieces) == 3


@pytest.mark.parametrize("h11_type, tls", [(StrictConnection, False), (None, True)], ids=["unknown h11", "TLS"])
async def test_elsewhere_a_large_body_arrives_as_it_always_does(
    h11_type: type[StrictConnection] | None, tls: bool, authority: Authority
) -> None:
    app = Reading()
    files = TlsFiles(authority.cert_file, authority.key_file)
    sent = BODIES["chunks of 32768"] + NEXT
    async with running(app, h11_type=h11_type, tls=files if tls else None) as server:
        if tls:
            answers = await asyncio.to_thread(converse_over_tls, server.served.port, sent, authority)
        else:
            answers = await server.converse(sent)
    assert (app.digests, app.large, answers.count(b"HTTP/1.1 200")) == ([DIGEST, NOTHING], 0, 2)


async def test_who_does_not_accept_buffers_receives_bytes() -> None:
    app = Reading(accepts=False)
    async with running(app) as server:
        await server.converse(BODIES["a length"] + NEXT)
    assert (app.digests, app.large) == ([DIGEST, NOTHING], 0)


async def test_a_large_body_that_stalls_is_aborted() -> None:
    app = Reading()
    async with running(app, stalls=StallLimits(body_window=0.3)) as server:
        connection = server.served.connect()
        with connection:
            await asyncio.get_running_loop().sock_sendall(connection, with_length(CONTENT)[: 2 * BUFFER])
            assert await read_to_end(connection) == b""
    assert app.ended == {"type": "http.disconnect"}
    assert app.large
