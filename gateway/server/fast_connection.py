"""FastConnection: the h11 connection that uses h11's internals, which no other file does.

Each shortcut states its share of the processor time of a cached manifest. `connection_type` compares them with a
StrictConnection, in which h11 does the work by its public interface, and gives that one where h11 has changed.
"""

from functools import cache
from importlib.metadata import version
from typing import Any

import h11
import structlog
from h11 import CLIENT, DONE, IDLE, MUST_CLOSE, SEND_BODY, SEND_RESPONSE, SERVER
from h11._readers import READERS as H11_READERS
from h11._writers import WRITERS as H11_WRITERS

from gateway.server.request_head import HEAD_LIMIT, HeadRefused, find_head_end, parse_whole_head
from gateway.server.strict_connection import StrictConnection

log = structlog.get_logger()

_HEADERS: Any = type(h11.Request(method="GET", target="/", headers=[("Host", "a")]).headers)
"""The type of h11's list of headers, which a request accepts without a check."""

READERS: Any = H11_READERS
WRITERS: Any = H11_WRITERS
_END = h11.EndOfMessage()
_READS = (b"GET", b"HEAD")
_FOLLOWED = frozenset({b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"})
"""Headers by which h11 follows a request."""


class FastConnection(StrictConnection):
    """A StrictConnection that parses request heads itself, and records a complete response without making it."""

    def __init__(self, head_limit: int) -> None:
        super().__init__(head_limit)
        self._read_incomplete_head: Any = self._reader
        self._reader = self._read_head
        self._is_plain = False
        """Whether the head that was read last is of a request that has neither a body nor a header that h11 follows."""

    next_event = h11.Connection.next_event

    def start_next_cycle(self) -> None:
        if self.client_is_waiting_for_100_continue:
            super().start_next_cycle()
        self._cstate.start_next_cycle()
        self._request_method = None
        self._reader, self._writer = self._read_head, WRITERS[SERVER, IDLE]

    def _process_event(self, role: Any, event: Any) -> None:
        """Follow an event. A plain request and its end change the states alone: to follow those took 8 %."""
        cycle = self._cstate
        states = cycle.states
        if event is _END and cycle.keep_alive and states[SERVER] in (SEND_RESPONSE, DONE):
            states[CLIENT] = DONE
            self._reader = READERS[CLIENT, DONE]
        elif self._is_plain and type(event) is h11.Request and states[SERVER] is IDLE:
            states[CLIENT], states[SERVER] = SEND_BODY, SEND_RESPONSE
            self._request_method, self.their_http_version = event.method, event.http_version
            self._reader, self._writer = _read_no_body, WRITERS[SERVER, SEND_RESPONSE]
        else:
            super()._process_event(role, event)

    def headers_of(self, request: h11.Request) -> list[tuple[bytes, bytes]]:
        """The headers of a request. As a sequence of h11 they took two calls each."""
        headers: Any = request.headers
        return [(name, value) for _, name, value in headers._full_items]

    def note_response(self, status: int, *, last: bool) -> bool | None:
        """Record a complete response; see StrictConnection.

        To have h11 build and check a head of which nothing is sent took 15 %. A complete response to a request that
        was read completely changes nothing but the server's state.
        """
        cycle = self._cstate
        is_plain = cycle.states[SERVER] is SEND_RESPONSE and cycle.states[CLIENT] in (DONE, MUST_CLOSE)
        if last or not is_plain:
            return super().note_response(status, last=last)
        cycle.states[SERVER] = DONE if cycle.keep_alive else MUST_CLOSE
        self._writer = None
        return not cycle.keep_alive

    def end_body(self) -> h11.EndOfMessage:
        """Record that a body, of which h11 has seen the beginning, was read to its end without h11.

        What is left of it in the buffer is no content, but the beginning of a chunk's frame.
        """
        self._chunks = None
        self._reader = _read_body_end
        event = self.next_event()
        if not isinstance(event, h11.EndOfMessage):
            raise RuntimeError(f"h11 takes the end of a body for {event}")
        return event

    def _read_head(self, buffer: Any) -> h11.Request | None:
        """Read a request head for h11; None while it is incomplete. A second parse by h11 itself took 12 %."""
        data = bytes(buffer)
        end = find_head_end(data)
        self._is_plain = False
        if end is None:
            request: h11.Request | None = self._read_incomplete_head(buffer)
            return request
        try:
            method, target, http_version, headers, is_chunked = parse_whole_head(data, end)
            if is_chunked:
                self._expect_chunks(data[end:])
        except HeadRefused as refusal:
            self.refusal = str(refusal)
            raise h11.LocalProtocolError(str(refusal), error_status_hint=refusal.status) from refusal
        buffer._extract(end)
        is_read = http_version == b"1.1" and method in _READS
        self._is_plain = is_read and _FOLLOWED.isdisjoint([name for _, name, _ in headers])
        return h11.Request(
            method=method, target=target, headers=_HEADERS(headers), http_version=http_version, _parsed=True
        )


def _read_no_body(buffer: Any) -> h11.EndOfMessage:
    """Read the end of a request without a body; what is in the buffer belongs to the next one."""
    return _END


def _read_body_end(buffer: Any) -> h11.EndOfMessage:
    buffer._extract(len(buffer))
    return h11.EndOfMessage()


@cache
def connection_type() -> type[StrictConnection]:
    """Choose FastConnection if h11's internals are as it expects, else StrictConnection, and log that."""
    if behaves_as_h11(FastConnection):
        return FastConnection
    log.warning("h11_not_recognised", version=version("h11"), reason="requests take more processor time")
    return StrictConnection


_BEGUN = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
_KEPT = b"GET /a HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
_CLOSING = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
_REFUSED = (
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n",
)


def behaves_as_h11(fast: type[StrictConnection]) -> bool:
    """Whether a short dialogue leaves a `fast` connection in the states of a StrictConnection."""
    try:
        ours, theirs = fast(HEAD_LIMIT), StrictConnection(HEAD_LIMIT)
        for sent in (_KEPT, _KEPT, _CLOSING):
            mine, expected = _events(ours, sent), _events(theirs, sent)
            request = expected[0]
            if mine != expected or not isinstance(request, h11.Request):
                return False
            if ours.headers_of(request) != theirs.headers_of(request):
                return False
            if ours.note_response(200, last=False) != theirs.note_response(200, last=False):
                return False
            if ours.states != theirs.states:
                return False
            if ours.our_state is ours.their_state is DONE:
                ours.start_next_cycle()
                theirs.start_next_cycle()
        return _ends_bodies(fast(HEAD_LIMIT)) and all(
            _status(fast(HEAD_LIMIT), each) == _status(StrictConnection(HEAD_LIMIT), each) for each in _REFUSED
        )
    except Exception:  # whatever an unknown version raises: it is unknown
        return False


def _ends_bodies(connection: h11.Connection) -> bool:
    """Whether a body whose end h11 has not seen can be ended."""
    if not isinstance(connection, FastConnection):
        return True
    connection.receive_data(_BEGUN + b"some")
    while connection.next_event() is not h11.NEED_DATA:
        pass
    connection.end_body()
    return connection.their_state is DONE


def _events(connection: h11.Connection, sent: bytes) -> list[object]:
    events: list[object] = []
    for piece in (sent[:9], sent[9:]):
        connection.receive_data(piece)
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            events.append(event)
            if isinstance(event, h11.EndOfMessage):
                break
    return events


def _status(connection: h11.Connection, sent: bytes) -> int:
    """The status of the response to a request that is refused; 0 for one that is accepted."""
    connection.receive_data(sent)
    try:
        while connection.next_event() not in (h11.NEED_DATA, h11.PAUSED):
            pass
    except h11.RemoteProtocolError as refusal:
        return refusal.error_status_hint
    return 0
