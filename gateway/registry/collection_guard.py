"""Window: how much may be collected within a day before somebody is asked; pure, with the clock as an argument.

A database that lost rows makes content look unused, which is noticed here rather than by those who look for their
images.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

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


def jitter_of(key: str, delay: timedelta) -> timedelta:
    """How much later than the delay content is reviewed, so that what was pushed together is not deleted at once: at
    most a tenth of the delay, and a minute. It is always the same for one key."""
    share = sum(key.encode()) % 100 / 100
    return min(delay / 10, timedelta(minutes=1)) * share
