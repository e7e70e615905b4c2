"""Memory of one event loop, of manifests and upstreams: recent hits, recent absences, creation dates, ongoing
outages.

Looking up pointer, link and document for each request took 9 % of the time of a cached manifest.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from cache.oci.digest import Digest
from cache.repository import FoundManifest
from cache.values import Outcome, Source

T = TypeVar("T")

_LISTS_KEPT = 60.0

REFUSAL_SHARE = 5
"""A refusal is remembered for this fraction of the time for which an absence is: many registries refuse what they do
not have, but what they refuse may be granted at any moment."""


@dataclass(frozen=True, slots=True)
class _Recent:
    mark: Hashable
    span: tuple[datetime, datetime] | None
    found: FoundManifest


class RecentManifests:
    """Manifests that were hits, as they were found. An entry holds as long as the mark of the index stays the same.

    Bounded by a count of entries and by the bytes that their manifests take; a full memory is cleared.
    """

    def __init__(self, max_count: int = 10_000, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: dict[Hashable, _Recent] = {}
        self._bytes = 0

    def find(self, key: Hashable, mark: Hashable, now: datetime) -> FoundManifest | None:
        recent = self._entries.get(key)
        if recent is None or recent.mark != mark:
            return None
        if recent.span is not None and not recent.span[0] <= now < recent.span[1]:
            return None
        return recent.found

    def note(
        self, key: Hashable, mark: Hashable, span: tuple[datetime, datetime] | None, found: FoundManifest
    ) -> FoundManifest:
        """Remember what was found if it was a hit, and return it. `mark` is the index's from before the lookup. `span`:
        from when until when it holds, so that it ends where the clock is set back; None for what holds until the mark
        changes."""
        if found.status.outcome is Outcome.HIT:
            size = found.manifest.memory
            if len(self._entries) >= self._max_count or self._bytes + size > self._max_bytes:
                self._entries.clear()
                self._bytes = 0
            before = self._entries.get(key)
            self._bytes += size - (before.found.manifest.memory if before else 0)
            self._entries[key] = _Recent(mark, span, found)
        return found


@dataclass(frozen=True, slots=True)
class Absence:
    """A statement of an upstream that it does not have a reference, or does not show it: why, when, for how long."""

    reason: str
    noted_at: datetime
    ttl: timedelta


class Absences:
    """References that an upstream does not have, or does not show. Bounded in number; all of a kind hold for the same
    time, so the oldest expire first."""

    def __init__(self, ttl: timedelta, limit: int = 10_000) -> None:
        self._ttl = ttl
        self._limit = limit
        self._noted: dict[Hashable, Absence] = {}

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, key: Hashable, now: datetime, reason: str, *, briefly: bool = False) -> None:
        """Remember an absence. `briefly`: it was a refusal, which a grant may end, so it holds for less time."""
        self._noted.pop(key, None)
        self._noted[key] = Absence(reason, now, self._ttl / REFUSAL_SHARE if briefly else self._ttl)
        while self._noted and (len(self._noted) > self._limit or not self._is_recent(next(iter(self._noted)), now)):
            del self._noted[next(iter(self._noted))]

    def find(self, key: Hashable, now: datetime) -> Absence | None:
        return self._noted[key] if key in self._noted and self._is_recent(key, now) else None

    def _is_recent(self, key: Hashable, now: datetime) -> bool:
        """Whether an absence holds at this moment; one of the future was noted by a clock that was wrong."""
        noted = self._noted[key]
        return timedelta(0) <= now - noted.noted_at < noted.ttl

    def forget(self, key: Hashable) -> None:
        """Drop an absence, since the reference was found or is to be looked up anew."""
        self._noted.pop(key, None)


class RecentLists(Generic[T]):
    """Lists of tags and referrers as upstreams returned them a moment ago, counted from the request.

    Bounded by a count of entries and by the bytes that they take; a full memory is cleared, and old ones are dropped.
    """

    def __init__(
        self,
        max_count: int = 100,
        max_bytes: int = 48 * 1024 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: dict[Hashable, tuple[float, int, T]] = {}
        self._bytes = 0
        self._forgotten_at = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable, seconds: float) -> T | None:
        """Find a response that was requested within so many seconds."""
        entry = self._entries.get(key)
        return entry[2] if entry is not None and self.clock() - entry[0] < seconds else None

    def note(self, key: Hashable, requested_at: float, size: int, found: T) -> bool:
        """Remember what a request found that was sent at a moment of `clock`, and takes so many bytes. False if a right
        was lost since then, so that nobody may keep it."""
        if requested_at <= self._forgotten_at:
            return False
        self._drop([key, *(old for old, entry in self._entries.items() if self.clock() - entry[0] >= _LISTS_KEPT)])
        if len(self._entries) >= self._max_count or self._bytes + size > self._max_bytes:
            self._clear()
        if size <= self._max_bytes:
            self._entries[key] = (requested_at, size, found)
            self._bytes += size
        return True

    def _drop(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            entry = self._entries.pop(key, None)
            self._bytes -= entry[1] if entry else 0

    def forget(self) -> None:
        """Forget all lists, and those that are being requested, since a right to one of them may be lost."""
        self._forgotten_at = self.clock()
        self._clear()

    def _clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


class AllowedDigests:
    """Digests that gates let through. An entry holds as long as the mark of the index stays the same: content only
    grows older. Bounded in number; those used last are kept."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._marks: dict[Hashable, Hashable] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def holds(self, key: Hashable, mark: Hashable) -> bool:
        """Whether the digest is let through; `key` names the gate, the image and the digest."""
        if key not in self._marks or self._marks[key] != mark:
            return False
        self._marks[key] = self._marks.pop(key)  # is the last to be dropped now
        return True

    def note(self, key: Hashable, mark: Hashable) -> None:
        """Remember that a digest is let through. `mark`: the index's from before the decision."""
        self._marks.pop(key, None)
        self._marks[key] = mark
        if len(self._marks) > self._limit:
            del self._marks[next(iter(self._marks))]


