"""AccessLog: one log line and one id for each request; pure ASGI."""

import re
import time
from collections.abc import Callable, Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import RefusalReason, RegistryError
from gateway.http.request_headers import first_headers
from gateway.http.request_id import new_request_id
from gateway.observability.access_line import AccessLine
from gateway.server.zerocopy import EXTENSION

log = structlog.get_logger("access")

_AGENT_LIMIT = 200
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Find the first value of a header; ASGI gives names in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def log_at_once(line: AccessLine) -> None:
    write = log.warning if line.failed else log.info
    write("request", **line._asdict())


class RequestRecord:
    """The facts of a request that are known so far. The surface that responds adds its lookup by `note_lookup`."""

    __slots__ = (
        *("bytes", "complete", "counted", "first_byte", "group", "kind", "outcome", "principal", "project", "reason"),
        *("received", "refusal", "request_id", "status", "upstream"),
    )

    def __init__(self, request_id: bytes) -> None:
        self.request_id = request_id
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
        self.refusal: RefusalReason | None = None
        self.reason: str | None = None
        self.principal: str | None = None
        self.counted: Callable[[AccessLine], None] | None = None


def note_principal(scope: Scope, who: str) -> None:
    """Record whose credential a request was accepted with, for the log; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.principal = who


def identity_of(scope: Scope) -> tuple[str | None, str | None]:
    """Find the id that a request has in the log, and whose credential it was accepted with, None for nobody's; both are
    None outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    return (None, None) if record is None else (record.request_id.decode(), record.principal)


def log_refused_login(scope: Scope, account: str | None, reason: str) -> None:
    """Log a login that was refused. `account`: None unless it is one that exists; a name that nobody has may be a
    password that was typed into the wrong field."""
    client = scope.get("client")
    log.warning(
        "login_refused",
        account=account,
        reason=reason,
        client=client[0] if client else None,
        request_id=identity_of(scope)[0],
    )


def note_lookup(scope: Scope, kind: str, group: str, upstream: str) -> None:
    """Record the subject of a request and its upstream, for the log and the metrics; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.kind, record.group, record.upstream = kind, group, upstream


def note_counted(scope: Scope, counted: Callable[[AccessLine], None]) -> None:
    """Call this with the line of the request once it has ended; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.counted = counted


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


def note_refusal(scope: Scope, error: RegistryError) -> None:
    """Record why a request was refused, for the log and the metrics, and what a lookup that was not noted found out
    before; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is None:
        return
    facts = error.facts
    record.refusal, record.reason = error.counted_as, _logged_reason(error)
    record.kind = record.kind or facts.get("kind")
    record.group = record.group or facts.get("group")
    record.upstream = record.upstream or facts.get("upstream")
    record.project = record.project or facts.get("project")


def note_refused(scope: Scope, counted_as: RefusalReason, reason: str) -> None:
    """Record why a surface refused a request that has errors of its own; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is not None:
        record.refusal, record.reason = counted_as, reason


def note_short_end(scope: Scope, error: RegistryError | EOFError | OSError) -> None:
    """Record why a response ends before its whole body was sent, for the log; a no-op outside an AccessLog."""
    record: RequestRecord | None = scope.get("state", {}).get("request_record")
    if record is None:
        return
    if isinstance(error, RegistryError):
        record.reason = _logged_reason(error)
    elif isinstance(error, OSError) and error.strerror:
        record.reason = f"this server cannot read the content ({error.strerror})"
    else:
        record.reason = f"this server cannot read the content: {error}"


def _logged_reason(error: RegistryError) -> str:
    """The sentence of a refusal for the log. What a client wrote wrongly is left out: it may stand in a query, which no
    line holds."""
    if error.reason or error.status == 400 or not isinstance(error.detail, str):
        return error.reason or error.message
    return error.detail


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
        headers = first_headers(scope)
        given, agent = headers.get("x-request-id"), headers.get("user-agent")
        request_id = given.encode() if given and _REQUEST_ID.fullmatch(given) else new_request_id()
        record = scope.setdefault("state", {})["request_record"] = RequestRecord(request_id)

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
        except Exception as error:  # the seam to the server, which would only print the error
            structlog.get_logger().exception("request_failed", request_id=request_id.decode())
            record.refusal, record.reason = RefusalReason.FAULT, f"{type(error).__name__}: see request_failed"
            if not record.status:
                await self._unexpected()(scope, receive, send_and_record)
        finally:
            self.in_progress -= 1
            line = _line(scope, record, began, agent)
            self._write(line)
            if record.counted is not None:
                record.counted(line)


def _line(scope: Scope, record: RequestRecord, began: float, agent: str | None) -> AccessLine:
    client = scope.get("client")
    return AccessLine(
        record.status,
        record.outcome.decode() if record.outcome else None,
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        record.refusal.value if record.refusal else None,
        record.reason,
        record.group,
        record.upstream,
        record.project,
        record.kind,
        record.bytes,
        record.complete,
        record.received,
        round((record.first_byte - began) * 1000, 1) if record.first_byte else None,
        round((time.perf_counter() - began) * 1000, 1),
        record.principal,
        client[0] if client else None,
        agent[:_AGENT_LIMIT] if agent else None,
        record.request_id.decode(),
    )
