"""Memory of lookups: what was found, and in a place of its own what was not, by which strangers drive out nothing.

What somebody asked for who may not know of it is noted beside what was not found: strangers learn neither from the
other, not even by what the memory still knows.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT_ABSENT = 1_000
"""Absences that each memory keeps. Names and secrets that a client invents are all absent, so however many there are,
they take the room of other absences alone."""

_CONCEALED = object()


class Memory(Generic[K, V]):
    """Values by key, the least used dropped first. None is the absence of a value, which is remembered too.

    A concealed key takes the room of an absence and is forgotten like one; a value that it has is found all the same.

    `version` counts the drops: a value that was read before the last one must not be kept.
    """

    def __init__(self, kept: int, weigh: Callable[[V], int] | None = None, kept_absent: int = KEPT_ABSENT) -> None:
        """`kept`: how many values are kept, or how much they may weigh together."""
        self._kept = kept
        self._weigh = weigh
        # Several memories are asked in each request, where an LRUCache takes five calls for one of this.
        self._present: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._absent: LRUCache[K | tuple[object, K], None] = LRUCache(kept_absent)
        self.version = 0

    def find(self, key: K) -> V | None:
        """Find a value; None also where nothing is known: see `knows_absence`."""
        value = self._present.get(key)
        if value is not None:
            self._present.move_to_end(key)
        return value

    def knows_absence(self, key: K) -> bool:
        """Whether it is known that there is no value; a use of that knowledge."""
        return self._absent.get(key, self) is None

    def keep(self, key: K, value: V | None, version: int) -> None:
        """Keep what was read while the memory had that version, unless something was dropped since."""
        if version != self.version:
            return
        if value is None:
            self._absent[key] = None
            return
        weight = self._weight_of(value)
        if weight > self._kept:
            return
        self._forget(key)
        while self._weight + weight > self._kept:
            self._forget(next(iter(self._present)))
        self._present[key] = value
        self._weight += weight

    def knows_concealed(self, key: K) -> bool:
        """Whether it is known that a key is concealed; a use of that knowledge."""
        return self._absent.get((_CONCEALED, key), self) is None

    def conceal(self, key: K, version: int) -> None:
        """Note that a key was asked for by somebody who may not know of it, unless something was dropped since."""
        if version == self.version:
            self._absent[_CONCEALED, key] = None

    def drop(self, key: K) -> None:
        """Forget a value, and every absence."""
        self.forget_absences()
        self._forget(key)

    def drop_all(self) -> None:
        self.forget_absences()
        self._present.clear()
        self._weight = 0

    def forget_absences(self) -> None:
        """Forget what was not found, since something was made whose keys are not told."""
        self.version += 1
        self._absent.clear()

    def _forget(self, key: K) -> None:
        value = self._present.pop(key, None)
        if value is not None:
            self._weight -= self._weight_of(value)

    def _weight_of(self, value: V) -> int:
        return 1 if self._weigh is None else self._weigh(value)
