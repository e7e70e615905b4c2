"""Errors of the registry: RegistryError → the JSON of the OCI distribution specification, its status and headers."""

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import RegistryError
from cache.sqlite import DatabaseUnusable
from gateway.auth.refused_logins import LoginDelayed, LoginRefused
from gateway.http.access_log import log_refused_login, note_refusal
from gateway.http.errors import READ_METHODS, error_response, unusable_database
from gateway.v2.challenges import LoginOffered


class ErrorRendering:
    """Middleware that renders what the registry raises, as long as its response has not begun."""

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
            rendered = error if isinstance(error, RegistryError) else unusable_database()
            if not isinstance(rendered, LoginOffered):
                note_refusal(scope, rendered)
            if isinstance(rendered, LoginRefused | LoginDelayed):
                log_refused_login(scope, rendered.account, rendered.reason)
            refusal = render(rendered)
            await refusal(scope, receive, send)


def render(error: RegistryError) -> Response:
    """The response to a request under /v2 that was refused."""
    return error_response(error, READ_METHODS if error.status == 405 else None)
