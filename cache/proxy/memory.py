"""What one event loop remembers of manifests and upstreams: recent hits, recent absences, running outages.

Looking up pointer, link and document for each request took 9 % of the time of a cached manifest.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cache.repository import FoundManifest
from cache.values import Outcome, Source

COUNT = 10_000
BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Hit:
    mark: Hashable
    until: datetime | None
    found: FoundManifest


class Hits:
    """`mark` is the index's: one of another mark is none. Bounded in number and in the bytes of the documents."""

    def __init__(self) -> None:
        self._hits: dict[Hashable, _Hit] = {}
        self._bytes = 0

    def find(self, key: Hashable, mark: Hashable, now: datetime) -> FoundManifest | None:
        hit = self._hits.get(key)
        if hit is None or hit.mark != mark or (hit.until is not None and now >= hit.until):
            return None
        return hit.found

    def note(self, key: Hashable, mark: Hashable, until: datetime | None, found: FoundManifest) -> FoundManifest:
        """The same that was found, which is remembered if it was a hit; `mark` is from before it was looked for."""
        if found.status.outcome is Outcome.HIT:
            size = len(found.manifest.raw)
            if len(self._hits) >= COUNT or self._bytes + size > BYTES:
                self._hits.clear()
                self._bytes = 0
            before = self._hits.get(key)
            self._bytes += size - (len(before.found.manifest.raw) if before else 0)
            self._hits[key] = _Hit(mark, until, found)
        return found


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


@dataclass(frozen=True, slots=True)
class Outage:
    since: datetime
    late: bool
    """Whether a question stayed unanswered; to wait long for the next answer would be in vain."""


class Outages:
    """One entry per source that fails now: there are as many sources as upstreams and credentials."""

    def __init__(self) -> None:
        self._running: dict[Source, Outage] = {}

    def note(self, source: Source, now: datetime, *, late: bool = False) -> None:
        known = self._running.get(source)
        if known is None or late > known.late:
            self._running[source] = Outage(known.since if known else now, late)

    def end(self, source: Source) -> None:
        """The source has answered."""
        self._running.pop(source, None)

    def find(self, source: Source) -> Outage | None:
        return self._running.get(source)
