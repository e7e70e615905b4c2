"""Whether a server can be reached from beyond its own machine; pure."""

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit


def on_loopback_alone(hosts: Iterable[str], urls: Iterable[str]) -> bool:
    """Whether every bind address or host name, and the host of every external URL, is on loopback.

    The peer's address decides nothing: behind a reverse proxy all clients share one address.
    """
    return all(is_loopback(host) for host in [*hosts, *(urlsplit(url).hostname or "" for url in urls)])


def is_loopback(host: str) -> bool:
    """Whether a host name or address is on loopback: 127.0.0.0/8, ::1, `localhost` and below it (RFC 6761, 6.3)."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
