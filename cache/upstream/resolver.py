"""Resolver: name lookups in separate threads, because the system's resolver can be neither cancelled nor timed."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cache.runtime.exhaustion import no_descriptor_left
from cache.runtime.fair_queue import FairPlaces, Requester

Resolver = Callable[[str, int], list[str]]

LIMIT = 8
"""Concurrent lookups of hosts that the settings of one upstream name."""

OTHERS_LIMIT, OTHERS_SPARE = 32, 8
"""Concurrent lookups of all other hosts, to which its redirects lead: whoever owns an image chooses names that hang.
They are shared by those on whose behalf the images are requested, and the spare ones are for those who have none: so
nobody takes all by the images of many owners."""

OWNER_LIMIT = 4
"""Concurrent lookups of other hosts for the images of one owner."""


class NotLookedUp(Exception):
    """A name was not looked up for want of something in this process, which shows nothing of its host."""


class Lookups:
    """Lookups of one upstream. Requests for the same name share one lookup, and each waits as long as it wants."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._running: dict[tuple[str, int], tuple[Future[list[str] | Exception], Requester | None]] = {}
        self._others = FairPlaces(OTHERS_LIMIT, OTHERS_SPARE)
        self._lock = threading.Lock()

    def start(self, host: str, port: int, party: Requester | None = None) -> "Future[list[str] | Exception]":
        """Start or join a lookup; the result is addresses, or an error as a value. Never cancel it: others may wait for
        it. `party`: on whose behalf, and the owner of the image that leads to the host; None for a host that the
        settings name."""
        with self._lock:
            running = self._running.get((host, port))
            if running is not None:
                return running[0]
            future: Future[list[str] | Exception] = Future()
            if self._is_full(party):
                future.set_result(NotLookedUp("too many names are being resolved already"))
                return future
            self._running[host, port] = future, party
            if party is not None:
                self._others.take(party)
        try:
            threading.Thread(target=self._look_up, args=(host, port, future), name="resolve", daemon=True).start()
        except RuntimeError:
            self._end(host, port, future, NotLookedUp("no thread is left"))
        return future

    def _is_full(self, party: Requester | None) -> bool:
        parties = [each for _, each in self._running.values()]
        if party is None:
            return parties.count(None) >= LIMIT
        of_owner = sum(each is not None and each.client == party.client for each in parties)
        return of_owner >= OWNER_LIMIT or not self._others.allows(party)

    def _look_up(self, host: str, port: int, future: "Future[list[str] | Exception]") -> None:
        result: list[str] | Exception
        try:
            result = self._resolver(host, port)
        except Exception as error:  # a thread's last resort: every waiter must get the error
            # The system's resolver calls a name unknown if it cannot open its own files or a socket.
            result = NotLookedUp("no descriptor is left") if no_descriptor_left() else error
        self._end(host, port, future, result)

    def _end(
        self, host: str, port: int, future: "Future[list[str] | Exception]", result: list[str] | Exception
    ) -> None:
        with self._lock:
            _, party = self._running.pop((host, port))
            if party is not None:
                self._others.release(party)
        with suppress(RuntimeError):  # the event loop of a waiter has been closed
            future.set_result(result)


# The special-purpose registries of IANA, and the ranges in which an IPv4 address hides in an IPv6 one.
# `is_global` is no substitute: it calls 6to4, NAT64 and multicast addresses global.
_NOT_PUBLIC = [
    ip_network(network)
    for network in [
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10"),
        "ff00::/8",
    ]
]


def is_public(address: IPv4Address | IPv6Address) -> bool:
    return not any(address in net for net in _NOT_PUBLIC if net.version == address.version)


def first_private(addresses: Iterable[str]) -> str | None:
    """First address that is not on the public internet; a single one makes the whole lookup invalid."""
    return next((text for text in addresses if not is_public(ip_address(text.partition("%")[0]))), None)
