"""DrainedRefusals: reads the rest of a request body whose response is ready early, within bounds; pure ASGI."""

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.request_headers import first_headers


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """Limits in bytes and seconds for reading the rest of a request body after its response."""

    bytes: int = 256 * 1024 * 1024
    seconds: float = 10.0


DEFAULT_DRAIN_LIMITS = DrainLimits()


class DrainedRefusals:
    """Continues to read, within limits, while a client still sends although the response is ready.

    The server stops reading a connection if no handler reads the request, and a client that writes a large body reads
    no response until it has written it.
    """

    def __init__(self, app: ASGIApp, limits: DrainLimits = DEFAULT_DRAIN_LIMITS) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = first_headers(scope)
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        read_all = False

        async def receive_noting_end() -> Message:
            nonlocal read_all
            message = await receive()
            read_all = read_all or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def send_then_drain(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False) or read_all:
                await send(message)
                return
            await send({**message, "more_body": True})
            await drain()
            await send({"type": "http.response.body"})

        async def drain() -> None:
            drained = 0
            try:
                async with asyncio.timeout(self._limits.seconds):
                    while not read_all and drained < self._limits.bytes:
                        drained += len((await receive_noting_end()).get("body", b""))
            except TimeoutError:
                return

        await self._app(scope, receive_noting_end, send_then_drain)
