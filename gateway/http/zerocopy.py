"""ZeroCopy: the ASGI extension `http.response.zerocopysend` on Hypercorn, so that files go out without being read.

The account of the protocol is told the length alone; the bytes go from the page cache to the socket by sendfile. They
go in slices: one call for a whole file would hold the loop for as long as the kernel takes it, 120 ms for 250 MB.
"""

import asyncio
import os

from h11 import Data
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http import connection
from gateway.http.connection import Connection

EXTENSION = "http.response.zerocopysend"
SLICE = 1024 * 1024


class ZeroCopy:
    """Offers the extension where it can: plain HTTP/1.1 on a connection whose insides are known."""

    def __init__(self, app: ASGIApp, enabled: bool = True) -> None:
        self._app = app
        self._enabled = enabled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        below = connection.of(scope)
        if not self._enabled or below is None or below.encrypted or scope["http_version"] != "1.1":
            await self._app(scope, receive, send)
            return
        scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {}}

        head_waits = False

        async def sending(message: Message) -> None:
            nonlocal head_waits
            if message["type"] != EXTENSION:
                head_waits = message["type"] == "http.response.start"
                await send(message)
                return
            if head_waits:  # for a body, as ASGI has it; what is sent here does not pass those who hold it back
                head_waits = False
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send_file(below, message["file"].fileno(), message["offset"], message["count"])
            if not message.get("more_body", False):
                await send({"type": "http.response.body"})

        await self._app(scope, receive, sending)


class _Length:
    """Stands for bytes in the protocol's account."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


async def send_file(below: Connection, file: int, offset: int, count: int) -> None:
    """Sends a part of a file as part of the body that was begun. Raises ConnectionError, or EOFError for a file that
    ends too early; then the body is short, and the connection must not be used again."""
    async with below.lock:
        pieces = below.protocol.send_with_data_passthrough(Data(data=_Length(count))) or []  # type: ignore[arg-type]
        for piece in pieces:
            if isinstance(piece, _Length):
                await _flush(below)
                await _send(below.socket.fileno(), file, offset, count)
            else:
                below.transport.write(piece)


async def _flush(below: Connection) -> None:
    """What was written before must be out before the socket is used directly."""
    while below.transport.get_write_buffer_size():
        if below.transport.is_closing():
            raise ConnectionResetError("the client has left")
        await _writable(os.dup(below.socket.fileno()))
    if below.transport.is_closing():
        raise ConnectionResetError("the client has left")


async def _send(connected: int, file: int, offset: int, count: int) -> None:
    # A descriptor of our own: the loop lets nobody else wait on one that belongs to a transport.
    own, end = os.dup(connected), offset + count
    try:
        while offset < end:
            try:
                sent = os.sendfile(own, file, offset, min(SLICE, end - offset))
            except BlockingIOError:
                await _wait(own)
                continue
            if not sent:
                raise EOFError(f"the file ends at {offset}, before {end}")
            offset += sent
            await asyncio.sleep(0)
    finally:
        os.close(own)


async def _writable(own: int) -> None:
    try:
        await _wait(own)
    finally:
        os.close(own)


async def _wait(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_writer(descriptor, _resolve, future)
    try:
        await future
    finally:
        loop.remove_writer(descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
