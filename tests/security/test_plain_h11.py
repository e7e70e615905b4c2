"""The server on an unknown version of h11, by its public interface alone: it refuses the same heads, and serves."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.drain import DrainedRefusals
from gateway.http.stalls import StalledClients, StallLimits
from gateway.server.client_connection import ConnectionInScope
from gateway.server.strict_connection import StrictConnection
from gateway.server.timings import ServerTimings
from gateway.server.zerocopy import EXTENSION, ZeroCopy

from .serving import pong, read_to_end, serving
from .test_vectors import BOUND, MARK_PATTERN, Conversation, converse_all, every_vector
from .vectors import Vector

SHORT = ServerTimings(keep_alive=1.0)
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
UPGRADES = {
    "HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "a web socket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
}
Vectors = tuple[dict[str, Conversation], dict[str, list[str]]]


class NotFound:
    """Responds 404 with the path, and keeps the paths by the mark in each."""

    def __init__(self) -> None:
        self.handled: dict[str, list[str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode()
        if mark := MARK_PATTERN.search(path):
            self.handled.setdefault(mark[0], []).append(path)
        body = json.dumps({"path": path}).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def found() -> Vectors:
    """Sends each vector to the server; returns the responses, and the requests that were handled."""
    app = NotFound()
    limited = ConnectionInScope(StalledClients(DrainedRefusals(app), StallLimits(body_window=2.0)))

    async def run() -> dict[str, Conversation]:
        async with serving(limited, timings=SHORT, h11_type=StrictConnection) as served:
            return await asyncio.to_thread(converse_all, served.port, BOUND)

    return asyncio.run(run()), app.handled


@every_vector
def test_a_vector_is_answered_or_closed_as_the_table_says(vector: Vector, found: Vectors) -> None:
    conversation = found[0][vector.name]
    paths = found[1].get(conversation.mark, [])
    assert conversation.ended
    assert conversation.next_is_own
    assert len(paths) == vector.handled
    assert sum(path.startswith("/smuggled") for path in paths) == vector.smuggled
    if not vector.leaves:
        assert (conversation.answers[0] if conversation.answers else None) in vector.answers
        assert len(conversation.answers) <= vector.requests


@pytest.mark.parametrize("lines", UPGRADES.values(), ids=UPGRADES)
async def test_no_other_protocol_is_spoken(lines: bytes) -> None:
    assert (await exchanged(pong, LAST.replace(b"Connection: close\r\n", lines) + LAST)).count(b"pong") == 2


async def test_requests_that_are_sent_at_once_are_answered_in_order() -> None:
    assert (await exchanged(pong, GET * 3 + LAST)).count(b"HTTP/1.1 200 ") == 4


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(b"from a file")
        file.flush()
        yield file


async def test_a_file_is_sent_without_being_read(file: IO[bytes]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"11")]})
        message: dict[str, Any] = {"type": EXTENSION, "file": file, "offset": 0, "count": 11}
        await send(message)

    assert (await exchanged(ConnectionInScope(ZeroCopy(app)), GET + LAST)).count(b"\r\n\r\nfrom a file") == 2


async def exchanged(app: ASGIApp, sent: bytes) -> bytes:
    async with serving(app, timings=SHORT, h11_type=StrictConnection) as served:
        with served.connect() as connection:
            await asyncio.get_running_loop().sock_sendall(connection, sent)
            return await read_to_end(connection)
