"""Clients that stall: those that send a request body too slowly, and those that do not receive; pure ASGI."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.server.client_connection import ClientConnection, connection_of
from gateway.server.zerocopy import EXTENSION

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLimits:
    """Limits after which a client counts as stalled. A request body must deliver `body_bytes`, or its end, in each
    window."""

    body_window: float = 30.0
    """Seconds."""
    body_bytes: int = 30 * 1024
    response_timeout: float = 60.0
    """Seconds in which a client must acknowledge at least one byte of its response."""


DEFAULT_STALL_LIMITS = StallLimits()

_CHECK_SECONDS = 15.0
_LARGE_BYTES = 32 * 1024


class StalledClients:
    """Aborts connections that make no progress; inside ConnectionInScope, which finds them."""

    def __init__(self, app: ASGIApp, limits: StallLimits = DEFAULT_STALL_LIMITS) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope) if scope["type"] == "http" else None
        if connection is None:
            await self._app(scope, receive, send)
            return
        body = _RequestBody(receive, connection.transport, self._limits)
        response = _Response(send, connection, self._limits.response_timeout)
        await self._app(scope, body.receive, response.send)


class _RequestBody:
    """A `receive` that aborts the connection when a body arrives too slowly, and reports a disconnect."""

    def __init__(self, receive: Receive, transport: asyncio.WriteTransport, limits: StallLimits) -> None:
        self._receive = receive
        self._transport = transport
        self._limits = limits
        self._window_ends = 0.0
        self._received = 0
        self._ended = False

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # waits for the disconnect, as long as the response takes
        loop = asyncio.get_running_loop()
        self._window_ends = self._window_ends or loop.time() + self._limits.body_window
        try:
            async with asyncio.timeout_at(self._window_ends):
                message = await self._receive()
        except TimeoutError:
            log.info("stalled_body", bytes_in_window=self._received)
            self._ended = True
            self._transport.abort()
            return {"type": "http.disconnect"}
        self._received += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        if self._received >= self._limits.body_bytes:
            self._window_ends, self._received = loop.time() + self._limits.body_window, 0
        return message


class _Response:
    """A `send` that aborts the connection if the client stops receiving the response."""

    def __init__(self, send: Send, connection: ClientConnection, timeout: float) -> None:
        self._send = send
        self._connection = connection
        self._timeout = timeout
        self._acknowledged = 0
        self._progress_at = 0.0

    async def send(self, message: Message) -> None:
        # A file fills the kernel's buffer directly, so that it is watched even if the transport's buffer is empty.
        is_file = message["type"] == EXTENSION
        is_large = is_file or len(message.get("body", b"")) >= _LARGE_BYTES
        if not is_large and not self._connection.transport.get_write_buffer_size():
            await self._send(message)
            return
        loop = asyncio.get_running_loop()
        self._acknowledged, self._progress_at = -1, loop.time()
        self._timer = loop.call_later(min(_CHECK_SECONDS, self._timeout), self._check)
        try:
            await self._send(message)
        finally:
            self._timer.cancel()

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        acknowledged = self._connection.acknowledged_bytes()
        if acknowledged != self._acknowledged:
            self._acknowledged, self._progress_at = acknowledged, loop.time()
        elif loop.time() - self._progress_at >= self._timeout - _CHECK_SECONDS:
            log.info("stalled_answer", taken=acknowledged)
            with suppress(OSError):  # wakes a waiter on a duplicate descriptor, which an abort does not close
                self._connection.socket.shutdown(SHUT_RDWR)
            self._connection.transport.abort()
            return
        self._timer = loop.call_later(min(_CHECK_SECONDS, self._timeout), self._check)
