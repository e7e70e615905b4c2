"""ClientConnection: the connection below an ASGI `send`, if the server is Hypercorn; None if it is not recognised.

ASGI has no word for "abort this connection", nor for "send this file without reading it". The `send` of Hypercorn is a
method of its stream, which leads over the protocol to the connection; a wire test holds the version to this.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.server.connection_cap import Place

KEY = "connection"
_ACCEPTED = "credential_accepted"
_BYTES_ACKED_OFFSET = 120
"""The offset of `tcpi_bytes_acked` in Linux's `struct tcp_info`."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """A client's connection. `h11_connection` must be notified of each body byte sent; a writer holds `lock`.

    `place`: its place among the connections of the process.
    """

    transport: asyncio.WriteTransport
    socket: socket.socket
    h11_connection: h11.Connection
    lock: asyncio.Lock
    place: Place

    @property
    def encrypted(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def acknowledged_bytes(self) -> int:
        """Count the bytes that the client's side has acknowledged: it grows while the client receives any."""
        if self.socket.fileno() < 0:
            return 0
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_OFFSET + 8)
        (acknowledged,) = struct.unpack_from("Q", info, _BYTES_ACKED_OFFSET)
        return int(acknowledged)


def connection_below(send: Send) -> ClientConnection | None:
    """Find the connection below the server's own `send`; None if it is not Hypercorn's, as this module knows it."""
    stream = getattr(send, "__self__", None)
    protocol = _owner(stream)
    server = _owner(protocol)
    writer, lock = getattr(server, "writer", None), getattr(server, "send_lock", None)
    place = getattr(server, "place", None)
    h11_connection = getattr(protocol, "connection", None)
    if not (isinstance(writer, asyncio.StreamWriter) and isinstance(lock, asyncio.Lock)):
        return None
    found = writer.get_extra_info("socket")
    if found is None or not isinstance(h11_connection, h11.Connection) or not isinstance(place, Place):
        return None
    return ClientConnection(writer.transport, found, h11_connection, lock, place)


class ConnectionInScope:
    """Puts the ClientConnection into the scope. It must be outermost, since it needs the server's own `send`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[KEY] = connection_below(send)
        await self._app(scope, receive, send)


def connection_of(scope: Scope) -> ClientConnection | None:
    """Get what ConnectionInScope found; None also without it."""
    found: ClientConnection | None = scope.get("state", {}).get(KEY)
    return found


def note_accepted(scope: Scope) -> None:
    """Note that the request's credential was accepted: its connection keeps its place while the body arrives."""
    scope.setdefault("state", {})[_ACCEPTED] = True


def is_accepted(scope: Scope) -> bool:
    return _ACCEPTED in scope.get("state", {})


def _owner(holder: Any) -> Any:
    return getattr(getattr(holder, "send", None), "__self__", None)
