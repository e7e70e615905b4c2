"""Ledger of pushes: what clients changed and looked at in native repositories, and what a look may show after that.

Pure but for its lock. Each tag, manifest and blob of a repository is a register: it holds a digest, or nothing.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


class Thing(Enum):
    """Kind of content in a repository."""

    BLOB = "blob"
    MANIFEST = "manifest"
    TAG = "tag"


@dataclass(frozen=True)
class Key:
    """One blob or manifest, by its digest, or one tag of a repository."""

    repository: str
    thing: Thing
    name: str

    @property
    def path(self) -> str:
        """Path below /v2/ from which it is read."""
        return f"{self.repository}/{'blobs' if self.thing is Thing.BLOB else 'manifests'}/{self.name}"

    def __str__(self) -> str:
        return f"{self.thing.value} {self.name[:26]} of {self.repository}"


@dataclass(frozen=True)
class Change:
    """A request that changes a key; times are those of `time.monotonic`.

    `value`: the digest that the key holds then; None: it is deleted. `acknowledged`: the response said so. One that was
    not may have been made or not, and may be made until `until`, for a client can leave before the server is done.
    """

    key: Key
    value: str | None
    begun: float
    until: float
    acknowledged: bool


@dataclass(frozen=True)
class Look:
    """A request that read a key. `value`: the digest that it held; None: the response said that there is nothing."""

    key: Key
    value: str | None
    begun: float
    ended: float
    where: str = ""


@dataclass(frozen=True)
class Step:
    """One request of a pusher and its response as far as it arrived.

    `status` 0: no complete response. `expected`: the statuses of a server without a fault. `since`: when the upload
    began that the request goes on with. `left`: the client itself broke off. `lost`: acknowledged bytes of an upload
    that are gone. `right`: no byte differs from what was requested.
    """

    what: str
    path: str
    begun: float
    ended: float
    status: int = 0
    expected: frozenset[int] = frozenset()
    since: float = 0.0
    left: bool = False
    hung: bool = False
    waited: float = 0.0
    lost: int = 0
    right: bool = True
    retry_after: str | None = None
    request_id: str | None = None
    refusal: str = ""


class PushLedger:
    """All changes, looks and steps; every thread may write to them.

    `delay`: seconds for which the server keeps what nothing needs; None: for ever.
    """

    def __init__(self, delay: float | None = None) -> None:
        self.delay = delay
        self._lock = threading.Lock()
        self._changes: dict[Key, list[Change]] = {}
        self._needs: dict[Key, tuple[Key, ...]] = {}
        self._looks: list[Look] = []
        self._steps: list[Step] = []

    def changed(self, *changes: Change) -> None:
        with self._lock:
            for change in changes:
                self._changes.setdefault(change.key, []).append(change)

    def needed(self, manifest: Key, needs: Sequence[Key]) -> None:
        """Note what a manifest refers to."""
        with self._lock:
            self._needs[manifest] = tuple(needs)

    def looked(self, look: Look) -> None:
        with self._lock:
            self._looks.append(look)

    def stepped(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)

    @property
    def changes(self) -> dict[Key, list[Change]]:
        with self._lock:
            return {key: list(changes) for key, changes in self._changes.items()}

    @property
    def needs(self) -> dict[Key, tuple[Key, ...]]:
        with self._lock:
            return dict(self._needs)

    @property
    def looks(self) -> list[Look]:
        with self._lock:
            return list(self._looks)

    @property
    def steps(self) -> list[Step]:
        with self._lock:
            return list(self._steps)

    def keys(self, repository: str, thing: Thing) -> list[Key]:
        """Keys of a repository that were changed, in the order in which they first were."""
        with self._lock:
            return [key for key in self._changes if key.repository == repository and key.thing is thing]

    def now(self, key: Key, moment: float) -> set[str | None]:
        """What a look at a key may show at a moment, by the changes that have been noted."""
        with self._lock:
            changes = list(self._changes.get(key, ()))
        return permitted(changes, moment, moment)

    def keeps(self, key: Key, moment: float) -> bool:
        """Whether the server surely has a key at a moment: it was pushed, and nothing has taken it away since."""
        if self.now(key, moment) != {key.name}:
            return False
        return self.delay is None or not may_be_collected(key, moment, moment, self.delay, self.changes, self.needs)


def may_be_collected(
    key: Key,
    begun: float,
    ended: float,
    delay: float,
    changes: Mapping[Key, Sequence[Change]],
    needs: Mapping[Key, Sequence[Key]],
) -> bool:
    """Whether a blob or manifest may be gone between two moments because nothing has needed it for a delay.

    It may not if it was pushed within the delay, or if a tag surely points to what needs it.
    """
    if key.thing is Thing.TAG:
        return False
    for change in changes.get(key, ()):
        if change.acknowledged and change.value and change.until <= begun and change.begun > ended - delay:
            return False
    for tag, moved in changes.items():
        if tag.thing is Thing.TAG and tag.repository == key.repository:
            held = [one and Key(tag.repository, Thing.MANIFEST, one) for one in permitted(moved, begun, ended)]
            if all(manifest and key in closure(manifest, needs) for manifest in held):
                return False
    return True


def closure(manifest: Key, needs: Mapping[Key, Sequence[Key]]) -> set[Key]:
    """A manifest with all that it refers to, and what that refers to."""
    found, waiting = set[Key](), [manifest]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += needs.get(key, ())
    return found


def permitted(changes: Sequence[Change], begun: float, ended: float) -> set[str | None]:
    """What a look between two moments may show: the value of each of its candidates."""
    return {change and change.value for change in candidates(changes, begun, ended)}


def candidates(changes: Sequence[Change], begun: float, ended: float) -> list[Change | None]:
    """Each change that may be the last one made when a look between two moments reads; None for none of them.

    An acknowledged change that ended before the look hides all that was over before it began.
    """
    settled = [change.begun for change in changes if change.acknowledged and change.until <= begun]
    last = max(settled, default=None)
    possible = [change for change in changes if change.begun <= ended and (last is None or change.until >= last)]
    return [*possible, None] if last is None else [*possible]
