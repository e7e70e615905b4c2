"""Order of what was read: pure functions that find looks at a key which no single order of all requests explains.

Each look alone may be right, and two of them not: one that has shown a change makes those before it over for all later
ones, by whichever name and worker they read. Gibbons and Korach, "Testing shared memories" (1997), section 4.4: the
requests of one value, its change and the looks that showed it, span a zone from the first of their ends to the last of
their beginnings, and there is such an order unless two zones cross.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from .push_ledger import Change, Look, candidates


@dataclass(frozen=True)
class Zone:
    """Requests of one value. `first_end`: when one of them had surely taken effect; `last_begin`: when one had not."""

    value: str | None
    first_end: float
    last_begin: float

    def crosses(self, other: "Zone") -> bool:
        """Whether this value was surely there all the time from the first end to the last beginning, and the other one
        at some moment of it."""
        if self.first_end >= self.last_begin:
            return False
        return self.first_end < other.last_begin and other.first_end < self.last_begin


def crossed(changes: Sequence[Change], looks: Iterable[Look]) -> Iterable[tuple[Zone, Zone]]:
    """Find pairs of values of one key, of which the first was there both before and after the second.

    A look that several changes explain is left out, and so is a change without a response that nobody saw.
    """
    ends: dict[Change | None, float] = {change: change.until for change in changes if change.acknowledged}
    begins: dict[Change | None, float] = {change: change.begun for change in ends if change is not None}
    for look in looks:
        sources = [one for one in candidates(changes, look.begun, look.ended) if value_of(one) == look.value]
        if len(sources) == 1:
            [source] = sources
            made = (-inf, -inf) if source is None else (source.begun, source.until)
            ends[source] = min(ends.get(source, made[1]), look.ended)
            begins[source] = max(begins.get(source, made[0]), look.begun)
    zones = [Zone(value_of(source), ends[source], begins[source]) for source in ends]
    for number, zone in enumerate(zones):
        for other in zones[:number]:
            if zone.crosses(other):
                yield zone, other
            elif other.crosses(zone):
                yield other, zone


def value_of(change: Change | None) -> str | None:
    """The value that a change leaves; None also for what was there before all of them."""
    return None if change is None else change.value
