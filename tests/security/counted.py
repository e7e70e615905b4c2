"""A server in the test's process whose connections, tasks and descriptors are counted, with one path for each way of
responding."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.access_log import AccessLog
from gateway.http.disconnect import while_connected
from gateway.http.drain import DrainedRefusals, DrainLimits
from gateway.http.errors import unexpected_response
from gateway.http.stalls import StalledClients
from gateway.observability.server_state import ServerState
from gateway.server.client_connection import ConnectionInScope
from gateway.server.http_server import Server
from gateway.server.large_body import accept_reused_buffers
from gateway.server.strict_connection import StrictConnection
from gateway.server.timings import ServerTimings
from gateway.server.tls import TlsFiles
from gateway.server.zerocopy import EXTENSION, ZeroCopy
from tests.parts.processes import HOST

from .serving import SMALL_BUFFER

WITHIN = 20.0
BODY = 400_000
TIMINGS = ServerTimings(keep_alive=600, last_bytes=600, tls_handshake=600)
"""Limits that no test reaches: what a client has left behind must not wait for one of them."""


class Handlers:
    """An app with one path for each way of responding; `waiting` is set while a handler waits for `go`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False
        self.broken_off: OSError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["path"].strip("/"))(scope, receive, send)

    async def whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(send, 4)
        await send({"type": "http.response.body", "body": b"pong"})

    async def short(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _start(send, 10)
        await send({"type": "http.response.body", "body": b"pong", "more_body": True})

    async def fails(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ArithmeticError("a handler that fails")

    async def fails_later(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.short(scope, receive, send)
        raise ArithmeticError("a handler that fails")

    async def waits(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.waiting.set()
        await self.go.wait()
        await self.whole(scope, receive, send)

    async def waits_within(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits after a part of the response, as long as the client is connected."""

        async def respond() -> None:
            try:
                await _start(send, 10)
                await send({"type": "http.response.body", "body": b"pong", "more_body": True})
                self.waiting.set()
                await self.go.wait()
                await send({"type": "http.response.body", "body": b"-pong!"})
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        await while_connected(receive, respond())

    async def reads(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            self.waiting.set()
        await self.whole(scope, receive, send)

    async def reads_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads into buffers that are used again, and waits once it has the first of them."""
        accept_reused_buffers(scope)
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            if isinstance(message["body"], memoryview):
                self.waiting.set()
                await self.go.wait()
        await self.whole(scope, receive, send)

    async def ends_within_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds in the midst of a body that it has begun to read into such buffers."""
        accept_reused_buffers(scope)
        while (message := await receive())["type"] == "http.request" and not isinstance(message["body"], memoryview):
            pass
        await self.whole(scope, receive, send)

    async def large(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def respond() -> None:
            await _start(send, BODY)
            for _ in range(0, BODY, 1000):
                await send({"type": "http.response.body", "body": bytes(1000), "more_body": True})
            await send({"type": "http.response.body"})

        await while_connected(receive, respond())

    async def waits_for_file(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.waiting.set()
        await self.go.wait()
        await self._send_file(send)

    async def file(self, scope: Scope, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._send_file(send))

    async def _send_file(self, send: Send) -> None:
        await _start(send, BODY)
        message: dict[str, Any] = {"type": EXTENSION, "file": self._file, "offset": 0, "count": BODY}
        try:
            await send(message)
        except OSError as error:
            self.broken_off = error


async def _start(send: Send, length: int) -> None:
    headers = [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def as_served(handlers: ASGIApp, drain: DrainLimits) -> ASGIApp:
    """Put the middleware of the server around an app, in the server's order."""
    logged = AccessLog(handlers, unexpected_response, lambda line: None)
    return ConnectionInScope(ZeroCopy(StalledClients(DrainedRefusals(logged, drain))))


@dataclass
class Counted:
    """A server in this process whose connections, tasks and descriptors are counted."""

    port: int
    handlers: Handlers
    state: ServerState
    tasks: int
    descriptors: int

    async def is_as_before(self) -> None:
        """Wait until the server has as much as before it had clients."""
        try:
            async with asyncio.timeout(WITHIN):
                await until(lambda: self.state.connections == 0)
                await until(lambda: len(asyncio.all_tasks()) <= self.tasks and _descriptors() <= self.descriptors)
        except TimeoutError as error:
            left = [str(task.get_coro()) for task in asyncio.all_tasks()]
            raise AssertionError(f"left: {self.state.connections} connections, tasks {left}") from error


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that no event tells of; the caller sets a limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def counted(
    *, h11_type: type[StrictConnection] | None = None, tls: TlsFiles | None = None, drain: DrainLimits | None = None
) -> AsyncIterator[Counted]:
    listener, stop, state = socket.create_server((HOST, 0)), asyncio.Event(), ServerState()
    port = listener.getsockname()[1]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    with tempfile.TemporaryFile() as file:
        file.truncate(BODY)
        handlers = Handlers(file)
        app = as_served(handlers, drain or DrainLimits(seconds=0.2))
        server = Server(app, tls=tls, server_state=state, timings=TIMINGS, h11_type=h11_type)
        running = asyncio.ensure_future(server.serve(listener, stop, grace=0.5))
        await asyncio.sleep(0)
        try:
            yield Counted(port, handlers, state, len(asyncio.all_tasks()), _descriptors())
        finally:
            stop.set()
            async with asyncio.timeout(WITHIN):
                await running


def connected(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    client.connect((HOST, port))
    client.setblocking(False)
    return client


def head(path: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} /{path} HTTP/1.1", "Host: a.test", *lines, "", "")).encode()
