"""LargeBody: the ASGI extension `gateway.request.reused_buffers`, by which large request bodies arrive in large pieces.

A handler accepts it by `accept_reused_buffers`. The `body` of its messages may then be a memoryview, which is valid
until the next message is received. What arrived before comes first, in the order in which the reader, h11 and the queue
of the app hold it; the rest is read by a DirectBody. Small bodies, and those over TLS, arrive as they always do.
"""

import asyncio
from typing import Any, Protocol

from starlette.types import Message, Scope

from gateway.server.buffers import BodyBuffers
from gateway.server.chunked_body import ChunkedBody
from gateway.server.connection_reader import ConnectionReader
from gateway.server.direct_body import ChunkedFraming, DirectBody, Framing, LengthFraming
from gateway.server.request_messages import RequestMessages

EXTENSION = "gateway.request.reused_buffers"
LEAST_LEFT = 256 * 1024
"""Bytes of a body that must be left for the switch to be worth its cost."""
LEAST_ARRIVED = 64 * 1024
"""Bytes of a chunked body that must have arrived: its length is not known, and most are small."""
_METHODS = ("PATCH", "PUT", "POST")


def accept_reused_buffers(scope: Scope) -> None:
    """Say that each piece of the body is used before the next is received; a no-op where the server has no buffers."""
    offer = scope.get("extensions", {}).get(EXTENSION)
    if offer is not None:
        offer["accepted"] = True


class BodyConnection(Protocol):
    """The connection of a body."""

    reader: ConnectionReader
    buffers: BodyBuffers

    @property
    def transport(self) -> asyncio.WriteTransport: ...

    @property
    def chunks(self) -> ChunkedBody | None:
        """The decoder of a chunked body that has not ended; None also for a body with a length."""

    async def end_body(self) -> None:
        """Record that the body was read to its end."""


class LargeBody:
    """The `receive` of a request whose body may be large."""

    def __init__(self, messages: RequestMessages, connection: BodyConnection, length: int | None, offer: Any) -> None:
        """`length`: that of the body; None for a chunked one."""
        self._messages = messages
        self._connection = connection
        self._length = length
        self._offer = offer
        self._direct: DirectBody | None = None
        self._is_read = False
        """Whether nothing is left to be read past the messages."""

    async def receive(self) -> Message:
        """Return the next message, as RequestMessages does."""
        if not self._is_read and self._direct is None:
            if self._is_wanted():
                await self._switch()
            else:  # a switch that was tried holds the reader, and what has arrived since leaves too little for it
                self._connection.reader.release()
        if self._direct is not None:
            piece = await self._direct.receive()
            if piece is not None:
                return {"type": "http.request", "body": piece, "more_body": True}
            self._direct, self._is_read = None, True
        message = await self._messages.receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._end()
        return message

    def close(self) -> None:
        """Let the connection continue without the app, which has ended."""
        if self._direct is not None:
            self._direct.close()
        else:
            self._end()

    def _end(self) -> None:
        self._is_read = True
        self._connection.reader.release()

    def _is_wanted(self) -> bool:
        arrived = self._messages.body_bytes
        if "accepted" not in self._offer:
            return False
        return arrived >= LEAST_ARRIVED if self._length is None else self._length - arrived >= LEAST_LEFT

    async def _switch(self) -> None:
        """Begin to read directly as soon as all that has arrived was received; return, with the reader held, if a
        message comes first."""
        reader = self._connection.reader
        reader.hold(self._messages.wake)
        while not self._messages.is_waiting:
            if reader.is_idle:
                self._begin()
                return
            await self._messages.change()

    def _begin(self) -> None:
        framing: Framing
        if self._length is not None:
            framing = LengthFraming(self._length - self._messages.body_bytes)
        elif (chunks := self._connection.chunks) is not None:
            framing = ChunkedFraming(chunks)
        else:
            self._end()
            return
        connection = self._connection
        self._direct = DirectBody(
            connection.transport, connection.reader, framing, connection.buffers, connection.end_body
        )


def large_body(scope: Scope, messages: RequestMessages, connection: BodyConnection) -> LargeBody | None:
    """Offer the extension in the scope of a request that may have a large body; None for any other."""
    if scope["method"] not in _METHODS:
        return None
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            length = None
    if length is not None and length < LEAST_LEFT:
        return None
    offer: dict[str, bool] = {}
    scope["extensions"][EXTENSION] = offer
    return LargeBody(messages, connection, length, offer)
