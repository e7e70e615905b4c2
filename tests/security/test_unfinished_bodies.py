"""Tests of clients that send the head of a request and not its body: they keep nobody else out."""

import asyncio
import gc
from contextlib import ExitStack

import pytest
from starlette.types import Receive, Scope, Send

from gateway.http.drain import DrainedRefusals
from gateway.http.stalls import StalledClients
from gateway.server.client_connection import ConnectionInScope, note_accepted
from gateway.server.connection_reader import ConnectionReader
from tests.parts.processes import wait_until

from .serving import pong, read_to_end, serving

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n"
CONNECTIONS = 5


class BodyReader:
    """App that reads the body and then responds; `accepts`: it has accepted the credential of a request with a body."""

    def __init__(self, *, accepts: bool) -> None:
        self._accepts = accepts
        self.reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            if self._accepts:
                note_accepted(scope)
            self.reading += 1
            while (await receive()).get("more_body"):
                pass
            self.reading -= 1
        await pong(scope, receive, send)


@pytest.mark.parametrize("begun", [b"", b"x" * 10], ids=["nothing of it", "a part of it"])
@pytest.mark.parametrize("refused", [False, True], ids=["read", "refused"])
async def test_a_request_that_waits_for_its_body_gives_way_to_a_new_connection(begun: bytes, refused: bool) -> None:
    reader, loop = BodyReader(accepts=False), asyncio.get_running_loop()
    app = ConnectionInScope(StalledClients(DrainedRefusals(pong if refused else reader)))
    async with serving(app, connections=CONNECTIONS) as served:
        before = served.descriptors
        with ExitStack() as stack:
            for _ in range(3 * CONNECTIONS):
                silent = stack.enter_context(served.connect())
                await loop.sock_sendall(silent, POST + begun)
            for _ in range(3):
                with served.connect() as connection:
                    await loop.sock_sendall(connection, GET)
                    assert (await read_to_end(connection)).endswith(b"pong")
        await served.settles(before)
    assert reader.reading == 0


async def test_a_request_with_an_accepted_credential_keeps_its_place_while_its_body_arrives() -> None:
    reader, loop = BodyReader(accepts=True), asyncio.get_running_loop()
    app = ConnectionInScope(StalledClients(DrainedRefusals(reader)))
    async with serving(app, connections=CONNECTIONS) as served:
        with ExitStack() as stack:
            pushes = [stack.enter_context(served.connect()) for _ in range(CONNECTIONS)]
            for push in pushes:
                await loop.sock_sendall(push, POST)
            await asyncio.to_thread(wait_until, lambda: reader.reading == CONNECTIONS)
            with served.connect() as late:
                await loop.sock_sendall(late, GET)
                assert (await read_to_end(late)).startswith(b"HTTP/1.1 503 ")
            for push in pushes:
                await loop.sock_sendall(push, b"x" * 1000)
                assert (await loop.sock_recv(push, 1000)).startswith(b"HTTP/1.1 200 ")


async def test_of_a_body_that_no_app_reads_little_is_kept() -> None:
    reached, ending = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.set()
        await ending.wait()
        await pong(scope, receive, send)

    async with serving(app, connections=CONNECTIONS) as served:
        with served.connect() as client:
            sent = client.send(POST.replace(b"1000", b"100000000") + bytes(2_000_000))
            assert sent > 500_000
            await reached.wait()
            await asyncio.sleep(0.2)
            kept = [len(each._buffer) for each in gc.get_objects() if isinstance(each, ConnectionReader)]  # type: ignore[attr-defined]
            assert 0 < max(kept) <= 3 * 64 * 1024
        ending.set()
