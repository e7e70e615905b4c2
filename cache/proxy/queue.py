"""PullQueue: misses wait while an upstream must not be called, and continue in fair order.

Each waiting miss has a requester. Groups take turns, then the clients of a group, so that a group with a thousand
misses neither delays one with a single miss nor takes its place in the queue. Those who wait for the same continue with
the first of them: what one has begun, the others only follow.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
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


class _Turn:
    """The turn of all who wait for the same. It has a place in the queue for each of them that is another requester."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.waiting: Counter[Requester] = Counter()
        self.told: list[asyncio.Future[bool]] = []
        """Futures of the tasks that wait, each of which the next check must find awake: a future of all, shielded from
        the end of one of them, would wake them a step of the loop too late."""


class PullQueue:
    """Queue of one source. `pause` returns the seconds for which nothing may be sent; other processes may change it."""

    def __init__(self, pause: Callable[[], float], limits: QueueLimits = DEFAULT_LIMITS) -> None:
        self._pause = pause
        self._limits = limits
        self._queue: FairQueue[_Turn] = FairQueue(limits.length)
        self._shared: dict[Hashable, _Turn] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    async def wait(self, who: Requester, key: Hashable = None) -> bool:
        """Whether it is the requester's turn now; False where that will not be in time, or too many wait.

        Requests with an equal `key` wait for the same: the turn of the first is that of all.
        """
        seconds = self._pause()
        if not seconds and not self._queue:
            return True
        if seconds > self._limits.wait:
            return False
        turn = self._shared.get(key) or _Turn(key)
        if key is not None:
            self._shared[key] = turn
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        turn.told.append(told)
        self._enter(who, turn)
        self._check_in(seconds)
        try:
            async with asyncio.timeout(self._limits.wait):
                return await told
        except TimeoutError:
            return False
        finally:
            turn.told.remove(told)
            self._leave(who, turn)
            if not turn.waiting:
                self._forget(turn)

    def join(self, key: Hashable, who: Requester) -> None:
        """Have a requester wait, too, where others wait with this key on behalf of all who want the same."""
        if (turn := self._shared.get(key)) is not None:
            self._enter(who, turn)

    def _enter(self, who: Requester, turn: _Turn) -> None:
        turn.waiting[who] += 1
        if turn.waiting[who] > 1:
            return
        self._queue.add(who, turn)
        if (surplus := self._queue.surplus()) is not None:
            refused, other = surplus
            del other.waiting[refused]
            if not other.waiting:
                self._end(other, admitted=False)

    def _leave(self, who: Requester, turn: _Turn) -> None:
        if who in turn.waiting:
            turn.waiting[who] -= 1
            if not turn.waiting[who]:
                del turn.waiting[who]
                self._queue.remove(who, turn)

    def _check_in(self, seconds: float) -> None:
        if self._timer is None:
            # Another process may end the pause early, or begin a longer one.
            delay = min(seconds, self._limits.check_interval)
            self._timer = asyncio.get_running_loop().call_later(delay, self._check)

    def _check(self) -> None:
        self._timer = None
        seconds = self._pause()
        while seconds > self._limits.wait and (taken := self._queue.take()):
            self._end(taken[1], admitted=False)
        if not seconds and (taken := self._queue.take()):
            self._end(taken[1], admitted=True)
        if self._queue:
            self._check_in(seconds)

    def _end(self, turn: _Turn, *, admitted: bool) -> None:
        """Tell all who wait for a turn; they leave the queue."""
        for who in turn.waiting:
            self._queue.remove(who, turn)
        turn.waiting.clear()
        self._forget(turn)
        for told in turn.told:
            if not told.done():
                told.set_result(admitted)

    def _forget(self, turn: _Turn) -> None:
        if self._shared.get(turn.key) is turn:
            del self._shared[turn.key]
