"""PullQueue: misses wait while an upstream must not be called, and continue in fair order.

Each waiting miss belongs to a group, whose name is opaque. Groups take turns, and within a group the order is first in,
first out, so that a group with a thousand misses does not delay one with a single miss.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of one source's queue.

    `length`: misses that wait; more are refused at once. `wait`: seconds that a miss waits at most; the rest of the
    time until clients give up is for the fetch itself. `check_interval`: seconds between two looks at the pause.
    """

    length: int = 128
    wait: float = 15.0
    check_interval: float = 0.05


DEFAULT_LIMITS = QueueLimits()


class RoundRobin(Generic[T]):
    """Items of groups, taken one by one in rounds over the groups."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def add(self, group: Hashable, item: T) -> None:
        self._groups.setdefault(group, deque()).append(item)

    def take(self) -> T:
        """The next item, which is removed. Raises KeyError where there is none."""
        group, items = self._groups.popitem(last=False)
        item = items.popleft()
        if items:
            self._groups[group] = items
        return item

    def remove(self, group: Hashable, item: T) -> None:
        """Remove an item; does nothing where it has been taken."""
        items = self._groups.get(group)
        if items is not None and item in items:
            items.remove(item)
            if not items:
                del self._groups[group]


class PullQueue:
    """Queue of one source. `pause` returns the seconds for which nothing may be sent; other processes may change it."""

    def __init__(self, pause: Callable[[], float], limits: QueueLimits = DEFAULT_LIMITS) -> None:
        self._pause = pause
        self._limits = limits
        self._waiting: RoundRobin[asyncio.Future[bool]] = RoundRobin()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, group: Hashable) -> bool:
        """Whether it is the caller's turn now; False where that will not be in time, or too many wait."""
        seconds = self._pause()
        if not seconds and not self._waiting:
            return True
        if seconds > self._limits.wait or len(self._waiting) >= self._limits.length:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.add(group, turn)
        self._check_in(seconds)
        try:
            async with asyncio.timeout(self._limits.wait):
                return await turn
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(group, turn)

    def _check_in(self, seconds: float) -> None:
        if self._timer is None:
            # Another process may end the pause early, or begin a longer one.
            delay = min(seconds, self._limits.check_interval)
            self._timer = asyncio.get_running_loop().call_later(delay, self._check)

    def _check(self) -> None:
        self._timer = None
        seconds = self._pause()
        while self._waiting and seconds > self._limits.wait:
            self._end_wait(self._waiting.take(), admitted=False)
        if self._waiting and not seconds:
            self._end_wait(self._waiting.take(), admitted=True)
        if self._waiting:
            self._check_in(seconds)

    @staticmethod
    def _end_wait(turn: asyncio.Future[bool], *, admitted: bool) -> None:
        if not turn.done():
            turn.set_result(admitted)
