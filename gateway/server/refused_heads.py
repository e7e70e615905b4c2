"""RefusedHeads: logs what is no HTTP request, since no line of a request tells of it."""

from collections.abc import Callable

import structlog

from cache.runtime.throttle import LogThrottle

log = structlog.get_logger()

_TLS_HANDSHAKE = 0x16
"""The first byte of a client that speaks TLS (RFC 8446, section 5.1)."""


class RefusedHeads:
    """The log of the heads that a process refuses: one line a minute for each kind, whoever sends them.

    Nothing of what arrived is logged: it may be a password.
    """

    def __init__(self, due: Callable[[str], bool] | None = None) -> None:
        self._due = due or LogThrottle().due

    def note(self, status: int, reason: str | None, received: bytes, client: str | None, *, encrypted: bool) -> None:
        """Log one. `reason`: which rule it breaks, None where it is no head at all; `received`: what arrived of it;
        `encrypted`: whether this server speaks TLS itself."""
        if not encrypted and received[:1] == bytes([_TLS_HANDSHAKE]):
            if self._due("tls"):
                log.warning(
                    "tls_to_plain_port",
                    client=client,
                    reason="a client speaks TLS, and this server does not on this port",
                    remedy="let the client use http, as for an insecure registry, or serve with a certificate",
                )
        elif self._due(reason or ""):
            log.info("request_malformed", status=status, client=client, reason=reason or "it is no HTTP request")
