"""OwnRequests: refuses requests that this server has sent itself; pure ASGI.

An upstream may redirect to this server, or a setting may name it as its own upstream: each request would cause another
one. RFC 8586 has the header by which a proxy recognises what it has sent.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RefusalReason, RegistryError
from cache.upstream.egress import LOOP_HEADER
from gateway.http.access_log import note_refusal
from gateway.http.errors import error_response

_HEADER = LOOP_HEADER.lower().encode()


class Looped(RegistryError):
    """This server has sent the request itself."""

    code, status, message = (
        "UNAVAILABLE",
        508,
        "this request came from this gateway itself: an upstream, a mirror or a redirect leads back to it",
    )
    counted_as = RefusalReason.LOOP


class OwnRequests:
    """Passes on requests that do not name this server in the header of loops. `name`: of this server."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for key, value in scope["headers"]:
            if key == _HEADER and self._name in value:
                refusal = Looped()
                note_refusal(scope, refusal)
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)
