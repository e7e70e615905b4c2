"""ZeroCopy: the ASGI extension `http.response.zerocopysend` on Hypercorn, so that files go out without being read.

The account of the protocol is told the length alone; the bytes go from the page cache to the socket by sendfile. They
go in slices: one call for a whole file would hold the loop for as long as the kernel takes it, 120 ms for 250 MB.
"""

import asyncio
import os
from collections.abc import Callable

from h11 import Data
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.server import connection
from gateway.server.connection import Connection

EXTENSION = "http.response.zerocopysend"
SLICE = 2 * 1024 * 1024


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
        await _until_writable(below.socket.fileno())
    if below.transport.is_closing():
        raise ConnectionResetError("the client has left")


async def _send(connected: int, file: int, offset: int, count: int) -> None:
    sending = _Sending(file, offset, offset + count)
    # A descriptor of our own: the loop lets nobody else wait on one that belongs to a transport.
    own = os.dup(connected)
    try:
        if not sending.push(own):
            await _while_writable(own, sending.push)
    finally:
        os.close(own)


class _Sending:
    """A part of a file on its way. One slice for each turn of the loop, from the loop itself: to wake a task for each
    took a quarter of the processor time of a gigabyte."""

    def __init__(self, file: int, offset: int, end: int) -> None:
        self._file, self._offset, self._end = file, offset, end

    def push(self, connected: int) -> bool:
        """Sends what the connection takes now, a slice at the most; whether all is sent."""
        try:
            sent = os.sendfile(connected, self._file, self._offset, min(SLICE, self._end - self._offset))
        except BlockingIOError:
            return False
        if not sent:
            raise EOFError(f"the file ends at {self._offset}, before {self._end}")
        self._offset += sent
        return self._offset >= self._end


async def _until_writable(connected: int) -> None:
    own = os.dup(connected)
    try:
        await _while_writable(own, lambda _: True)
    finally:
        os.close(own)


async def _while_writable(own: int, step: Callable[[int], bool]) -> None:
    """Calls `step` each time that the descriptor takes bytes, until it returns True or raises."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def ready() -> None:
        if future.done():
            return
        try:
            if step(own):
                future.set_result(None)
        except (OSError, EOFError) as error:
            future.set_exception(error)

    loop.add_writer(own, ready)
    try:
        await future
    finally:
        loop.remove_writer(own)
