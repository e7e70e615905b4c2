"""ClientAddress: finds the address of a client behind reverse proxies that the settings trust; pure ASGI.

The address is for logs, turns and login limits, and never gives a right.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HEADER = b"x-forwarded-for"
_HOPS = 50
"""Entries that are read, from the end; more proxies do not stand in a row."""
_END_LIMIT = 1024
"""Bytes of all values that are read, from the end: 20 addresses of the longest form."""


def forwarded_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> str | None:
    """The address of the client: the last one that no trusted proxy has; None where it cannot be known.

    `peer`: the other end of the connection. `forwarded`: the values of X-Forwarded-For in order, to whose end each
    proxy adds the address from which a request came to it. A client can write whatever it likes before that.
    """
    hops = [hop for value in forwarded for hop in value.split(",")][-_HOPS:]
    current = _parse(peer)
    while current is not None:
        if not any(current in network for network in trusted):
            return str(current)
        current = _parse(hops.pop()) if hops else None
    return None


class ClientAddress:
    """Replaces the client of a scope by the one that a trusted proxy names, and puts it under a key where it is known.

    Without trusted proxies nothing is known: the peer may be a proxy that nobody has named.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network], key: str) -> None:
        self._app = app
        self._key = key
        self._find = lru_cache(4096)(lambda peer, forwarded: forwarded_address(peer, [forwarded], trusted))
        self._trusts = bool(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") if self._trusts and scope["type"] == "http" else None
        if client is not None:
            forwarded = _end_of([value for name, value in scope["headers"] if name == _HEADER])
            address = self._find(client[0], forwarded)
            if address is not None:
                scope[self._key] = address
                scope["client"] = (address, client[1] if address == client[0] else 0)
        await self._app(scope, receive, send)


def _end_of(values: Sequence[bytes]) -> str:
    """The last entries of all values, without one that is cut off: what a client writes before takes no memory."""
    joined = b",".join(values)
    if len(joined) > _END_LIMIT:
        joined = joined[-_END_LIMIT:].partition(b",")[2]
    return joined.decode("latin-1")


def _parse(text: str) -> Address | None:
    """Read an address, of IPv4 in IPv6 the former, with or without a port; None for any other text."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
