"""Names of clients and of their sites, by which they take turns; pure."""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

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


def _name(address: str, prefix: int) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, prefix), strict=False))
