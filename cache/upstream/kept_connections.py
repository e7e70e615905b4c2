"""Kept connections: connections of one origin and one credential that serve several requests, one after the other.

A connection is kept after a response that was framed and read to its end, if neither the library nor the socket holds a
byte beyond it. What has arrived before the next request is sent can therefore not become its response, and a request
without a body, as all of ours are, is sent once more over a new connection where a kept one fails before it responds.

HTTP's end of a response is the library's knowledge. Where its objects do not look as expected, nothing is kept.
"""

import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpcore2

IDLE_LIMIT = 25.0
"""Seconds without a request after which a connection is closed: before address translators forget it."""

QUIET = 0.05
"""Seconds without a request after a response that has no body: a registry that sends one all the same sends it right
behind the head, where it would be taken for the next response."""

CREDENTIAL, CLAIM, _ANEW = "credential", "claim", "anew"
"""Extensions of a request: whose credential its connection may carry; how to end its claim to an idle connection;
whether a kept connection has failed it."""

COUNT = "count of the body"
"""Extension of a response to a thread: its BodyCount, None where its length is not stated or not recognised."""

INFORMATIONAL_LIMIT = 10
"""Informational responses (1xx) to one request. Each takes the library 50 us, and nothing else has its turn then."""

_BODILESS = (204, 304)
_BROKEN = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)


DISTRUST = 600.0
"""Seconds for which no connection is kept after an origin sent bytes beyond a response."""


@dataclass(slots=True)
class Keeping:
    """State that the connections of one pool share: whom to tell of an idle one, and from when on they are kept."""

    idle: Callable[[], None]
    allowed_from: float = 0.0

    @property
    def allowed(self) -> bool:
        return time.monotonic() >= self.allowed_from


class _Connection:
    """State of one connection of the library's, `inner`: it rests between a response's end and the next request."""

    def __init__(self, inner: Any, keeping: Keeping) -> None:
        self._inner = inner
        self._keeping = keeping
        self._lock = threading.Lock()
        self._resting = False
        self._used = False
        self._rested_at = self._ready_at = 0.0
        self._bodiless = False

    def can_handle_request(self, origin: httpcore2.Origin) -> bool:
        can: bool = self._inner.can_handle_request(origin)
        return can

    def can_multiplex(self) -> bool:
        return False

    def info(self) -> str:
        info: str = self._inner.info()
        return info

    def is_connected(self) -> bool:
        connected: bool = self._inner.is_connected()
        return connected

    def is_closed(self) -> bool:
        closed: bool = self._inner.is_closed()
        return closed

    def is_idle(self) -> bool:
        return self._resting or (not self._used and bool(self._inner.is_idle()))

    def is_available(self) -> bool:
        return self._resting and time.monotonic() >= self._ready_at

    def has_expired(self) -> bool:
        """Whether the pool closes the connection rather than use it. The pool asks this of all its connections for each
        request, so whether one is silent is looked at when it is taken."""
        if not self._used:
            return bool(self._inner.has_expired())
        return self._resting and not self._recent()

    def _usable(self) -> bool:
        return self._recent() and is_silent(self._inner)

    def _recent(self) -> bool:
        return time.monotonic() < self._rested_at + IDLE_LIMIT and self._keeping.allowed

    def _begin(self, request: httpcore2.Request) -> bool:
        """Take the connection for a request; True if it is a kept one. False where that must not be used."""
        with self._lock:
            resting, self._resting = self._resting, False
        self._bodiless = request.method == b"HEAD"
        if not self._used:
            self._used = True
            return True
        return resting and not request.extensions.get(_ANEW) and self._usable()

    def _step(self, name: str, _: object) -> None:
        """Called by the library at each step of the first request. Where the connection is a tunnel through a proxy,
        the object that reads the response is made in the middle of that."""
        if name.endswith("receive_response_headers.started"):
            limit_informational(_http11(self._inner))

    def _note_head(self, response: httpcore2.Response) -> bool:
        """Note what the response's head says; whether its end is stated in one way alone (RFC 9112, section 6.3)."""
        self._bodiless = self._bodiless or response.status in _BODILESS
        names = [name.lower() for name, _ in response.headers]
        return not (b"transfer-encoding" in names and b"content-length" in names)

    def _rest(self, framed: bool) -> bool:
        """Keep the connection after a response that was closed; False where it must be closed."""
        if not self._inner.is_idle():
            return False
        now = time.monotonic()
        http11 = _http11(self._inner)
        if not framed or (http11 is not None and http11._h11_state.trailing_data[0]):
            self._keeping.allowed_from = max(self._keeping.allowed_from, now + DISTRUST)
        self._rested_at, self._ready_at = now, now + (QUIET if self._bodiless else 0.0)
        if not self._usable():
            return False
        with self._lock:
            self._resting = True
        self._keeping.idle()
        return True

    def _give_up(self) -> bool:
        """Take an idle connection that must not be used again; True where the caller is to close it."""
        with self._lock:
            if not self._resting or self._usable():
                return False
            self._resting = False
            return True


# The library has one interface for threads and one for tasks, so each of the following stands twice.


