"""CollectionGuard: decides when nothing may be collected; pure, with the clocks as arguments.

Unknown means keep. A clock that jumps makes reviews due that nobody has waited for, and a database that lost rows makes
content look unused; both are noticed here rather than by those who look for their images.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clock may move against the time that passes, and lie behind what another process has noted."""
LONG_ABSENCE = timedelta(days=1)
"""After this long without a collector, the clock is trusted only when it has been seen to go right for HOLD."""
HOLD = timedelta(hours=1)
WINDOW = timedelta(days=1)
"""Time in which deletions are counted."""
OLD_DELAYS = 7
"""Delays after which stored content counts as old: a week by default. What pipelines push and delete every day is
younger, and would use up any share."""
MOST_OF_WINDOW = 0.5
"""Share of all blobs and manifests that old ones which are deleted in a window may have before somebody is asked. Of
the old ones alone it would be that of one repository, where all others hold what is young."""
FEW = 1000
"""Old blobs and manifests that may be deleted in a window whatever their share."""


@dataclass(frozen=True, slots=True)
class Window:
    """Deletions of old content since a time; `objects`: blobs and manifests that there were then, of any age."""

    began_at: datetime | None
    objects: int
    deleted: int

    def is_over(self, now: datetime) -> bool:
        """Whether deletions are to be counted anew."""
        return self.began_at is None or not timedelta(0) <= now - self.began_at < WINDOW

    @property
    def is_used_up(self) -> bool:
        """Whether so much was deleted that somebody must say whether that is meant."""
        return self.deleted >= max(FEW, self.objects * MOST_OF_WINDOW)


class CollectionGuard:
    """What one collector has seen of the clock. Its methods take `now`, and `passed`: seconds of a clock that never
    jumps."""

    def __init__(self) -> None:
        self._before: tuple[datetime, float] | None = None
        self._held_until: float | None = None
        self._behind: tuple[datetime, float] | None = None

    def decide(self, now: datetime, passed: float, seen_at: datetime | None) -> str | None:
        """Why nothing may be collected now; None where nothing speaks against it.

        `seen_at`: when a collector of any process last looked, which the database states.
        """
        reason = self._jump(now, passed, seen_at)
        if reason is not None:
            self._held_until = passed + HOLD.total_seconds()
            return reason
        if self._held_until is not None and passed < self._held_until:
            until = now + timedelta(seconds=self._held_until - passed)
            return f"the clock was set recently: collection goes on at {until:%Y-%m-%d %H:%M} UTC"
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
        then no process goes by that clock any more, which was ahead, and would stop collection as long as it was."""
        if self._behind is None or self._behind[0] != seen_at:
            self._behind = seen_at, passed
        if passed - self._behind[1] >= HOLD.total_seconds():
            return None
        return f"the clock is behind {seen_at:%Y-%m-%d %H:%M} UTC, when another process looked"


def jitter_of(key: str, delay: timedelta) -> timedelta:
    """How much later than the delay content is reviewed, so that what was pushed together is not deleted at once: at
    most a tenth of the delay, and a minute. It is always the same for one key."""
    share = sum(key.encode()) % 100 / 100
    return min(delay / 10, timedelta(minutes=1)) * share
