"""Paths of /v2 and the handlers that serve them."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.principal import Principal
from gateway.http.errors import API_VERSION, unknown_path, wrong_method
from gateway.services import Services
from gateway.v2.endpoint import PINGS, Endpoint, EndpointKind, check_raw_path, parse_endpoint
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from gateway.v2.paging import PageLinks
from gateway.v2.pull import Pull
from gateway.v2.writes import Writes

Handler = Callable[[Request, Endpoint, Principal], Awaitable[ASGIApp]]

_WRITES = ("POST", "PUT", "PATCH", "DELETE")


class RegistryApi:
    """App for every path under /v2, inside a RootSelection. Raises RegistryError for a refused request."""

    def __init__(self, services: Services, options: RegistryOptions) -> None:
        self._authenticator = services.authenticator
        opener = RepositoryOpener(services, options)
        pull, writes = Pull(opener, PageLinks(services.sealer)), Writes(opener)
        self._handlers: dict[tuple[EndpointKind, str], Handler] = {
            (EndpointKind.MANIFEST, "GET"): pull.get_manifest,
            (EndpointKind.MANIFEST, "HEAD"): pull.head_manifest,
            (EndpointKind.BLOB, "GET"): pull.get_blob,
            (EndpointKind.BLOB, "HEAD"): pull.head_blob,
            **{(EndpointKind.TAGS, method): pull.list_tags for method in ("GET", "HEAD")},
            **{(EndpointKind.REFERRERS, method): pull.list_referrers for method in ("GET", "HEAD")},
            **{
                (kind, method): writes.refuse
                for kind in (EndpointKind.MANIFEST, EndpointKind.BLOB, EndpointKind.UPLOAD)
                for method in _WRITES
            },
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> ASGIApp:
        path, method = request.scope["path"], request.method
        check_raw_path(request.scope["raw_path"])
        principal = await self._authenticator.authenticate(request.scope)
        if path in PINGS and method in ("GET", "HEAD"):
            return ping()
        endpoint = None if path in PINGS else parse_endpoint(path)
        if endpoint is None and path not in PINGS:
            raise unknown_path(path)
        handler = self._handlers.get((endpoint.kind, method)) if endpoint else None
        if endpoint is None or handler is None:
            raise wrong_method(method)
        return await handler(request, endpoint, principal)


def ping() -> ASGIApp:
    """Response that shows that this is a registry (distribution-spec, "Determining Support")."""
    return JSONResponse({}, headers=API_VERSION)
