"""RequestTurns: begins few requests in one turn of the event loop, those of each client in turn; pure ASGI.

Hundreds of requests that arrive at once would all be begun in one turn, which everybody else waits for: once for the
connection, once for the request, and again at each step of its response. So each turn begins a few, the others wait
for the next ones, and of those that wait the kinds take turns, then the clients of each kind. Nobody waits for a
request that waits itself, for an upstream or a database: it counts for the turn in which it begins.
"""

import asyncio
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from cache.runtime.fair_queue import FairQueue, Requester
from cache.runtime.on_behalf import on_behalf_of
from gateway.client_name import client_name, site_name

LONG_TURN = 0.005
"""Seconds of a turn after which the next one begins half as many requests; after a shorter one it is one more."""

MOST_IN_A_TURN = 64


class RequestTurns:
    """Passes on requests, in the order in which they come while they are few. For one event loop."""

    def __init__(
        self,
        app: ASGIApp,
        kind_of: Callable[[str], str],
        most: int = MOST_IN_A_TURN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kind_of`: the kind of a request by its path, of which there are few. `most`: requests that a turn begins."""
        self._app = app
        self._kind_of = kind_of
        self._most = self._limit = most
        self._clock = clock
        self._begun = 0
        self._turn_began = 0.0
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        address = client[0] if client else ""
        if self._begun >= self._limit:
            await self._wait(Requester(self._kind_of(scope["path"]), client_name(address)))
        else:
            self._begin(1)
        with on_behalf_of(Requester(site_name(address), client_name(address))):
            await self._app(scope, receive, send)

    def _begin(self, count: int) -> None:
        """Count requests as begun in this turn; the first of them has the next turn count anew."""
        if not self._begun:
            self._turn_began = self._clock()
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._begun += count

    async def _wait(self, who: Requester) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(who, turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.remove(who, turn)
            raise

    def _end_turn(self) -> None:
        """Begin the requests that the next turn has room for; it runs once in each turn after one that began any."""
        is_long = self._clock() - self._turn_began > LONG_TURN
        self._limit = max(1, self._limit // 2) if is_long else min(self._most, self._limit + 1)
        self._begun = 0
        while self._begun < self._limit and (taken := self._waiting.take()) is not None:
            _, turn = taken
            if not turn.done():
                turn.set_result(None)
                self._begin(1)
