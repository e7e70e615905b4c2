"""The paths of /v2 and who answers them."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import NameInvalid
from gateway.http import params
from gateway.http.errors import error_response
from gateway.http.responses import API_VERSION
from gateway.services import Services
from gateway.v2.access import Access, Options
from gateway.v2.pull import Pull

_WRITES = ["POST", "PUT", "PATCH", "DELETE"]


def routes(services: Services, options: Options) -> list[BaseRoute]:
    """The first that fits is taken, so what is asked for most stands first."""
    params.register()
    pull = Pull(Access(services, options))
    manifest, blob = "/v2/{name:name}/manifests/{reference:reference}", "/v2/{name:name}/blobs/{digest:digest}"
    return [
        Route(manifest, pull.head_manifest, methods=["HEAD"]),
        Route(manifest, pull.get_manifest, methods=["GET"]),
        Route("/v2/{name:name}/blobs/uploads", pull.refuse_write, methods=_WRITES),
        Route(blob, pull.head_blob, methods=["HEAD"]),
        Route(blob, pull.get_blob, methods=["GET"]),
        Route("/v2", ping, methods=["GET"]),
        Route("/v2/", ping, methods=["GET"]),
        Route(manifest, pull.refuse_write, methods=_WRITES),
        Route("/v2/{name:name}/blobs/uploads/{rest:path}", pull.refuse_write, methods=_WRITES),
        Route(blob, pull.refuse_write, methods=_WRITES),
        Route("/v2/{name:name}/tags/list", pull.list_tags, methods=["GET"]),
        Route("/v2/{name:name}/referrers/{digest:digest}", pull.list_referrers, methods=["GET"]),
    ]


async def ping(request: Request) -> Response:
    """Whether this is a registry, and whether one must log in (distribution-spec, "Determining Support")."""
    return JSONResponse({}, headers=API_VERSION)


class CheckedPaths:
    """Refuses escapes in paths under /v2 before the router sees them decoded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"].startswith("/v2"):
            try:
                params.check_raw_path(scope["raw_path"])
            except NameInvalid as error:  # nobody further out would make an answer of it
                app = error_response(error)
        await app(scope, receive, send)
