"""Clients that stall: those who send a body too slowly, and those who do not take what they asked for; pure ASGI."""

import asyncio
from contextlib import suppress
from socket import SHUT_RDWR

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.server import connection
from gateway.server.connection import Connection
from gateway.server.zerocopy import EXTENSION

log = structlog.get_logger()

BODY_WINDOW = 30.0
BODY_BYTES = 30 * 1024
"""A request body brings at least this many bytes in each window of seconds, or its end."""

ANSWER_PATIENCE = 60.0
_LOOK_EVERY = 15.0
_BIG = 32 * 1024


class StalledClients:
    """Ends connections that make no progress; inside KnownConnection, which finds them."""

    def __init__(self, app: ASGIApp, patience: float = ANSWER_PATIENCE, window: float = BODY_WINDOW) -> None:
        self._app = app
        self._patience = patience
        self._window = window

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        below = connection.of(scope) if scope["type"] == "http" else None
        if below is None:
            await self._app(scope, receive, send)
            return
        body = _Body(receive, below.transport, self._window)
        answer = _Answer(send, below, self._patience)
        await self._app(scope, body.receive, answer.send)


class _Body:
    """A `receive` that takes a body only as long as it keeps coming; then the client counts as gone."""

    def __init__(self, receive: Receive, transport: asyncio.WriteTransport, window: float) -> None:
        self._receive = receive
        self._transport = transport
        self._window = window
        self._ends = 0.0
        self._taken = 0
        self._over = False

    async def receive(self) -> Message:
        if self._over:
            return await self._receive()  # waits for the disconnect, as long as the answer takes
        loop = asyncio.get_running_loop()
        self._ends = self._ends or loop.time() + self._window
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            log.info("stalled_body", bytes_in_window=self._taken)
            self._over = True
            self._transport.abort()
            return {"type": "http.disconnect"}
        self._taken += len(message.get("body", b""))
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        if self._taken >= BODY_BYTES:
            self._ends, self._taken = loop.time() + self._window, 0
        return message


class _Answer:
    """A `send` that watches whether the client takes what it is sent."""

    def __init__(self, send: Send, below: Connection, patience: float) -> None:
        self._send = send
        self._below = below
        self._patience = patience
        self._taken = 0
        self._moved_at = 0.0

    async def send(self, message: Message) -> None:
        direct = message["type"] == EXTENSION  # what is full then is the kernel's buffer, which takes nothing at all
        if not direct and len(message.get("body", b"")) < _BIG and not self._below.transport.get_write_buffer_size():
            await self._send(message)
            return
        loop = asyncio.get_running_loop()
        self._taken, self._moved_at = -1, loop.time()
        self._timer = loop.call_later(min(_LOOK_EVERY, self._patience), self._look)
        try:
            await self._send(message)
        finally:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        taken = self._below.taken()
        if taken != self._taken:
            self._taken, self._moved_at = taken, loop.time()
        elif loop.time() - self._moved_at >= self._patience - _LOOK_EVERY:
            log.info("stalled_answer", taken=taken)
            with suppress(OSError):  # wakes who waits on a descriptor of his own, which to abort does not close
                self._below.socket.shutdown(SHUT_RDWR)
            self._below.transport.abort()
            return
        self._timer = loop.call_later(min(_LOOK_EVERY, self._patience), self._look)
