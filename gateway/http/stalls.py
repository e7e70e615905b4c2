"""Clients that stall: those that send a request body too slowly, and those that do not receive; pure ASGI."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.server.client_connection import ClientConnection, connection_of, is_accepted
from gateway.server.zerocopy import EXTENSION

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class StallLimits:
    """Limits after which a client counts as stalled. A request body must deliver `body_bytes`, or its end, in each
    window."""

    body_window: float = 30.0
    """Seconds."""
    body_bytes: int = 30 * 1024
    response_window: float = 60.0
    """Seconds in which a client must acknowledge `response_rate` bytes for each second of its response."""
    response_rate: int = 1024


DEFAULT_STALL_LIMITS = StallLimits()

_CHECKS = 4
"""Checks of a response in each window."""
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
        body = _RequestBody(scope, receive, connection, self._limits)
        response = _Response(send, connection, self._limits)
        await self._app(scope, body.receive, response.send)


class _RequestBody:
    """A `receive` that aborts the connection when a body arrives too slowly, and reports a disconnect.

    Until a credential is accepted, a connection that waits for its body gives way to a new one, as one that waits for a
    request does: to send a head and no body costs a stranger as little.
    """

    def __init__(self, scope: Scope, receive: Receive, connection: ClientConnection, limits: StallLimits) -> None:
        self._scope = scope
        self._receive = receive
        self._transport = connection.transport
        self._place = connection.place
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
                if is_accepted(self._scope):
                    message = await self._receive()
                else:
                    message = await self._receive_giving_way()
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

    async def _receive_giving_way(self) -> Message:
        self._place.begin_idle(self._transport.abort)
        try:
            return await self._receive()
        finally:
            self._place.end_idle()


class _Response:
    """A `send` that aborts the connection if the client receives the response too slowly.

    Only the time counts in which the response waits for the client, not that in which it waits for an upstream.
    """

    def __init__(self, send: Send, connection: ClientConnection, limits: StallLimits) -> None:
        self._send = send
        self._connection = connection
        self._window = limits.response_window
        self._least = limits.response_rate * limits.response_window
        self._marks: deque[tuple[float, int]] = deque()
        """Seconds that the response had waited, and bytes that were acknowledged by then, at each check."""
        self._waited = 0.0
        self._begun = 0.0

    async def send(self, message: Message) -> None:
        # A file fills the kernel's buffer directly, so that it is watched even if the transport's buffer is empty.
        is_file = message["type"] == EXTENSION
        is_large = is_file or len(message.get("body", b"")) >= _LARGE_BYTES
        if not is_large and not self._connection.transport.get_write_buffer_size():
            await self._send(message)
            return
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        if not self._marks:
            self._mark(0.0)
        self._timer = loop.call_later(self._next_check(self._waited), self._check)
        try:
            await self._send(message)
        finally:
            self._timer.cancel()
            self._waited += loop.time() - self._begun

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        waited = self._waited + loop.time() - self._begun
        self._mark(waited)
        while self._marks[1][0] <= waited - self._window:
            self._marks.popleft()
        (since, before), (_, acknowledged) = self._marks[0], self._marks[-1]
        if waited - since >= self._window and acknowledged - before < self._least:
            log.info("stalled_answer", taken=acknowledged)
            with suppress(OSError):  # wakes a waiter on a duplicate descriptor, which an abort does not close
                self._connection.socket.shutdown(SHUT_RDWR)
            self._connection.transport.abort()
            return
        self._timer = loop.call_later(self._next_check(waited), self._check)

    def _mark(self, waited: float) -> None:
        self._marks.append((waited, self._connection.acknowledged_bytes()))

    def _next_check(self, waited: float) -> float:
        """Seconds until the next check of a response that has waited for so long."""
        return max(0.0, self._marks[-1][0] + self._window / _CHECKS - waited)
