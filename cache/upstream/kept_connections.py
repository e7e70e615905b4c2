"""Kept connections: pools of one origin and one credential, whose connections serve several requests.

A connection is kept after a response that was framed and read to its end, if neither the library nor the socket holds a
byte beyond it. What has arrived before the next request is sent can therefore not become its response, and a request
without a body, as all of ours are, is sent once more over a new connection where a kept one fails before it responds.

HTTP's end of a response is the library's knowledge. Where its objects do not look as expected, nothing is kept.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpcore2

from cache.runtime.tasks import Tasks

IDLE_LIMIT = 25.0
"""Seconds without a request after which a connection is closed: before address translators forget it."""

SWEEP_EVERY = 5.0
"""Seconds between two looks for such connections."""

KEPT = 8
"""Idle connections of one pool."""

POOLS = 32
"""Pools of one client; those that were not used for longest are given up."""

QUIET = 0.05
"""Seconds without a request after a response that has no body: a registry that sends one all the same sends it right
behind the head, where it would be taken for the next response."""

CREDENTIAL, _ANEW = "credential", "anew"
"""Extensions of a request: whose credential its connection may carry; whether a kept connection has failed it."""

_BODILESS = (204, 304)
_BROKEN = (httpcore2.ReadError, httpcore2.WriteError, httpcore2.RemoteProtocolError)
P = TypeVar("P", "KeepingPool", "AsyncKeepingPool")


DISTRUST = 600.0
"""Seconds for which no connection is kept after an origin sent bytes beyond a response."""


@dataclass(slots=True)
class Keeping:
    """What the connections of one pool share: whom to tell of an idle one, and from when on they are kept."""

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
        """Whether the pool closes the connection rather than use it."""
        if not self._used:
            return bool(self._inner.has_expired())
        return self._resting and not self._usable()

    def _usable(self) -> bool:
        return time.monotonic() < self._rested_at + IDLE_LIMIT and self._keeping.allowed and is_silent(self._inner)

    def _begin(self, request: httpcore2.Request) -> bool:
        """Take the connection for a request; True if it is a kept one. False where that must not be used."""
        with self._lock:
            resting, self._resting = self._resting, False
        self._bodiless = request.method == b"HEAD"
        if not self._used:
            self._used = True
            return True
        return resting and not request.extensions.get(_ANEW) and self._usable()

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

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        kept = self._used
        if not self._begin(request):
            self._inner.close()
            raise httpcore2.ConnectionNotAvailable
        try:
            response = self._inner.handle_request(request)
        except _BROKEN as error:
            if not kept:
                raise
            request.extensions[_ANEW] = True
            raise httpcore2.ConnectionNotAvailable from error
        framed = self._note_head(response)
        body = _Body(response.stream, lambda: self._ended(framed))
        return httpcore2.Response(
            response.status, headers=response.headers, content=body, extensions=response.extensions
        )

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
        try:
            response = await self._inner.handle_async_request(request)
        except _BROKEN as error:
            if not kept:
                raise
            request.extensions[_ANEW] = True
            raise httpcore2.ConnectionNotAvailable from error
        framed = self._note_head(response)
        body = _AsyncBody(response.stream, lambda: self._rest(framed), self._inner.aclose)
        return httpcore2.Response(
            response.status, headers=response.headers, content=body, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def close_if_stale(self) -> None:
        if self._give_up():
            await self._inner.aclose()


class _Body:
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


class _AsyncBody:
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


class KeepingPool(httpcore2.ConnectionPool):
    """Connections of one origin and credential, for threads."""

    def __init__(self, idle: Callable[[], None], **options: Any) -> None:
        super().__init__(max_keepalive_connections=KEPT, **options)
        self.keeping = Keeping(idle)

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.ConnectionInterface:
        return KeptConnection(super().create_connection(origin), self.keeping)


class AsyncKeepingPool(httpcore2.AsyncConnectionPool):
    """Connections of one origin and credential, for tasks."""

    def __init__(self, idle: Callable[[], None], **options: Any) -> None:
        super().__init__(max_keepalive_connections=KEPT, **options)
        self.keeping = Keeping(idle)

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.AsyncConnectionInterface:
        return AsyncKeptConnection(super().create_connection(origin), self.keeping)


class PoolsByUse(Generic[P]):
    """Pools by origin and credential, of which the least recently used is given up."""

    def __init__(self, make: Callable[[], P]) -> None:
        self._make: Callable[[], P] = make
        self._pools: OrderedDict[Any, P] = OrderedDict()
        self._retired: list[P] = []
        self._lock = threading.Lock()

    def get(self, request: httpcore2.Request) -> P:
        origin = request.url.origin
        key = (origin.scheme, origin.host, origin.port, request.extensions[CREDENTIAL])
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._make()
            self._pools.move_to_end(key)
            if len(self._pools) > POOLS:
                _, unused = self._pools.popitem(last=False)
                unused.keeping.allowed_from = math.inf  # its connections close as their responses end
                self._retired.append(unused)
            return pool

    def all(self) -> list[P]:
        """All pools; those that are given up and have no connection left are forgotten."""
        with self._lock:
            self._retired = [pool for pool in self._retired if pool.connections]
            return list(self._pools.values()) + self._retired


class KeepingPools:
    """Pools for threads; a timer closes what is idle."""

    def __init__(self, **options: Any) -> None:
        self._pools = PoolsByUse[KeepingPool](lambda: KeepingPool(self._idle, **options))
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        return self._pools.get(request).handle_request(request)

    def _idle(self) -> None:
        with self._lock:
            if self._timer is None and not self._closed:
                self._timer = timer = threading.Timer(SWEEP_EVERY, self._sweep)
                timer.daemon, timer.name = True, "idle connections"
                try:
                    timer.start()
                except RuntimeError:  # no more threads: the pool itself closes what has expired, at its next request
                    self._timer = None

    def _sweep(self) -> None:
        with self._lock:
            self._timer = None
        connections = [connection for pool in self._pools.all() for connection in pool.connections]
        for connection in connections:
            if isinstance(connection, KeptConnection):
                connection.close_if_stale()
        if any(connection.is_idle() for connection in connections):
            self._idle()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        for pool in self._pools.all():
            pool.close()


class AsyncKeepingPools:
    """Pools for tasks; a timer closes what is idle."""

    def __init__(self, **options: Any) -> None:
        self._pools = PoolsByUse[AsyncKeepingPool](lambda: AsyncKeepingPool(self._idle, **options))
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        return await self._pools.get(request).handle_async_request(request)

    def _idle(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_EVERY, self._begin_sweep)

    def _begin_sweep(self) -> None:
        self._timer = None
        self._tasks.start(self._sweep(), "close idle connections")

    async def _sweep(self) -> None:
        connections = [connection for pool in self._pools.all() for connection in pool.connections]
        for connection in connections:
            if isinstance(connection, AsyncKeptConnection):
                await connection.close_if_stale()
        if any(connection.is_idle() for connection in connections):
            self._idle()

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.close()
        for pool in self._pools.all():
            await pool.aclose()


# What the library and the system hold of a connection.


def is_silent(connection: Any) -> bool:
    """Whether no byte has arrived beyond the last response, neither here nor in the system, and no end."""
    http11 = _http11(connection)
    with suppress(AttributeError, ValueError, OSError):
        stream = http11._network_stream
        silent: bool = http11._h11_state.trailing_data == (b"", False) and not _unread(stream)
        return silent and not stream.get_extra_info("is_readable")
    return False


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