class CreationDates:
    """Publishers' creation dates of manifests, and manifests that have none. Bounded in number; those used last are
    kept.

    A date follows from verified content, so it holds for every image and for ever. That there is none may be due to
    what one image does not have, so it holds for that image only.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._known: dict[Hashable, datetime | None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, digest: Digest) -> datetime | None:
        """The manifest's date; None if it is not known."""
        if digest in self._known:
            self._known[digest] = self._known.pop(digest)  # is the last to be dropped now
        return self._known.get(digest)

    def is_undated(self, key: Hashable) -> bool:
        """Whether it is known that the manifest has no date; `key` names the image and the manifest."""
        return key in self._known

    def note(self, digest: Digest, key: Hashable, created: datetime | None) -> datetime | None:
        """Remember and return a date; None: there is none for `key`, which names the image and the manifest."""
        self._known.pop(noted := key if created is None else digest, None)
        self._known[noted] = created
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]
        return created


@dataclass(frozen=True, slots=True)
class OngoingOutage:
    """An outage of one source. `late`: a request got no response, so that waiting long for the next one is useless."""

    since: datetime
    late: bool


class Outages:
    """The ongoing outages, one for each source that fails: at most as many as upstreams and credentials."""

    def __init__(self) -> None:
        self._ongoing: dict[Source, OngoingOutage] = {}

    def note(self, source: Source, now: datetime, *, late: bool = False) -> None:
        known = self._ongoing.get(source)
        if known is None or late > known.late:
            self._ongoing[source] = OngoingOutage(min(known.since, now) if known else now, late)

    def end(self, source: Source) -> None:
        """Note that the source has responded."""
        self._ongoing.pop(source, None)

    def find(self, source: Source) -> OngoingOutage | None:
        return self._ongoing.get(source)
