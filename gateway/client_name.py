"""Names of clients and of their sites, by which they take turns and are limited; pure.

Every limit for an address is kept by one of these names: whoever may use a whole network of addresses is one client.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_ONE_NETWORK = 64
"""Prefix of the smallest IPv6 network: a machine in it may use any of its addresses (RFC 4291, section 2.5.1)."""

_ONE_SITE = 48
"""Prefix of the largest network that one site is usually given (RFC 6177, section 2)."""


@lru_cache(4096)
def client_name(address: str) -> str:
    """Name the client at an address: by the address itself, or by its network if that is IPv6."""
    return _name(address, _ONE_NETWORK)


@lru_cache(4096)
def site_name(address: str) -> str:
    """Name the site of an address: by the address itself, or by the largest network of one site if that is IPv6."""
    return _name(address, _ONE_SITE)


def is_loopback(address: str) -> bool:
    """Whether an address is that of this machine, at which all clients behind a reverse proxy may be."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def _name(address: str, prefix: int) -> str:
    parsed = _parse(address)
    if parsed is None:
        return address
    return str(IPv6Network((parsed, prefix), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """The address without its zone, of IPv4 in IPv6 the former; None for any other text."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed
