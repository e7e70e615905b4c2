"""Connection pools: kept connections by origin and credential, one kind for tasks and one for threads.

Far away, opening a connection takes two round trips before its first request. While a manifest is requested, threads
therefore open some of the connections over which its blobs come next, and a request waits for a connection that is
about to be free rather than open one more.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

import httpcore2

from cache.runtime.tasks import Tasks
from cache.upstream.kept_connections import CLAIM, CREDENTIAL, AsyncKeptConnection, Body, Keeping, KeptConnection

SWEEP_EVERY = 5.0
"""Seconds between two looks for connections that have been idle for too long."""

KEPT = 16
"""Idle connections of one pool. So many are opened ahead: some clients request all layers of an image at once, and one
that waits for the connection of another costs a round trip."""

POOLS = 32
"""Pools of one client; those that were not used for longest are given up."""

FAR = 0.02
"""Seconds of a round trip from which on connections to a host are opened ahead."""

LONGEST_PATIENCE = 0.25
"""Seconds to wait at most for a connection to be free."""

_NOT_OPENED = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, AttributeError, OSError)
_HOSTS = 1000
P = TypeVar("P", "KeepingPool", "AsyncKeepingPool")


class Distances:
    """Seconds that a round trip to a host takes, by name and port: the longer of two steps, each at its best.

    A proxy or relay close by accepts a connection at once, and TLS shows how far away the host itself is.
    """

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], dict[str, float]] = {}

    @contextmanager
    def measured(self, host: str, port: int, step: str) -> Iterator[None]:
        """Measure a step of a new connection within the block; nothing is noted where that fails."""
        began = time.monotonic()
        yield
        if len(self._steps) >= _HOSTS:
            self._steps.clear()
        steps = self._steps.setdefault((host, port), {})
        steps[step] = min(time.monotonic() - began, steps.get(step, math.inf))

    def find(self, origin: httpcore2.Origin) -> float | None:
        """The distance of a host; None while it is not known."""
        steps = self._steps.get((origin.host.decode("ascii"), origin.port))
        return max(list(steps.values())) if steps else None


class KeepingPool(httpcore2.ConnectionPool):
    """Connections of one origin and credential, for threads."""

    def __init__(self, idle: Callable[[], None], distances: Distances, **options: Any) -> None:
        super().__init__(max_keepalive_connections=KEPT, **options)
        self.keeping = Keeping(idle)
        self._distances = distances
        self._changed = threading.Condition()
        self._opening = self._claims = 0

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.ConnectionInterface:
        return KeptConnection(super().create_connection(origin), self.keeping)

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        self._await_idle(request)
        try:
            response = super().handle_request(request)
        finally:
            self._end_claim(request)
        body = Body(response.stream, self._released)
        return httpcore2.Response(
            response.status, headers=response.headers, content=body, extensions=response.extensions
        )

    def _await_idle(self, request: httpcore2.Request) -> None:
        """Wait for a connection to be idle for as long as it takes to open one, where many are open already."""
        distance = self._distances.find(request.url.origin)
        with self._changed:
            if distance is None:
                distance = LONGEST_PATIENCE if self._opening else 0.0
            until = time.monotonic() + min(2 * distance, LONGEST_PATIENCE)
            while True:
                if self._idle_count() > self._claims:
                    self._claims += 1
                    request.extensions[CLAIM] = self._end_claim
                    return
                left = until - time.monotonic()
                if left <= 0 or (not self._opening and len(self.connections) < KEPT):
                    return
                self._changed.wait(left)

    def _idle_count(self) -> int:
        """Connections that the library gives to the next request: not those of a request that it still counts."""
        reserved = {request.connection for request in list(self._requests)}
        return sum(connection.is_available() and connection not in reserved for connection in self.connections)

    def _end_claim(self, request: httpcore2.Request) -> None:
        with self._changed:
            if request.extensions.pop(CLAIM, None):
                self._claims -= 1
                self._changed.notify()

    def _released(self) -> None:
        with self._changed:
            self._changed.notify()

    def open_ahead(self, request: httpcore2.Request) -> None:
        """Open connections in threads until as many as are kept are idle or opening."""
        with self._changed:
            missing = max(0, KEPT - self._idle_count() - self._opening)
            self._opening += missing
        for _ in range(missing):
            try:
                threading.Thread(target=self._open, args=(request,), name="open ahead", daemon=True).start()
            except RuntimeError:  # no more threads: requests open connections themselves
                self._opened()

    def _open(self, request: httpcore2.Request) -> None:
        connection = KeptConnection(super().create_connection(request.url.origin), self.keeping)
        try:
            with suppress(*_NOT_OPENED):
                connection.open(request)
                with self._optional_thread_lock:
                    self._connections.append(connection)
                if not self.keeping.allowed:
                    connection.close_if_stale()
        finally:
            self._opened()

    def _opened(self) -> None:
        with self._changed:
            self._opening -= 1
            self._changed.notify()


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
        """The pool of a request's origin and credential."""
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

    def __init__(self, distances: Distances, **options: Any) -> None:
        self._pools = PoolsByUse[KeepingPool](lambda: KeepingPool(self._idle, distances, **options))
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        return self._pools.get(request).handle_request(request)

    def open_ahead(self, request: httpcore2.Request) -> None:
        """Open connections that requests like this one will need soon."""
        if not self._closed:
            self._pools.get(request).open_ahead(request)

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
            pool.keeping.allowed_from = math.inf  # what is being opened still closes itself
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
