"""OwnHosts: refuses requests for host names that are not this server's; pure ASGI.

A web page can give its own host name the address of this machine (DNS rebinding). The browser then lets the page read
whatever a server on loopback responds to that name.
"""

from collections.abc import Callable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RefusalReason, RegistryError
from gateway.http.access_log import note_refusal
from gateway.http.errors import error_response
from gateway.http.request_headers import first_headers

_HOST_LIMIT = 300
"""Longer than any host name with a port, so that what is remembered stays small."""


class Misdirected(RegistryError):
    """The Host of a request names another server."""

    code, status, message = (
        "DENIED",
        421,
        "this server on loopback does not know the requested host name: "
        "set external_url to the URL that clients use, or add a [[virtual_host]] with this name",
    )
    counted_as = RefusalReason.HOST


class OwnHosts:
    """Passes on requests for the server's own names, and those of HTTP/1.0 without a Host, which no browser sends."""

    def __init__(self, app: ASGIApp, is_own: Callable[[str], bool]) -> None:
        """`is_own`: whether a name in lower case, or an address, is one of this server."""
        self._app = app
        self._is_own = lru_cache(256)(lambda host: is_own(name_of(host)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = first_headers(scope).get("host")
        if host is None or (len(host) <= _HOST_LIMIT and self._is_own(host)):
            await self._app(scope, receive, send)
            return
        refusal = Misdirected()
        note_refusal(scope, refusal)
        await error_response(refusal)(scope, receive, send)


def name_of(host: str) -> str:
    """Return the name or address in a Host header: in lower case, without brackets, port and the dot of the root."""
    text = host.lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")
