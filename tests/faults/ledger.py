"""What the clients saw, request by request, and what was done to the server meanwhile."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a client asked for."""

    TAG = "manifest by tag"
    MANIFEST = "manifest by digest"
    BLOB = "blob"
    RANGE = "range of a blob"
    HEAD = "head of a blob"


@dataclass(frozen=True)
class Seen:
    """One request and its answer as far as it came; times as `time.monotonic` tells them.

    `status` 0: no head came. `complete`: the framing says that it is whole. `right`: every byte that came stands at
    its place in what was asked for, and where it is complete nothing is missing. `waited`: seconds until the head.
    `port`: the client's own end of the connection.
    """

    kind: Kind
    image: str
    digest: str
    begun: float
    ended: float
    status: int = 0
    complete: bool = False
    right: bool = True
    hung: bool = False
    received: int = 0
    waited: float = 0.0
    x_cache: str | None = None
    retry_after: str | None = None
    request_id: str | None = None
    port: int = 0

    @property
    def served(self) -> bool:
        return self.status in (200, 206) and self.complete

    @property
    def broken(self) -> bool:
        """No whole answer, of whatever status, came."""
        return not self.complete


class Deed(Enum):
    """What the rig does to the server or its surroundings."""

    KILL = "kill"
    PAUSE = "pause"
    RESTART = "restart"
    CRASH = "crash"
    FAILPOINT = "failpoint"
    REFUSE = "refuse"
    EVICT = "evict"
    DAMAGE = "damage"


DEADLY = (Deed.KILL, Deed.CRASH, Deed.RESTART, Deed.FAILPOINT)


@dataclass(frozen=True)
class Done:
    """One deed, from its beginning until its effect was over; `about` is a digest where it concerns one content."""

    deed: Deed
    begun: float
    ended: float
    about: str = ""


class Ledger:
    """Both lists, safe to write from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._done: list[Done] = []

    def saw(self, seen: Seen) -> None:
        with self._lock:
            self._seen.append(seen)

    def did(self, done: Done) -> None:
        with self._lock:
            self._done.append(done)

    @property
    def seen(self) -> list[Seen]:
        with self._lock:
            return list(self._seen)

    @property
    def done(self) -> list[Done]:
        with self._lock:
            return list(self._done)

    def count(self, *deeds: Deed) -> int:
        return sum(done.deed in deeds for done in self.done)


def share(values: Iterable[float], percent: float) -> float | None:
    """The value below which so many percent of them lie; None without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None
