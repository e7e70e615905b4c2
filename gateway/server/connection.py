"""The connection below an ASGI `send`, where the server is Hypercorn; nothing where its insides are not recognised.

ASGI has no word for "give up on this client", nor for "send this file without reading it". The `send` of Hypercorn is a
method of its stream, which leads over the protocol to the connection; a wire test holds the version to this.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send

KEY = "connection"
_ACKNOWLEDGED_AT = 120
"""Where `tcpi_bytes_acked` stands in Linux's `struct tcp_info`."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`protocol` keeps the account of what has been sent; `lock` is held by whoever writes."""

    transport: asyncio.WriteTransport
    socket: socket.socket
    protocol: h11.Connection
    lock: asyncio.Lock

    @property
    def encrypted(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def taken(self) -> int:
        """Bytes that the client's side has acknowledged: it grows as long as it takes any, however much waits."""
        if self.socket.fileno() < 0:
            return 0
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        (acknowledged,) = struct.unpack_from("Q", info, _ACKNOWLEDGED_AT)
        return int(acknowledged)


def below(send: Send) -> Connection | None:
    stream = getattr(send, "__self__", None)
    protocol = _owner(stream)
    server = _owner(protocol)
    writer, lock = getattr(server, "writer", None), getattr(server, "send_lock", None)
    state = getattr(protocol, "connection", None)
    if not (isinstance(writer, asyncio.StreamWriter) and isinstance(lock, asyncio.Lock)):
        return None
    found = writer.get_extra_info("socket")
    if found is None or not isinstance(state, h11.Connection):
        return None
    return Connection(writer.transport, found, state, lock)


class KnownConnection:
    """Outermost, since it needs the server's own `send`: puts what is below it into the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})[KEY] = below(send)
        await self._app(scope, receive, send)


def of(scope: Scope) -> Connection | None:
    found: Connection | None = scope.get("state", {}).get(KEY)
    return found


def _owner(holder: Any) -> Any:
    return getattr(getattr(holder, "send", None), "__self__", None)
