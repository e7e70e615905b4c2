"""ClockGuard: decides when nothing may be deleted because of the clock; pure, with the clocks as arguments.

A clock that jumps ahead makes reviews and policies due for which nobody has waited, and tags look old. Unknown means
keep.
"""

from datetime import datetime, timedelta

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clock may move against the time that passes, and lie behind what another process has noted."""
LONG_ABSENCE = timedelta(days=1)
"""After this long without a collector, the clock is trusted only when it has been seen to go right for HOLD."""
HOLD = timedelta(hours=1)


class ClockGuard:
    """What one collector or cleaner has seen of the clock. Its methods take `now`, and `passed`: seconds of a clock
    that never jumps."""

    def __init__(self, what: str = "collection") -> None:
        """`what`: goes on, or does not."""
        self._what = what
        self._before: tuple[datetime, float] | None = None
        self._held_until: float | None = None
        self._behind: tuple[datetime, float] | None = None

    def decide(self, now: datetime, passed: float, seen_at: datetime | None) -> str | None:
        """Why nothing may be deleted now; None where nothing speaks against it.

        `seen_at`: when a collector of any process last looked, which the database states.
        """
        reason = self._jump(now, passed, seen_at)
        if reason is not None:
            self._held_until = passed + HOLD.total_seconds()
            return reason
        if self._held_until is not None and passed < self._held_until:
            until = now + timedelta(seconds=self._held_until - passed)
            return f"the clock was set recently: {self._what} goes on at {until:%Y-%m-%d %H:%M} UTC"
        self._held_until = None
        return None

    def _jump(self, now: datetime, passed: float, seen_at: datetime | None) -> str | None:
        before, self._before = self._before, (now, passed)
        if before is None:
            if seen_at is not None and now - seen_at > LONG_ABSENCE:
                return f"the clock says that nothing was collected since {seen_at:%Y-%m-%d %H:%M} UTC"
        elif abs((now - before[0]) - timedelta(seconds=passed - before[1])) > CLOCK_TOLERANCE:
            return f"the clock jumped from {before[0]:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M} UTC"
        if seen_at is not None and seen_at - now > CLOCK_TOLERANCE:
            return self._wait_for(seen_at, passed)
        self._behind = None
        return None

    def _wait_for(self, seen_at: datetime, passed: float) -> str | None:
        """Why nothing may be collected where somebody noted a later time; None once nobody has noted another for HOLD:
        then no process goes by that clock any more, which was ahead, and would stop all as long as it was."""
        if self._behind is None or self._behind[0] != seen_at:
            self._behind = seen_at, passed
        if passed - self._behind[1] >= HOLD.total_seconds():
            return None
        return f"the clock is behind {seen_at:%Y-%m-%d %H:%M} UTC, when another process looked"
