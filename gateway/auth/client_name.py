"""The name of an anonymous client, by which clients of a group take turns; pure."""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

_ONE_NETWORK = 64
"""Prefix of the smallest IPv6 network: a machine in it may use any of its addresses (RFC 4291, section 2.5.1)."""


@lru_cache(4096)
def client_name(address: str) -> str:
    """Name the client at an address: by the address itself, or by its network if that is IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, _ONE_NETWORK), strict=False))
