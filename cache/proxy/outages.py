"""Outages: since when sources fail, and whether they leave questions unanswered. For one event loop."""

from dataclasses import dataclass
from datetime import datetime

from cache.values import Source


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
