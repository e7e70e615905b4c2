"""Turns: what the cache cannot answer waits while an upstream must not be asked, and goes on in fair order.

Whoever waits names a group, which is opaque here. Groups take turns, and within one the first comes first, so that a
group with a thousand misses does not stand in the way of one with a single miss.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

LENGTH = 128
"""Misses that wait for one source; more are refused at once."""

WAIT_LIMIT = 15.0
"""Seconds; the rest of the time until clients give up is for the fetch itself."""

_LOOK_EVERY = 0.05


class Rounds(Generic[T]):
    """Items of groups, to be taken one by one in rounds over the groups."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, group: Hashable, item: T) -> None:
        self._groups.setdefault(group, deque()).append(item)

    def take(self) -> T:
        """Raises KeyError where there is none."""
        group, items = self._groups.popitem(last=False)
        item = items.popleft()
        if items:
            self._groups[group] = items
        return item

    def remove(self, group: Hashable, item: T) -> None:
        """Does nothing where it has been taken."""
        items = self._groups.get(group)
        if items is not None and item in items:
            items.remove(item)
            if not items:
                del self._groups[group]


class Turns:
    """The waiting line of one source. `pause` says for how many seconds nothing may be sent; others may change it."""

    def __init__(self, pause: Callable[[], float]) -> None:
        self._pause = pause
        self._line: Rounds[asyncio.Future[bool]] = Rounds()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._line)

    async def wait(self, group: Hashable) -> bool:
        """Whether it is this one's turn now; False where that will not be in time, or too many wait."""
        seconds = self._pause()
        if not seconds and not self._line:
            return True
        if seconds > WAIT_LIMIT or len(self._line) >= LENGTH:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line.add(group, turn)
        self._look_in(seconds)
        try:
            async with asyncio.timeout(WAIT_LIMIT):
                return await turn
        except TimeoutError:
            return False
        finally:
            self._line.remove(group, turn)

    def _look_in(self, seconds: float) -> None:
        if self._timer is None:
            delay = min(seconds, _LOOK_EVERY)  # another process may end the pause, or begin a longer one
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        seconds = self._pause()
        while self._line and seconds > WAIT_LIMIT:
            self._call(self._line.take(), go=False)
        if self._line and not seconds:
            self._call(self._line.take(), go=True)
        if self._line:
            self._look_in(seconds)

    @staticmethod
    def _call(turn: asyncio.Future[bool], *, go: bool) -> None:
        if not turn.done():
            turn.set_result(go)
