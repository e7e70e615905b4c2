"""Descriptors of a process: its limit, and how many of them each kind of work may hold.

Whatever admits work keeps to its part. A process without a free descriptor can neither open a cached file nor accept a
connection, and cannot tell what is wrong.
"""

import resource
from dataclasses import dataclass

RESERVE = 256
"""For databases, logs, locks, listening sockets, connections that are being refused, sweeps and scrubs."""
PER_CONNECTION = 3
"""A client's connection: its socket, the file that it is sent, and a second descriptor of the socket while it waits."""
PER_DOWNLOAD = 6
"""A download: its connection, its lease, three of its spool, and the connection of one small request beside it."""
DOWNLOADS_PART = 3
"""Downloads get one part in so many of what the reserve leaves; clients get the rest."""


@dataclass(frozen=True, slots=True)
class DescriptorShares:
    """How many client connections and downloads the descriptors of a process are enough for."""

    connections: int
    downloads: int


def share_descriptors(limit: int) -> DescriptorShares:
    """Divide the descriptors of a process. There are always some for either, even if `limit` is too low for both."""
    free = max(0, limit - RESERVE)
    downloads = free // DOWNLOADS_PART
    return DescriptorShares(max(16, (free - downloads) // PER_CONNECTION), max(4, downloads // PER_DOWNLOAD))


def raise_descriptor_limit() -> int:
    """Raise this process's limit of descriptors as far as its user may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
