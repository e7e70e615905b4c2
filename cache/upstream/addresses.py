"""Which network addresses an upstream may lie at; pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

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
    """The first address that is not on the public internet; one such answer spoils a host name's whole answer."""
    return next((text for text in addresses if not is_public(ip_address(text.partition("%")[0]))), None)
