"""Turns: places for which requesters wait in a fair line, each for a limited time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.runtime.fair_queue import Requester
from cache.runtime.line import Line, PlaceRequest

LENGTH = 512
"""Requests that wait in one line."""


class NoTurn(Exception):
    """The requester got no place in time, or too many wait for one."""


class Turns:
    """Places of which no requester takes all while others wait. Belongs to the event loop."""

    def __init__(self, places: int, spare: int, seconds: float) -> None:
        """`spare`: further places, for groups that hold none. `seconds`: how long a requester waits for a place."""
        self._line = Line(places, spare, LENGTH)
        self._seconds = seconds

    @asynccontextmanager
    async def turn(self, who: Requester) -> AsyncIterator[None]:
        """Hold a place for the block. Raises NoTurn."""
        decided = asyncio.Event()
        place = PlaceRequest(self._line, decided.set)
        try:
            place.add(who)
            try:
                async with asyncio.timeout(self._seconds):
                    await decided.wait()
            except TimeoutError as error:
                raise NoTurn(f"no place within {self._seconds:.0f} s") from error
            if place.is_refused:
                raise NoTurn("too many wait for a place")
            yield
        finally:
            place.close()
