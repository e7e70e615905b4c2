"""Fair queue and fair places: groups take turns, then the clients of each. Pure: nothing here waits or has a clock."""

import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE = 3
"""Places that one party may hold for each place that it leaves free: three quarters, if it is alone."""


@dataclass(frozen=True, slots=True)
class Requester:
    """Party on whose behalf something is requested: a group, and one of its clients. Both names are opaque."""

    group: Hashable = None
    client: Hashable = None


NOBODY = Requester()
"""Requester of work that no client of a group requested."""


def _anybody(_: Requester) -> bool:
    return True


class FairQueue(Generic[T]):
    """Items of requesters, taken one by one in rounds over the groups, and over the clients of each group.

    Of one requester the first item is taken first. Within `limit` items nobody is refused; beyond it `surplus` removes
    an item of whoever has the most, so a group with no more than its share of the queue loses none to the others.
    """

    def __init__(self, limit: int = sys.maxsize) -> None:
        self._limit = limit
        self._groups: OrderedDict[Hashable, OrderedDict[Hashable, deque[T]]] = OrderedDict()
        self._counts: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, who: Requester, item: T) -> None:
        self._groups.setdefault(who.group, OrderedDict()).setdefault(who.client, deque()).append(item)
        self._counts[who.group] += 1

    def take(self, allows: Callable[[Requester], bool] = _anybody) -> tuple[Requester, T] | None:
        """Remove and return the next item of a requester that `allows` lets pass; None where there is none."""
        for group, clients in self._groups.items():
            for client, items in clients.items():
                who = Requester(group, client)
                if allows(who):
                    clients.move_to_end(client)
                    self._groups.move_to_end(group)
                    item = items.popleft()
                    self._forget(who)
                    return who, item
        return None

    def surplus(self) -> tuple[Requester, T] | None:
        """Remove and return an item if there are too many; None if there are not.

        It is the newest item of the client with the most items, in the group with the most; of equals, the latest.
        """
        if len(self) <= self._limit:
            return None
        group = _largest({group: self._counts[group] for group in self._groups})
        client = _largest({client: len(items) for client, items in self._groups[group].items()})
        who, item = Requester(group, client), self._groups[group][client].pop()
        self._forget(who)
        return who, item

    def remove(self, who: Requester, item: T) -> bool:
        """Remove an item; False where it was removed before."""
        items = self._groups.get(who.group, OrderedDict()).get(who.client)
        if items is None or item not in items:
            return False
        items.remove(item)
        self._forget(who)
        return True

    def _forget(self, who: Requester) -> None:
        """Count an item that was removed, and forget a requester without items."""
        self._counts[who.group] -= 1
        clients = self._groups[who.group]
        if not clients[who.client]:
            del clients[who.client]
        if not clients:
            del self._groups[who.group], self._counts[who.group]


def _largest(counts: dict[Hashable, int]) -> Hashable:
    most = max(counts.values())
    return [key for key, count in counts.items() if count == most][-1]


class FairPlaces:
    """A number of places, of which no group takes all, and no client takes all that its group may have.

    A party may take one more while it holds fewer than SHARE times the places that are free to it. However many it
    requests, some remain, of which the next party takes its share, and so on. Where all of `count` are held, there are
    `spare` ones beyond them, for groups that hold none.
    """

    def __init__(self, count: int, spare: int = 0) -> None:
        self._count, self._spare = count, spare
        self._groups: Counter[Hashable] = Counter()
        self._clients: Counter[Requester] = Counter()

    @property
    def held(self) -> int:
        return self._groups.total()

    def allows(self, who: Requester) -> bool:
        """Whether the requester may take a place now."""
        free, held = self._count - self.held, self._groups[who.group]
        if not held and free <= 0:
            return free + self._spare > 0
        # Each place that the group takes is one less that is free, so this many are left to it.
        left = (SHARE * free - held + SHARE) // (SHARE + 1)
        return left > 0 and self._clients[who] < SHARE * left

    def take(self, who: Requester) -> None:
        self._groups[who.group] += 1
        self._clients[who] += 1

    def release(self, who: Requester) -> None:
        self._groups[who.group] -= 1
        self._clients[who] -= 1
        self._groups, self._clients = +self._groups, +self._clients  # forgets those that hold none
