"""Ledger: what the clients observed, request by request, and what was done to the server meanwhile."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """Kind of content that a client requested."""

    TAG = "manifest by tag"
    MANIFEST = "manifest by digest"
    BLOB = "blob"
    RANGE = "range of a blob"
    HEAD = "head of a blob"


@dataclass(frozen=True)
class Seen:
    """One request and its response as far as it arrived; times are those of `time.monotonic`.

    `status` 0: no head arrived. `complete`: the framing says that the body is complete. `right`: every received byte
    equals the requested content at its offset, and a complete response lacks none. `waited`: seconds until the head.
    `port`: the client's end of the connection. `refusal`: the beginning of an error's body.
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
    refusal: str = ""

    @property
    def served(self) -> bool:
        return self.status in (200, 206) and self.complete

    @property
    def broken(self) -> bool:
        """Whether no complete response, of any status, arrived."""
        return not self.complete


class Deed(Enum):
    """Kind of fault that the rig causes in the server or its surroundings."""

    KILL = "kill"
    PAUSE = "pause"
    RESTART = "restart"
    CRASH = "crash"
    FAILPOINT = "failpoint"
    REFUSE = "refuse"
    EVICT = "evict"
    DAMAGE = "damage"
    CLOCK = "clock"
    FULL = "full disk"
    PAIR = "pair"


DEADLY = (Deed.KILL, Deed.CRASH, Deed.RESTART, Deed.FAILPOINT)


@dataclass(frozen=True)
class Done:
    """One deed, from its beginning until the end of its effect.

    `about` is a digest if it concerns one content. `pair`: the name of a pair, whose parts are deeds of their own.
    """

    deed: Deed
    begun: float
    ended: float
    about: str = ""
    pair: str = ""


class Ledger:
    """Both lists; every thread may write to them."""

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
    """Percentile: the value below which `percent` percent of the values lie; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None
