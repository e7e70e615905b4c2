"""ImageTtlPolicy: after how many days without a pull an image is purged from the cache of a group; values only."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.namespaces.errors import TtlInvalid

DEFAULT_DAYS = 90
"""Days of a policy that nobody has set (GitLab, "Cleanup policies")."""

MOST_DAYS = 400
"""Days for which it is remembered when an image was pulled last."""


@dataclass(frozen=True, slots=True)
class ImageTtlPolicy:
    """The policy of a group. `ttl`: days. `completed_at`: when it was applied last; None where it never was."""

    group_id: int
    enabled: bool
    ttl: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None = None

    def expired_before(self, now: datetime) -> datetime:
        """What was pulled before this moment, and not since, is to be purged."""
        return now - timedelta(days=self.ttl)


def check_ttl(days: int) -> int:
    """Check after how many days a policy may purge. Raises TtlInvalid."""
    if not 0 < days <= MOST_DAYS:
        raise TtlInvalid(f"must be from 1 to {MOST_DAYS} days, for which it is remembered when an image was pulled")
    return days


def default_policy(group_id: int, created_at: datetime) -> ImageTtlPolicy:
    """The policy of a group for which none was set; it purges nothing."""
    return ImageTtlPolicy(group_id, False, DEFAULT_DAYS, created_at, created_at)
