"""Reach: which hosts a client may connect to, and how long it waits for them."""

from dataclasses import dataclass
from pathlib import Path


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
class Reach:
    """Hosts and addresses that a client may connect to.

    Without a proxy every host may be reached whose addresses are all public, or any with `private_addresses`. With one,
    which resolves names itself, only `hosts` may be reached.
    """

    hosts: frozenset[str] = frozenset()
    private_addresses: bool = False
    ca_file: Path | None = None
    proxy: str = ""
    timings: UpstreamTimings = UpstreamTimings()
