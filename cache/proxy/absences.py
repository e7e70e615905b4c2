"""Absences: manifests that an upstream said it does not have, remembered briefly. For one event loop."""

from collections.abc import Hashable
from datetime import datetime, timedelta

LIMIT = 10_000


class Absences:
    """Bounded in number; all are good for the same time, so the oldest end first."""

    def __init__(self, ttl: timedelta, limit: int = LIMIT) -> None:
        self._ttl = ttl
        self._limit = limit
        self._until: dict[Hashable, datetime] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, key: Hashable, now: datetime) -> None:
        self._until.pop(key, None)
        self._until[key] = now + self._ttl
        while self._until and (len(self._until) > self._limit or next(iter(self._until.values())) <= now):
            del self._until[next(iter(self._until))]

    def holds(self, key: Hashable, now: datetime) -> bool:
        until = self._until.get(key)
        return until is not None and now < until

    def forget(self, key: Hashable) -> None:
        """It was found after all."""
        self._until.pop(key, None)
