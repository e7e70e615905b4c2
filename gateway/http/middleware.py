"""What every request passes, outermost first; pure ASGI."""

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.errors import unexpected_response
from gateway.http.request_id import new_request_id
from gateway.http.zerocopy import EXTENSION

log = structlog.get_logger("access")

DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_SECONDS = 10.0
_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header; ASGI gives names in lower case."""
    return next((value for key, value in headers if key == name), None)


class AccessLine(NamedTuple):
    """What the log says of a request. `path` has no query, in which signatures and tokens may stand."""

    method: str
    path: str
    status: int
    outcome: str | None
    bytes: int
    complete: bool
    duration_ms: float
    request_id: str


def log_at_once(line: AccessLine) -> None:
    log.info("request", **line._asdict())


class AccessLog:
    """Gives every request an id and one line in the log, and turns what nobody caught into an answer of 500."""

    def __init__(self, app: ASGIApp, write: Callable[[AccessLine], None] = log_at_once) -> None:
        self._app = app
        self._write = write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = header(scope["headers"], b"x-request-id")
        request_id = given if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        seen = _Seen()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                seen.outcome = header(message["headers"], b"x-cache")
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            elif message["type"] == "http.response.body":
                seen.bytes += len(message.get("body", b""))
                seen.complete = not message.get("more_body", False)
            elif message["type"] == EXTENSION:
                seen.bytes += message["count"]
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        except Exception:  # the seam to the server, which would only print it
            structlog.get_logger().exception("request_failed", request_id=request_id.decode())
            if not seen.status:
                await unexpected_response()(scope, receive, noting)
        finally:
            self._write(
                AccessLine(
                    scope["method"],
                    scope["raw_path"].decode("latin-1"),
                    seen.status,
                    seen.outcome.decode() if seen.outcome else None,
                    seen.bytes,
                    seen.complete,
                    round((time.perf_counter() - began) * 1000, 1),
                    request_id.decode(),
                )
            )


class _Seen:
    """What is known of an answer so far."""

    status = 0
    outcome: bytes | None = None
    bytes = 0
    complete = False


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
