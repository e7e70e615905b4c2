"""DownloadLimits: every time limit and size of downloads, as one value that is passed in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DownloadLimits:
    """Limits of downloads. Times are in seconds, sizes in bytes, rates in bytes per second."""

    # A download without readers.
    keep_size: int = 64 * 1024 * 1024
    """A download continues without readers if the blob is no larger than this …"""
    keep_share: float = 0.25
    """… or if this share of it has arrived."""
    abandon_after: float = 5.0
    """Any other one is aborted this long after its last reader left."""
    stop_within: float = 3.0
    """The longest wait for a thread to end when the server stops."""

    # Another worker's download.
    poll_first: float = 0.004
    poll_longest: float = 0.03
    """Pauses between two looks at another worker's spool: while it grows, and at most."""
    take_over_every: float = 0.2
    """Pause between two tries to take the lease of another worker, which may have died."""
    silence: float = 180.0
    """Another worker's download without any change for this long fails; its own limits are shorter."""

    # Retries.
    retry_pauses: tuple[float, ...] = (0.1, 0.5, 2.0)
    """Pauses before the retries of a stream that broke off; their number is the number of retries."""
    longest_retry_pause: float = 10.0
    """The longest pause that an upstream's Retry-After is granted."""
    retry_progress: int = 1024 * 1024
    """Bytes by which an upstream earns all retries again."""
    least_rate: int = 1024
    least_rate_span: float = 60.0
    """A stream slower than `least_rate` over this span is ended; a retry may do better."""
    unsized: int = 16 * 1024 * 1024 * 1024
    """Bytes of a blob whose length the upstream does not promise; a promised length is enforced."""

    # Several connections.
    divide_from: int = 16 * 1024 * 1024
    """Bytes still missing from which a blob may be fetched over several connections."""
    fast_rate: int = 25_000_000
    """A stream as fast as this is limited by this host, not by the upstream: more streams gain nothing."""
    rate_window: float = 0.3
    """Time over which a stream's rate is measured."""
    worth_dividing: float = 1.0
    """Time that the missing bytes must take at the measured rate, for more connections to be opened."""
    connections: int = 4
    range_failures: int = 3
    """Ranges that may fail before one stream fetches what is missing."""
    piece: int = 8 * 1024 * 1024
    smallest_piece: int = 4 * 1024 * 1024

    # Spools that ended processes left.
    kept_age: float = 3600.0
    kept_files: int = 32
    kept_size: int = 4 * 1024 * 1024 * 1024
    """A spool that can be resumed is kept if it is younger than `kept_age` and within both bounds."""


DEFAULT_LIMITS = DownloadLimits()
