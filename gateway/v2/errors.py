"""RegistryError → the JSON of the OCI distribution specification, with its status and headers."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import EndpointUnknown, RegistryError, StoreUnavailable, Unsupported
from cache.sqlite import DatabaseUnusable
from gateway.v2.responses import API_VERSION


def error_response(error: RegistryError) -> Response:
    entry = {"code": error.code, "message": error.message, "detail": error.detail}
    headers = {**API_VERSION, "X-Content-Type-Options": "nosniff", **error.headers}
    if error.status == 405:
        headers["Allow"] = "GET, HEAD"
    return JSONResponse({"errors": [entry]}, error.status, headers)


def unexpected_response() -> Response:
    """For what nobody caught; the cause is for the log alone."""
    return error_response(
        RegistryError("this server failed; its log has the cause beside the request id of this answer")
    )


async def on_unexpected(request: Request, error: Exception) -> Response:
    return unexpected_response()


class Refusals:
    """What the app raises becomes OCI JSON, as long as its answer has not begun."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except (RegistryError, DatabaseUnusable) as error:
            if begun:
                raise
            refusal = error_response(error) if isinstance(error, RegistryError) else unusable_database()
            await refusal(scope, receive, send)


def unusable_database() -> Response:
    return error_response(StoreUnavailable("this server's own database does not answer; its log says why"))


async def on_database_unusable(request: Request, error: Exception) -> Response:
    return unusable_database()


async def on_registry_error(request: Request, error: Exception) -> Response:
    return error_response(error if isinstance(error, RegistryError) else RegistryError())


async def on_not_found(request: Request, error: Exception) -> Response:
    return error_response(EndpointUnknown(f"there is nothing at {request.url.path[:300]!r}"))


async def on_method_not_allowed(request: Request, error: Exception) -> Response:
    return error_response(Unsupported(f"{request.method[:30]} is not a method of this path"))
