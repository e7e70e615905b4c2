"""ServerTimings: the time limits of connections, which tests make short."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTimings:
    """Time limits of a server's connections, in seconds."""

    keep_alive: float = 10.0
    """How long a connection may be idle between requests, or take to send a request head."""
    last_bytes: float = 60.0
    """How long a client may take to receive the rest of its response after the server has closed."""
    tls_handshake: float = 10.0
    certificate_check: float = 10.0
    """The interval at which the certificate files are checked for replacement."""
    rejection: float = 1.0
    """How long a connection above the cap is read before it is aborted."""


DEFAULT_TIMINGS = ServerTimings()
