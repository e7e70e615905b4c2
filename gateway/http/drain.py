"""Keeps reading a request body whose response is ready early, within bounds; pure ASGI."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_SECONDS = 10.0
_BODY_HEADERS = (b"content-length", b"transfer-encoding")


class DrainedRefusals:
    """Reads on what a client still sends when the answer is ready early, within bounds.

    The server stops reading a connection whose request nobody reads, and a client that is writing a big body sees
    nothing of an answer until it has written it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not any(name in _BODY_HEADERS and value != b"0" for name, value in scope["headers"]):
            await self._app(scope, receive, send)
            return
        read_all = False

        async def reading() -> Message:
            nonlocal read_all
            message = await receive()
            read_all = read_all or message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def answering(message: Message) -> None:
            if message["type"] != "http.response.body" or message.get("more_body", False) or read_all:
                await send(message)
                return
            await send({**message, "more_body": True})
            await _drain(reading)
            await send({"type": "http.response.body"})

        async def _drain(receive: Receive) -> None:
            taken = 0
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while not read_all and taken < DRAIN_BYTES:
                        taken += len((await receive()).get("body", b""))
            except TimeoutError:
                return

        await self._app(scope, reading, answering)
