"""OwnRequests: refuses requests that this server has sent itself, and names the gateways that have sent on others.

An upstream may redirect to this server, a setting may name it as its own upstream, or two gateways may be each other's:
each request would cause another one. RFC 8586 has the header by which a proxy recognises what it has sent. Pure ASGI.
"""

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import InCircle
from cache.runtime.throttle import LogThrottle
from cache.upstream.loops import GATEWAYS_LIMIT, LOOP_HEADER, gateways_in, passing_on
from gateway.http.access_log import note_refusal
from gateway.http.errors import error_response
from gateway.http.request_headers import first_headers

log = structlog.get_logger()
_throttle = LogThrottle()

_HEADER = LOOP_HEADER.lower()


class OwnRequests:
    """Passes on requests that do not name this server in the header of loops. `name`: of this server."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _HEADER not in first_headers(scope):
            await self._app(scope, receive, send)
            return
        name = _HEADER.encode()
        values = [value.decode("latin-1") for key, value in scope["headers"] if key == name]
        gateways = gateways_in(values)
        if self._name not in gateways and len(gateways) < GATEWAYS_LIMIT:
            with passing_on(gateways):
                await self._app(scope, receive, send)
            return
        refusal = InCircle(_explain(gateways, self._name))
        note_refusal(scope, refusal)
        if _throttle.due(f"circle of {len(gateways)}"):
            log.warning("request_came_back", gateways=gateways, reason=refusal.detail)
        await error_response(refusal)(scope, receive, send)


def _explain(gateways: list[str], name: str) -> str:
    """Write what leads back to this server, and what to do."""
    if name not in gateways:
        return f"{len(gateways)} gateways have sent this request on, each to the next: shorten the chain of upstreams"
    between = len(gateways) - gateways.index(name) - 1
    way = f" through {between} other gateway{'s' * (between > 1)}" if between else ""
    return (
        f"this request came from this gateway itself{way}: an upstream, a mirror or a redirect leads back to it; "
        "give the upstream the url of the registry that has the images"
    )
