"""How long what an upstream said about a tag is good for; pure."""

from datetime import datetime, timedelta
from enum import Enum

from cache.values import TagPointer


class Freshness(Enum):
    FRESH = "fresh"
    REVALIDATE = "revalidate"
    MISS = "miss"


def freshness(pointer: TagPointer | None, now: datetime, ttl: timedelta) -> Freshness:
    if pointer is None:
        return Freshness.MISS
    return Freshness.FRESH if now - pointer.checked_at < ttl else Freshness.REVALIDATE


def may_be_stale(pointer: TagPointer, now: datetime, ttl: timedelta, grace: timedelta) -> bool:
    """Whether the pointer may be served although the upstream cannot confirm it (RFC 5861, stale-if-error)."""
    return now - pointer.checked_at < ttl + grace
