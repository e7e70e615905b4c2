"""ZeroCopy: the ASGI extension `http.response.zerocopysend` on Hypercorn, which sends files without reading them.

The protocol receives only the length; the bytes move from the page cache to the socket by sendfile. They move in
slices: one call for a whole file would hold the loop for as long as the kernel takes it, 120 ms for 250 MB.
"""

import asyncio
import os
from collections.abc import Callable

from h11 import ERROR, Data, LocalProtocolError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.server.client_connection import ClientConnection, connection_of

EXTENSION = "http.response.zerocopysend"
SLICE = 2 * 1024 * 1024


class ZeroCopy:
    """Offers the extension on plain HTTP/1.1 connections that are recognised."""

    def __init__(self, app: ASGIApp, enabled: bool = True) -> None:
        self._app = app
        self._enabled = enabled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        if not self._enabled or connection is None or connection.encrypted or scope["http_version"] != "1.1":
            await self._app(scope, receive, send)
            return
        scope["extensions"] = {**scope.get("extensions", {}), EXTENSION: {}}

        head_is_pending = False

        async def send_or_copy(message: Message) -> None:
            nonlocal head_is_pending
            if message["type"] != EXTENSION:
                head_is_pending = message["type"] == "http.response.start"
                await send(message)
                return
            if head_is_pending:  # ASGI holds it until a body, which the file bypasses
                head_is_pending = False
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send_file(connection, message["file"].fileno(), message["offset"], message["count"])
            if not message.get("more_body", False):
                await send({"type": "http.response.body"})

        await self._app(scope, receive, send_or_copy)


class _Length:
    """A number of bytes, in place of the bytes, for h11."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


async def send_file(connection: ClientConnection, file: int, offset: int, count: int) -> None:
    """Send a part of a file as part of the body that was begun.

    Raises ConnectionError, or EOFError for a file that ends too early; then the body is short, and the connection must
    not be used again.
    """
    async with connection.lock:
        length = Data(data=_Length(count))  # type: ignore[arg-type]
        try:
            pieces = connection.h11_connection.send_with_data_passthrough(length) or []
        except LocalProtocolError as error:
            if connection.h11_connection.their_state is not ERROR:
                raise
            raise ConnectionAbortedError("the client has broken off its request") from error
        for piece in pieces:
            if isinstance(piece, _Length):
                await _flush(connection)
                await _send(connection.socket.fileno(), file, offset, count)
            else:
                connection.transport.write(piece)


async def _flush(connection: ClientConnection) -> None:
    """Wait until earlier writes have left, as they must before the socket is used directly."""
    while connection.transport.get_write_buffer_size():
        if connection.transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        await _until_writable(connection.socket.fileno())
    if connection.transport.is_closing():
        raise ConnectionResetError("the client has disconnected")


async def _send(connected: int, file: int, offset: int, count: int) -> None:
    sending = _Sending(file, offset, offset + count)
    # A descriptor of our own: the loop allows no other waiter on one that belongs to a transport.
    own = os.dup(connected)
    try:
        if not sending.push(own):
            await _while_writable(own, sending.push)
    finally:
        os.close(own)


class _Sending:
    """The rest of a part of a file. The loop itself sends one slice in each of its turns: to wake a task for each
    took a quarter of the processor time of a gigabyte."""

    def __init__(self, file: int, offset: int, end: int) -> None:
        self._file, self._offset, self._end = file, offset, end

    def push(self, connected: int) -> bool:
        """Send as much as the socket accepts now, at most a slice; whether all is sent."""
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
    """Call `step` each time that the descriptor accepts bytes, until it returns True or raises."""
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
