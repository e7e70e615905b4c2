"""ConnectionCap: how many connections a process has, from their accept on, and how many of them one client has.

Whoever only connects costs nothing. A connection that waits for its TLS handshake or for a request, or for the body of
a request without an accepted credential, therefore gives way to a new one where all places are taken.
"""

from collections import Counter
from collections.abc import Callable

from gateway.client_name import client_name, is_loopback

REJECTIONS = 100
"""Connections above the cap that are read before they are closed."""


class Place:
    """The place of one connection."""

    __slots__ = ("_cap", "_taken", "client")

    def __init__(self, cap: "ConnectionCap", client: str) -> None:
        self.client = client
        self._cap = cap
        self._taken = True

    def leave(self) -> None:
        """Give the place back; no effect if it was given back before."""
        if self._taken:
            self._taken = False
            self._cap.release(self)

    def begin_idle(self, end: Callable[[], object]) -> None:
        """Note that the connection waits for a request; `end` ends it at once if another needs its place."""
        if self._taken:
            self._cap.idle[self] = end

    def end_idle(self) -> None:
        self._cap.idle.pop(self, None)


class ConnectionCap:
    """Places for the connections of a process.

    One client holds at most half of them. Half is much, since an address may stand for a whole fleet or be that of a
    reverse proxy, but it leaves room for others. All clients on loopback are different ones behind one address.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(1, limit // 2)
        self._count = 0
        self._by_client: Counter[str] = Counter()
        self._rejections = 0
        self.idle: dict[Place, Callable[[], object]] = {}
        """Idle connections, from the one that has been idle for longest, and what ends each of them."""

    def enter(self, client: str) -> Place | None:
        """Take a place, for a client as `client_of` names it; None if there is none for this client."""
        if client and self._by_client[client] >= self._share:
            return None
        if self._count >= self._limit and not self._end_longest_idle():
            return None
        self._count += 1
        self._by_client[client] += 1
        return Place(self, client)

    def release(self, place: Place) -> None:
        """Count a place as free again; `Place.leave` calls this once."""
        self.idle.pop(place, None)
        self._count -= 1
        self._by_client[place.client] -= 1
        if not self._by_client[place.client]:
            del self._by_client[place.client]

    def _end_longest_idle(self) -> bool:
        """End the connection that has been idle for longest; False if every one has a request."""
        longest = next(iter(self.idle), None)
        if longest is None:
            return False
        end = self.idle[longest]
        longest.leave()
        end()
        return True

    def begin_rejection(self) -> bool:
        """Whether a connection above the cap may be read before it is closed; the caller then ends the rejection."""
        if self._rejections >= REJECTIONS:
            return False
        self._rejections += 1
        return True

    def end_rejection(self) -> None:
        self._rejections -= 1


def client_of(address: str) -> str:
    """Return the name of a peer's client; empty for all that are on loopback."""
    return "" if is_loopback(address) else client_name(address)
