"""Errors of paths that belong to no surface, and the one JSON form that several surfaces give theirs.

The form is that of the OCI distribution specification ("Error Codes"), also outside /v2: clients that look for a
registry at another path read it.
"""

from collections.abc import Iterable, Mapping

from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from cache.oci.errors import EndpointUnknown, RegistryError, StoreUnavailable, Unsupported
from gateway.http.access_log import note_refusal
from gateway.server.status_line import REASON_PHRASE

API_VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
"""Header by which old clients know a registry; every error of this server has it."""

READ_METHODS = {"Allow": "GET, HEAD"}
"""Header of a response with status 405 for what can only be read."""


def error_response(error: RegistryError, headers: Mapping[str, str] | None = None) -> Response:
    """The response to a request that was refused; `headers` are sent beside the error's own.

    Most clients print `message` alone, so a sentence stands there, and in the status line: of some responses they print
    no more than that. A few print `detail` behind it, which is there only where it holds more than the sentence.
    """
    entry: dict[str, object] = {"code": error.code, "message": error.message}
    if isinstance(error.detail, str):
        entry["message"] = error.detail
    elif error.detail is not None:
        entry["detail"] = error.detail
    every = {**API_VERSION, "X-Content-Type-Options": "nosniff", **(headers or {}), **error.headers}
    return _ErrorResponse(entry, error.status, every)


class _ErrorResponse(JSONResponse):
    """An error as the body of a response, and its message as the reason phrase."""

    def __init__(self, entry: Mapping[str, object], status: int, headers: Mapping[str, str]) -> None:
        super().__init__({"errors": [entry]}, status, headers)
        self._message = entry["message"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_phrase(message: Message) -> None:
            if message["type"] == "http.response.start":
                message[REASON_PHRASE] = self._message
            await send(message)

        await super().__call__(scope, receive, send_with_phrase)


def unexpected_response() -> Response:
    """Response to a request whose handler raised an uncaught exception; the cause appears only in the log."""
    return error_response(
        RegistryError("this server failed; its log has the cause beside the request id of this response")
    )


def unusable_database() -> RegistryError:
    """The error for a database of this server that cannot be read or written."""
    return StoreUnavailable("this server's own database does not respond; its log states why")


def unknown_path(path: str) -> RegistryError:
    """The error for a path without an endpoint."""
    return EndpointUnknown(f"there is nothing at {path[:300]!r}")


def wrong_method(method: str, allowed: Iterable[str] = ("GET", "HEAD")) -> RegistryError:
    """The error for a method that a path does not support, which names those that it does."""
    return Unsupported(f"{method[:30]} is not a method of this path", {"Allow": ", ".join(sorted(allowed))})


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI app for paths that belong to no surface."""
    unknown = unknown_path(scope["path"])
    note_refusal(scope, unknown)
    await error_response(unknown)(scope, receive, send)
