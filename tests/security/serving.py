"""Our own Server over a small app, in the test's process, so that its limits can be made small."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from h11 import CLIENT, IDLE
from h11._readers import READERS
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.server.connections import Server
from gateway.server.tls import TlsFiles
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
        """A socket for the loop's `sock_…` calls; a small buffer makes a client that takes little."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.connect((HOST, self.port))
        connection.setblocking(False)
        return connection

    async def settles(self, before: int) -> None:
        """Returns when no more descriptors are open than before."""
        await asyncio.to_thread(wait_until, lambda: self.descriptors <= before, WITHIN)

    async def reaches(self, count: int) -> None:
        """Returns when so many descriptors are open."""
        await asyncio.to_thread(wait_until, lambda: self.descriptors == count, WITHIN)


@asynccontextmanager
async def serving(
    app: ASGIApp, *, connections: int | None = None, tls: TlsFiles | None = None
) -> AsyncIterator[Served]:
    listener = socket.create_server((HOST, 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    stop = asyncio.Event()
    with _readers_restored():
        running = asyncio.ensure_future(Server(app, tls, connections).serve(listener, stop, grace=0.5))
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
    """All that comes until the other side ends, in whatever way; raises TimeoutError if it does not."""
    loop, received = asyncio.get_running_loop(), b""
    async with asyncio.timeout(WITHIN):
        try:
            while part := await loop.sock_recv(connection, 65_536):
                received += part
        except ConnectionError:
            pass
    return received


@contextmanager
def _readers_restored() -> Iterator[None]:
    """The parser's table is one for the whole process, in which the parts of the tests have servers too."""
    before = READERS[CLIENT, IDLE]
    try:
        yield
    finally:
        READERS[CLIENT, IDLE] = before
