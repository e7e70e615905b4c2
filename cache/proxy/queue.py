"""PullQueue: misses wait while an upstream must not be called, and continue in fair order.

Each waiting miss has a requester. Groups take turns, then the clients of a group, so that a group with a thousand
misses neither delays one with a single miss nor takes its place in the queue.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from cache.runtime.fair_queue import FairQueue, Requester


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of one source's queue.

    `length`: misses that wait; for one more, the latest of whoever has the most is refused. `wait`: seconds that a miss
    waits at most; the rest of the time until clients give up is for the fetch itself. `check_interval`: seconds between
    two looks at the pause.
    """

    length: int = 128
    wait: float = 15.0
    check_interval: float = 0.05


DEFAULT_LIMITS = QueueLimits()


class PullQueue:
    """Queue of one source. `pause` returns the seconds for which nothing may be sent; other processes may change it."""

    def __init__(self, pause: Callable[[], float], limits: QueueLimits = DEFAULT_LIMITS) -> None:
        self._pause = pause
        self._limits = limits
        self._waiting: FairQueue[asyncio.Future[bool]] = FairQueue(limits.length)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, who: Requester) -> bool:
        """Whether it is the requester's turn now; False where that will not be in time, or too many wait."""
        seconds = self._pause()
        if not seconds and not self._waiting:
            return True
        if seconds > self._limits.wait:
            return False
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.add(who, turn)
        if (refused := self._waiting.surplus()) is not None:
            self._end_wait(refused[1], admitted=False)
        self._check_in(seconds)
        try:
            async with asyncio.timeout(self._limits.wait):
                return await turn
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(who, turn)

    def _check_in(self, seconds: float) -> None:
        if self._timer is None:
            # Another process may end the pause early, or begin a longer one.
            delay = min(seconds, self._limits.check_interval)
            self._timer = asyncio.get_running_loop().call_later(delay, self._check)

    def _check(self) -> None:
        self._timer = None
        seconds = self._pause()
        while seconds > self._limits.wait and (taken := self._waiting.take()):
            self._end_wait(taken[1], admitted=False)
        if not seconds and (taken := self._waiting.take()):
            self._end_wait(taken[1], admitted=True)
        if self._waiting:
            self._check_in(seconds)

    @staticmethod
    def _end_wait(turn: asyncio.Future[bool], *, admitted: bool) -> None:
        if not turn.done():
            turn.set_result(admitted)
