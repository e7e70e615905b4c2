"""Line: places that are shared fairly by groups and then by their clients, and the queue of the requests for one.

It decides and never waits: whoever made a request is told when the wait has ended.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum

from cache.runtime.fair_queue import FairPlaces, FairQueue, Requester


class Line:
    """Places and the queue for them. Belongs to the event loop."""

    def __init__(self, places: int, spare: int, length: int) -> None:
        """`spare`: further places, for groups that hold none. `length`: requests that wait."""
        self._places = FairPlaces(places, spare)
        self._queue: FairQueue[PlaceRequest] = FairQueue(length)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def held(self) -> int:
        return self._places.held

    def has_room(self, who: Requester) -> bool:
        """Whether the requester would get a place at once, and nobody waits for one."""
        return not len(self) and self._places.allows(who)

    def enter(self, who: Requester, request: "PlaceRequest") -> None:
        self._queue.add(who, request)
        self._admit()
        if (surplus := self._queue.surplus()) is not None:
            refused, other = surplus
            other.refuse(refused)

    def leave(self, who: Requester, request: "PlaceRequest") -> None:
        self._queue.remove(who, request)

    def release(self, who: Requester) -> None:
        self._places.release(who)
        self._admit()

    def _admit(self) -> None:
        while (taken := self._queue.take(self._places.allows)) is not None:
            who, request = taken
            self._places.take(who)
            request.admit(who)


class _State(Enum):
    WAITING = "waiting"
    HELD = "held"
    REFUSED = "refused"
    CLOSED = "closed"


class PlaceRequest:
    """A request for one place, made by any number of readers. Its owner closes it, which gives the place back."""

    def __init__(self, line: Line, decided: Callable[[], None] = lambda: None) -> None:
        """`decided` is called when the wait has ended."""
        self._line = line
        self._decided = decided
        self._state = _State.WAITING
        self._readers: Counter[Requester] = Counter()
        self._holder: Requester | None = None

    @property
    def waits(self) -> bool:
        return self._state is _State.WAITING

    @property
    def is_held(self) -> bool:
        return self._state is _State.HELD

    @property
    def is_refused(self) -> bool:
        """Whether the queue was full for every reader."""
        return self._state is _State.REFUSED

    def add(self, who: Requester) -> None:
        """Add a reader, who waits in the queue too if nobody of the same group and address does."""
        if self.waits:
            self._readers[who] += 1
            if self._readers[who] == 1:
                self._line.enter(who, self)

    def withdraw(self, who: Requester) -> None:
        """Remove a reader, who leaves the queue."""
        if self.waits and who in self._readers:
            self._readers[who] -= 1
            if not self._readers[who]:
                del self._readers[who]
                self._line.leave(who, self)

    def close(self) -> None:
        if self._holder is not None:
            holder, self._holder = self._holder, None
            self._line.release(holder)
        self._end(_State.CLOSED)

    # Called by the line.

    def admit(self, who: Requester) -> None:
        self._holder = who
        del self._readers[who]
        self._end(_State.HELD)

    def refuse(self, who: Requester) -> None:
        del self._readers[who]
        if not self._readers:
            self._end(_State.REFUSED)

    def _end(self, state: _State) -> None:
        self._state = state
        for who in self._readers:
            self._line.leave(who, self)
        self._readers.clear()
        self._decided()
