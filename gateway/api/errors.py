"""Errors of the REST API, in the words and forms of GitLab's, and their rendering: what is raised below becomes one.

GitLab's clients read `message`, then `error`. A sentence behind the status says what a person can do.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import ClassVar

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache.oci.errors import RefusalReason, RegistryError
from cache.sqlite import DatabaseUnusable
from gateway.auth.refused_logins import LoginDelayed, LoginRefused
from gateway.http.access_log import log_refused_login, note_refused
from gateway.http.errors import unusable_database
from gateway.http.sandbox import SANDBOX_HEADERS
from gateway.namespaces.errors import TreeError

HEADERS = {**SANDBOX_HEADERS, "Cache-Control": "no-store"}
"""Headers of every response: none is a page, and each is for one reader alone."""


RATE_LIMITS = "rate_limit_headers"
"""Key of a scope below which headers lie that tell how many requests a client has left."""


class ApiError(Exception):
    """A refused request. `reason`: for the log, where it says more than the client may know."""

    status: ClassVar[int] = 500
    counted_as: ClassVar[RefusalReason] = RefusalReason.FAULT

    def __init__(self, message: str, reason: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or message
        self.headers = dict(headers or {})

    @property
    def document(self) -> dict[str, object]:
        """The body of the response."""
        return {"message": self.message}


class ResourceUnknown(ApiError):
    """There is no such thing, or the client may not know of it."""

    status, counted_as = 404, RefusalReason.NAME_UNKNOWN

    def __init__(self, what: str = "", reason: str = "") -> None:
        """`what`: the kind of what was looked for, with a capital."""
        super().__init__(f"404 {what} Not Found" if what else "404 Not Found", reason)


class PathUnknown(ApiError):
    """There is nothing at this path, and a sentence says where there is."""

    status, counted_as = 404, RefusalReason.UNSUPPORTED

    def __init__(self, hint: str = "") -> None:
        super().__init__(f"404 Not Found - {hint}" if hint else "404 Not Found")


class LoginNeeded(ApiError):
    """The request needs a token."""

    status, counted_as = 401, RefusalReason.LOGIN

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(f"401 Unauthorized - {hint}" if hint else "401 Unauthorized", reason)


class Forbidden(ApiError):
    """The client may know of the resource, and not do this to it."""

    status, counted_as = 403, RefusalReason.DENIED

    def __init__(self, reason: str) -> None:
        super().__init__(f"403 Forbidden - {reason}", reason)


class ScopeInsufficient(ApiError):
    """The scopes of the token do not cover the request, wherever it leads (RFC 6750, section 3.1)."""

    status, counted_as = 403, RefusalReason.DENIED

    def __init__(self, reason: str, scopes: Iterable[str]) -> None:
        super().__init__(reason)
        self._scopes = " ".join(sorted(scopes))

    @property
    def document(self) -> dict[str, object]:
        return {"error": "insufficient_scope", "error_description": self.message, "scope": self._scopes}


class MethodNotAllowed(ApiError):
    """The path has no such method."""

    status, counted_as = 405, RefusalReason.UNSUPPORTED

    def __init__(self, allowed: Iterable[str]) -> None:
        super().__init__("405 Method Not Allowed", headers={"Allow": ", ".join(sorted(allowed))})


class RequestRefused(ApiError):
    """What was asked for cannot be done as things are."""

    status, counted_as = 400, RefusalReason.INVALID


class Conflicting(ApiError):
    """Something else stands in the way."""

    status, counted_as = 409, RefusalReason.INVALID


class Unprocessable(ApiError):
    """What was asked for is there already, in the same words."""

    status, counted_as = 422, RefusalReason.INVALID


class ParametersInvalid(ApiError):
    """Parameters are missing or wrong; every one of them is named."""

    status, counted_as = 400, RefusalReason.INVALID

    def __init__(self, faults: Iterable[str]) -> None:
        super().__init__(", ".join(faults), "parameters are invalid")

    @property
    def document(self) -> dict[str, object]:
        return {"error": self.message}


class ValuesRefused(ApiError):
    """Values that are well-formed are refused by a rule; by the attributes that have them."""

    status, counted_as = 400, RefusalReason.INVALID

    def __init__(self, faults: Mapping[str, list[str]]) -> None:
        super().__init__("; ".join(f"{name} {fault}" for name, every in faults.items() for fault in every))
        self._faults = dict(faults)

    @property
    def document(self) -> dict[str, object]:
        return {"message": self._faults}


class KeysUnusable(ApiError):
    """A secret cannot be sealed with the keys of this server; the log says why."""

    status, counted_as = 503, RefusalReason.FAULT

    def __init__(self, reason: str) -> None:
        super().__init__("503 Service Unavailable - the keys of this server cannot be used: its log says why", reason)


class RateExceeded(ApiError):
    """The client has sent as many requests as it may for now."""

    status, counted_as = 429, RefusalReason.TOO_MANY

    def __init__(self, limit: int, wait: int) -> None:
        """`limit`: requests a minute; `wait`: seconds until the next ones are taken."""
        message = f"429 Too Many Requests - at most {limit} requests a minute: retry in {wait} s"
        super().__init__(message, f"more than {limit} requests a minute", {"Retry-After": str(wait)})


class BodyTooLarge(ApiError):
    """The body of the request is larger than any parameters are."""

    status, counted_as = 413, RefusalReason.TOO_LARGE


class ContentTypeUnsupported(ApiError):
    """The body of the request is in a format that is not read."""

    status, counted_as = 415, RefusalReason.UNSUPPORTED


class ApiErrors:
    """Middleware that renders what the API raises, as long as its response has not begun, and gives every response its
    headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                limits = [(name.lower().encode(), value.encode()) for name, value in scope.get(RATE_LIMITS, {}).items()]
                message["headers"] = [*message["headers"], *own, *limits]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except (ApiError, RegistryError, TreeError, DatabaseUnusable) as error:
            if begun:
                raise
            await _refuse(error, scope)(scope, receive, sending)
        except Exception:
            if not begun:  # the middleware that logs it would render it as the registry does
                await JSONResponse({"message": "500 Internal Server Error"}, 500)(scope, receive, sending)
            raise


def _refuse(error: Exception, scope: Scope) -> Response:
    """The response to a request that was refused, which is noted for the log."""
    if isinstance(error, DatabaseUnusable):
        error = unusable_database()
    if isinstance(error, LoginRefused | LoginDelayed):
        log_refused_login(scope, error.account, error.reason)
    if isinstance(error, ApiError):
        note_refused(scope, error.counted_as, error.reason)
        return JSONResponse(error.document, error.status, error.headers)
    if isinstance(error, RegistryError):
        note_refused(scope, error.counted_as, error.reason or _sentence_of(error))
        return JSONResponse({"message": _message_of(error)}, error.status, error.headers)
    note_refused(scope, RequestRefused.counted_as, str(error))
    return JSONResponse({"message": str(error)}, RequestRefused.status)


def _message_of(error: RegistryError) -> str:
    status = f"{error.status} {HTTPStatus(error.status).phrase}"
    if isinstance(error, LoginRefused) and error.account is None:
        return status  # one text for all secrets that are unknown or wrong
    return f"{status} - {_sentence_of(error)}"


def _sentence_of(error: RegistryError) -> str:
    return error.detail if isinstance(error.detail, str) else error.message
