"""A server that others replace: it accepts no more, and serves to its end what it has accepted."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from gateway.observability.server_state import ServerState
from gateway.server.http_server import Server
from tests.parts.processes import HOST, wait_until

WITHIN = 10.0
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@dataclass
class Replaced:
    """A server with what ends it, and the app that it serves, whose response waits for `released`."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    retire: asyncio.Event = field(default_factory=asyncio.Event)
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    state: ServerState = field(default_factory=ServerState)
    listener: socket.socket = field(default_factory=lambda: socket.create_server((HOST, 0)))

    def __post_init__(self) -> None:
        self.port = self.listener.getsockname()[1]
        server = Server(self._app, server_state=self.state)
        serving = server.serve(self.listener, self.stop, 0.2, retire=self.retire)
        self.serving = asyncio.ensure_future(serving)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        before = self.state.connections
        opened = await asyncio.open_connection(HOST, self.port)
        await asyncio.to_thread(wait_until, lambda: self.state.connections > before, WITHIN)
        return opened

    async def ends(self) -> None:
        async with asyncio.timeout(WITHIN):
            await self.serving

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requested.set()
        await self.released.wait()
        await PlainTextResponse("served")(scope, receive, send)


@pytest.fixture
async def server() -> AsyncIterator[Replaced]:
    replaced = Replaced()
    await asyncio.sleep(0)
    yield replaced
    replaced.stop.set()
    replaced.released.set()
    await replaced.ends()


async def test_the_first_request_of_a_connection_is_served_after_it(server: Replaced) -> None:
    reader, writer = await server.connect()
    server.retire.set()
    async with asyncio.timeout(WITHIN):
        await server.state.closed.wait()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, server.port)
        assert not server.state.stopping, "others serve in its place"
        server.released.set()
        writer.write(REQUEST)
        response = await reader.read()  # to the end of the connection
    assert response.startswith(b"HTTP/1.1 200")
    assert response.endswith(b"served")
    await server.ends()
    writer.close()


async def test_a_response_has_as_long_as_it_needs_and_an_idle_connection_ends(server: Replaced) -> None:
    idle_reader, idle_writer = await server.connect()
    server.released.set()
    idle_writer.write(REQUEST)
    assert b"200" in await idle_reader.readline()
    server.released.clear()
    server.requested.clear()
    reader, writer = await server.connect()
    writer.write(REQUEST)
    async with asyncio.timeout(WITHIN):
        await server.requested.wait()
        server.retire.set()
        assert (await idle_reader.read()).endswith(b"served")
        done, _ = await asyncio.wait({server.serving}, timeout=0.5)  # longer than the grace of a stop
        assert not done
        server.released.set()
        assert (await reader.read()).endswith(b"served")
    await server.ends()
    for each in (idle_writer, writer):
        each.close()


async def test_a_stop_limits_what_still_runs(server: Replaced) -> None:
    _, new = await server.connect()
    reader, writer = await server.connect()
    writer.write(REQUEST)
    async with asyncio.timeout(WITHIN):
        await server.requested.wait()
        server.retire.set()
        await server.state.closed.wait()
        server.stop.set()
        assert b"served" not in await reader.read()
    await server.ends()
    for each in (new, writer):
        each.close()
