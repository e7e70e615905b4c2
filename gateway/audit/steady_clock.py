"""SteadyClock: decides whether the clock may say that something is old."""

import time
from collections.abc import Callable

TOLERANCE_SECONDS = 300.0
"""How far the clock may move against the time that passes."""
HOLD_SECONDS = 3600.0
"""How long the clock must have gone right before it is trusted."""


class SteadyClock:
    """What one process has seen of the clock: it is trusted once it has gone right for an hour.

    A clock that is wrong for a moment would make everything old.
    """

    def __init__(self, clock: Callable[[], float], passed: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds since 1970. `passed`: seconds of a clock that is never set."""
        self._clock = clock
        self._passed = passed
        self._begin()

    def _begin(self) -> None:
        self._began_at, self._began = self._clock(), self._passed()

    def is_trusted(self) -> bool:
        """Whether the clock has gone right for HOLD_SECONDS."""
        passed = self._passed() - self._began
        if abs(self._clock() - self._began_at - passed) > TOLERANCE_SECONDS:
            self._begin()
            return False
        return passed >= HOLD_SECONDS
