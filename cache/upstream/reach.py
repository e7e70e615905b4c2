"""Reach: which hosts a client may connect to, and how long it waits for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cache.values import Origin


@dataclass(frozen=True, slots=True)
class UpstreamTimings:
    """Time limits towards one upstream, in seconds, and the number of its connections."""

    connect: float = 5.0
    read: float = 15.0
    """Longest pause between two bytes of a response that is read as a whole."""

    body: float = 20.0
    """Longest duration of a body that is read as a whole, which ends one that trickles in for ever."""

    progress: float = 30.0
    """Longest pause between two bytes of a blob."""

    pool: float = 5.0
    """Longest wait for a free connection."""

    connections: int = 100
    """Connections of each pool; a credential has three pools for each host of an upstream."""

    @property
    def head(self) -> float:
        """Longest duration of a connection attempt and the response's head, which may trickle in, too."""
        return self.connect + self.read


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a client at one origin, shown to no other: a TLS certificate with its key, and fixed headers.

    `headers` is called for each request, and may raise Unavailable.
    """

    origin: Origin
    client_cert: Path | None = None
    client_key: Path | None = None
    headers: Callable[[], Mapping[str, str]] = dict


@dataclass(frozen=True, slots=True)
class Reach:
    """Hosts and addresses that a client may connect to.

    Without a proxy every host may be reached whose addresses are all public, or any with `private_addresses`. With one,
    which resolves names itself, only `hosts` may be reached: names or name:port, and `*.NAME` for all hosts below one.
    `private_hosts`: hosts of the same form that may have private addresses all the same. `verify`: whether a host must
    show a certificate that is trusted. `discreet`: whether users of this server name `hosts`, who must not learn to
    which private addresses names lead here.
    """

    hosts: frozenset[str] = frozenset()
    private_addresses: bool = False
    ca_file: Path | None = None
    proxy: str = ""
    timings: UpstreamTimings = UpstreamTimings()
    identity: Identity | None = None
    verify: bool = True
    private_hosts: frozenset[str] = frozenset()
    discreet: bool = False

    def allows(self, host: str, port: int) -> bool:
        """Whether requests may go to a host at all; its addresses are checked at each connection."""
        return not self.proxy or self.names(host, port)

    def names(self, host: str, port: int) -> bool:
        """Whether a host is one of `hosts`."""
        return _is_among(self.hosts, host, port)

    def allows_private(self, host: str, port: int) -> bool:
        """Whether a host may have addresses that are not public."""
        return self.private_addresses or _is_among(self.private_hosts, host, port)

    def hides(self, host: str, port: int) -> bool:
        """Whether nobody is told to which private addresses a name leads, or whether to any: somebody without rights
        here has named the host, by a setting of a user or by a redirect."""
        return self.discreet or bool(self.hosts and not self.names(host, port))


def _is_among(hosts: frozenset[str], host: str, port: int) -> bool:
    """Whether a host is one of names or name:port, or of those below `*.NAME`."""
    labels = host.split(".")
    patterns = {f"*.{'.'.join(labels[place:])}" for place in range(1, len(labels))}
    return not hosts.isdisjoint({host, f"{host}:{port}"} | patterns)
