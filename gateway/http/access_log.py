"""What every request passes, outermost first; pure ASGI."""

import re
import time
from collections.abc import Callable, Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.request_id import new_request_id
from gateway.observability.access_line import AccessLine
from gateway.server.zerocopy import EXTENSION

log = structlog.get_logger("access")

_AGENT_LIMIT = 200
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header; ASGI gives names in lower case."""
    return next((value for key, value in headers if key == name), None)


def log_at_once(line: AccessLine) -> None:
    log.info("request", **line._asdict())


class Trail:
    """What is known of an answer so far. The surface that answers adds what it looks up by `note_lookup`."""

    __slots__ = ("bytes", "complete", "first_byte", "group", "kind", "outcome", "status", "upstream")

    def __init__(self) -> None:
        self.status = 0
        self.outcome: bytes | None = None
        self.bytes = 0
        self.complete = False
        self.first_byte = 0.0
        self.kind: str | None = None
        self.group: str | None = None
        self.upstream: str | None = None


def note_lookup(scope: Scope, kind: str, group: str, upstream: str) -> None:
    """For the log and the metrics: what a request is about, and where it leads. Nothing outside an AccessLog."""
    trail: Trail | None = scope.get("state", {}).get("trail")
    if trail is not None:
        trail.kind, trail.group, trail.upstream = kind, group, upstream


class AccessLog:
    """Gives every request an id and one line in the log, and turns what nobody caught into an answer of 500."""

    def __init__(
        self,
        app: ASGIApp,
        unexpected: Callable[[], ASGIApp],
        write: Callable[[AccessLine], None] = log_at_once,
    ) -> None:
        """`unexpected`: makes the response to a request whose handler raised what nobody caught."""
        self._app = app
        self._unexpected = unexpected
        self._write = write
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given, agent = _named_by(scope["headers"])
        request_id = given if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        trail = scope.setdefault("state", {})["trail"] = Trail()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                trail.status = message["status"]
                trail.outcome = header(message["headers"], b"x-cache")
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            else:
                if not trail.first_byte:
                    trail.first_byte = time.perf_counter()
                if message["type"] == EXTENSION:
                    trail.bytes += message["count"]
                else:
                    trail.bytes += len(message.get("body", b""))
                    trail.complete = not message.get("more_body", False)
            await send(message)

        self.in_progress += 1
        began = time.perf_counter()
        try:
            await self._app(scope, receive, noting)
        except Exception:  # the seam to the server, which would only print it
            structlog.get_logger().exception("request_failed", request_id=request_id.decode())
            if not trail.status:
                await self._unexpected()(scope, receive, noting)
        finally:
            self.in_progress -= 1
            self._write(_line(scope, trail, began, agent, request_id))


def _named_by(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes | None]:
    """The request id that a client gave, and as what it introduces itself; in one walk over its headers."""
    given = agent = None
    for name, value in headers:
        if name == b"user-agent":
            agent = agent or value
        elif name == b"x-request-id":
            given = given or value
    return given, agent


def _line(scope: Scope, trail: Trail, began: float, agent: bytes | None, request_id: bytes) -> AccessLine:
    client = scope.get("client")
    return AccessLine(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        trail.status,
        trail.outcome.decode() if trail.outcome else None,
        trail.kind,
        trail.group,
        trail.upstream,
        trail.bytes,
        trail.complete,
        round((trail.first_byte - began) * 1000, 1) if trail.first_byte else None,
        round((time.perf_counter() - began) * 1000, 1),
        client[0] if client else None,
        agent[:_AGENT_LIMIT].decode("latin-1") if agent else None,
        request_id.decode(),
    )