class KeptConnection(_Connection, httpcore2.ConnectionInterface):
    """A connection for threads."""

    def open(self, request: httpcore2.Request) -> None:
        """Connect without sending the request. Raises what the library raises, AttributeError for a proxy."""
        stream = self._inner._connect(request)
        self._inner._connection = httpcore2.HTTP11Connection(request.url.origin, stream)
        limit_informational(self._inner._connection)
        self._rested_at = time.monotonic()
        self._used = self._resting = True
        self._keeping.idle()

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        kept = self._used
        begun = self._begin(request)
        if end_claim := request.extensions.get(CLAIM):
            end_claim(request)
        if not begun:
            self._inner.close()
            raise httpcore2.ConnectionNotAvailable
        if not kept:
            request.extensions["trace"] = self._step
        try:
            response = self._inner.handle_request(request)
        except _BROKEN as error:
            if not kept:
                raise
            request.extensions[_ANEW] = True
            raise httpcore2.ConnectionNotAvailable from error
        framed = self._note_head(response)
        body = Body(response.stream, lambda: self._ended(framed))
        extensions = {**response.extensions, COUNT: _body_count(self._inner)}
        return httpcore2.Response(response.status, headers=response.headers, content=body, extensions=extensions)

    def _ended(self, framed: bool) -> None:
        if not self._rest(framed):
            self._inner.close()

    def close(self) -> None:
        self._inner.close()

    def close_if_stale(self) -> None:
        if self._give_up():
            self._inner.close()


class AsyncKeptConnection(_Connection, httpcore2.AsyncConnectionInterface):
    """A connection for tasks."""

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        kept = self._used
        if not self._begin(request):
            await self._inner.aclose()
            raise httpcore2.ConnectionNotAvailable
        if not kept:
            request.extensions["trace"] = self._async_step
        try:
            response = await self._inner.handle_async_request(request)
        except _BROKEN as error:
            if not kept:
                raise
            request.extensions[_ANEW] = True
            raise httpcore2.ConnectionNotAvailable from error
        framed = self._note_head(response)
        body = AsyncBody(response.stream, lambda: self._rest(framed), self._inner.aclose)
        return httpcore2.Response(
            response.status, headers=response.headers, content=body, extensions=response.extensions
        )

    async def _async_step(self, name: str, info: object) -> None:
        self._step(name, info)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def close_if_stale(self) -> None:
        if self._give_up():
            await self._inner.aclose()


class Body:
    """The body of a response; `ended` is called once the library has closed it."""

    def __init__(self, inner: Any, ended: Callable[[], None]) -> None:
        self._inner, self._ended = inner, ended
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.close()
            self._ended()


class AsyncBody:
    def __init__(self, inner: Any, rest: Callable[[], bool], close: Callable[[], Any]) -> None:
        self._inner, self._rest, self._close = inner, rest, close
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            yield part

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            try:
                await self._inner.aclose()
            finally:
                if not self._rest():
                    await self._close()


# What the library and the system hold of a connection.


class BodyCount:
    """The library's count of the bytes of a body that are still to come, for one who reads them from the socket.

    Through the library every 16 KiB of a body take a thread 0.3 ms, from the socket a tenth of that.
    """

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def is_at(self, left: int) -> bool:
        """Whether the library, too, expects so many bytes."""
        expected: int = self._reader._remaining
        return expected == left

    def note_read(self, count: int) -> None:
        """Note bytes that were read from the socket: once none is left, the library ends the response."""
        self._reader._remaining -= count


def _body_count(connection: Any) -> BodyCount | None:
    """The count of the response whose head was read last; None where the library has none."""
    reader = getattr(getattr(_http11(connection), "_h11_state", None), "_reader", None)
    return BodyCount(reader) if isinstance(getattr(reader, "_remaining", None), int) else None


def limit_informational(http11: Any) -> None:
    """Let the library's object for HTTP/1.1 refuse a response that more informational ones precede than the limit."""
    state, count = getattr(http11, "_h11_state", None), 0
    if state is None or "next_event" in vars(state):
        return
    next_event = state.next_event

    def counted() -> Any:
        nonlocal count
        event = next_event()
        status = getattr(event, "status_code", None)  # that of a response, informational or not
        if status is not None:
            count = count + 1 if status < 200 else 0
            if count > INFORMATIONAL_LIMIT:
                raise httpcore2.RemoteProtocolError("too many informational responses")
        return event

    state.next_event = counted


def is_silent(connection: Any) -> bool:
    """Whether no byte has arrived beyond the last response, neither here nor in the system, and no end."""
    http11 = _http11(connection)
    with suppress(AttributeError, ValueError, OSError):
        stream = http11._network_stream
        silent: bool = http11._h11_state.trailing_data == (b"", False) and not _unread(stream)
        return silent and not _is_readable(stream)
    return False


def _is_readable(stream: Any) -> bool:
    """Whether a byte of a response, or the connection's end, has arrived at the socket."""
    if not stream.get_extra_info("is_readable"):
        return False
    connection = stream.get_extra_info("socket")
    if not isinstance(connection, ssl.SSLSocket):
        return True
    connection.settimeout(0)
    try:
        connection.recv(1)
    except ssl.SSLWantReadError:  # a session ticket, which TLS 1.3 sends after the handshake
        return False
    return True


def _http11(connection: Any) -> Any:
    """The library's object for HTTP/1.1 within one for TLS or a proxy; None where it is not recognised."""
    while connection is not None and not hasattr(connection, "_h11_state"):
        connection = getattr(connection, "_connection", None)
    return connection


def _unread(stream: Any) -> bool:
    """Whether a stream holds bytes that it has taken from its socket. Raises AttributeError for an unknown one."""
    decrypting = stream.get_extra_info("ssl_object")
    if decrypting is not None and decrypting.pending():
        return True
    if isinstance(stream, httpcore2.AsyncNetworkStream):
        inner = stream._stream  # type: ignore[attr-defined]
        if decrypting is not None:
            if inner._read_bio.pending:
                return True
            inner = inner.transport_stream
        return bool(inner._protocol.read_queue) or inner._protocol.is_at_eof
    # TLS within a proxy's TLS is decrypted by another object than the socket's, which may hold bytes of its own.
    return decrypting is not getattr(stream.get_extra_info("socket"), "_sslobj", None)
