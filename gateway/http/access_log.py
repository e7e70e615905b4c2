"""AccessLog: one log line and one id for each request; pure ASGI."""

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
    """Find the first value of a header; ASGI gives names in lower case."""
    return next((value for key, value in headers if key == name), None)


def log_at_once(line: AccessLine) -> None:
    log.info("request", **line._asdict())


class RequestRecord:
    """The facts of a request that are known so far. The surface that responds adds its lookup by `note_lookup`."""

    __slots__ = (
        *("bytes", "complete", "first_byte", "group", "kind", "outcome", "project", "received", "refusal", "status"),
        "upstream",
    )

    def __init__(self) -> None:
        self.status = 0
        self.outcome: bytes | None = None
        self.bytes = 0
        self.complete = False
        self.first_byte = 0.0
        self.kind: str | None = None
        self.group: str | None = None
        self.upstream: str | None = None
        self.project: str | None = None
        self.received = 0
        self.refusal: str | None = None


def note_lookup(scope: Scope, kind: str, group: str, upstream: str) -> None:
    """Record the subject of a request and its upstream, for the log and the metrics; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.kind, record.group, record.upstream = kind, group, upstream


def note_native_lookup(scope: Scope, kind: str, project: str) -> None:
    """Record the subject of a request and its project, for the log and the metrics; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.kind, record.project = kind, project


def note_received(scope: Scope, size: int) -> None:
    """Count bytes of a request's body, for the log and the metrics; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.received += size


def note_refusal(scope: Scope, reason: str | None) -> None:
    """Record why a request was not permitted, for the log; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.refusal = reason


class AccessLog:
    """Gives every request an id and one line in the log, and turns an uncaught exception into a 500."""

    def __init__(
        self,
        app: ASGIApp,
        unexpected: Callable[[], ASGIApp],
        write: Callable[[AccessLine], None] = log_at_once,
    ) -> None:
        """`unexpected`: makes the response to a request whose handler raised an uncaught exception."""
        self._app = app
        self._unexpected = unexpected
        self._write = write
        self.in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given, agent = _client_headers(scope["headers"])
        request_id = given if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        record = scope.setdefault("state", {})["request_record"] = RequestRecord()

        async def send_and_record(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                record.outcome = header(message["headers"], b"x-cache")
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            else:
                if not record.first_byte:
                    record.first_byte = time.perf_counter()
                if message["type"] == EXTENSION:
                    record.bytes += message["count"]
                else:
                    record.bytes += len(message.get("body", b""))
                    record.complete = not message.get("more_body", False)
            await send(message)

        self.in_progress += 1
        began = time.perf_counter()
        try:
            await self._app(scope, receive, send_and_record)
        except Exception:  # the seam to the server, which would only print the error
            structlog.get_logger().exception("request_failed", request_id=request_id.decode())
            if not record.status:
                await self._unexpected()(scope, receive, send_and_record)
        finally:
            self.in_progress -= 1
            self._write(_line(scope, record, began, agent, request_id))


def _client_headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes | None, bytes | None]:
    """Find the request id and the user agent that a client gave, in one pass over its headers."""
    given = agent = None
    for name, value in headers:
        if name == b"user-agent":
            agent = agent or value
        elif name == b"x-request-id":
            given = given or value
    return given, agent


def _line(scope: Scope, record: RequestRecord, began: float, agent: bytes | None, request_id: bytes) -> AccessLine:
    client = scope.get("client")
    return AccessLine(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        record.status,
        record.outcome.decode() if record.outcome else None,
        record.kind,
        record.group,
        record.upstream,
        record.bytes,
        record.complete,
        round((record.first_byte - began) * 1000, 1) if record.first_byte else None,
        round((time.perf_counter() - began) * 1000, 1),
        client[0] if client else None,
        agent[:_AGENT_LIMIT].decode("latin-1") if agent else None,
        request_id.decode(),
        record.refusal,
        record.project,
        record.received,
    )
