"""Server over a small app, in the test's process, so that its limits can be made small."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.server.buffers import BodyBuffers
from gateway.server.http_server import Server
from gateway.server.strict_connection import StrictConnection
from gateway.server.timings import DEFAULT_TIMINGS, ServerTimings
from gateway.server.tls import TlsFiles
from gateway.server.unsent import Unsent
from tests.parts.processes import HOST, wait_until

WITHIN = 10.0
SMALL_BUFFER = 4096


@dataclass
class Served:
    port: int

    @property
    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """Connect a socket for the loop's `sock_…` calls; a small buffer makes a client that receives little."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((HOST, self.port))
        connection.setblocking(False)
        return connection

    async def settles(self, before: int) -> None:
        """Wait until no more descriptors are open than before."""
        await asyncio.to_thread(wait_until, lambda: self.descriptors <= before, WITHIN)

    async def reaches(self, count: int) -> None:
        """Wait until exactly `count` descriptors are open."""
        await asyncio.to_thread(wait_until, lambda: self.descriptors == count, WITHIN)


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    connections: int | None = None,
    tls: TlsFiles | None = None,
    timings: ServerTimings = DEFAULT_TIMINGS,
    h11_type: type[StrictConnection] | None = None,
    unsent: Unsent | None = None,
    buffers: BodyBuffers | None = None,
) -> AsyncIterator[Served]:
    listener = socket.create_server((HOST, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    stop = asyncio.Event()
    server = Server(
        app, tls=tls, connections=connections, timings=timings, h11_type=h11_type, unsent=unsent, buffers=buffers
    )
    running = asyncio.ensure_future(server.serve(listener, stop, grace=0.5))
    try:
        yield Served(listener.getsockname()[1])
    finally:
        stop.set()
        async with asyncio.timeout(WITHIN):
            await running
        listener.close()


async def pong(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"pong"})


async def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side ends the connection, in whatever way; raises TimeoutError if it does not."""
    loop, received = asyncio.get_running_loop(), b""
    async with asyncio.timeout(WITHIN):
        try:
            while part := await loop.sock_recv(connection, 65_536):
                received += part
        except ConnectionError:
            pass
    return received
