"""Cookies of pages: one holds the secret of a session, another one guards the sign-in form before there is one."""

from secrets import token_urlsafe
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway.web.options import SignIn, WebOptions

ATTEMPT_SECONDS = 600
"""How long people may take at an issuer."""

_SECRET_LIMIT = 100
_SECRET_BYTES = 32


class Cookies:
    """Names and attributes of the cookies of a server.

    By https no other host can set them, and no http request sends them. A cookie of http on loopback is sent to every
    port there, so that its name holds the port.
    """

    def __init__(self, options: WebOptions) -> None:
        self._secure = options.sign_in is SignIn.SECURE
        port = urlsplit(options.url).port
        before, after = ("__Host-", "") if self._secure else ("", f"_{port}" if port else "")
        self._session = f"{before}registry_session{after}"
        self._guard = f"{before}registry_sign_in{after}"
        self._attempt = f"{before}registry_oidc{after}"

    def session(self, request: Request) -> str | None:
        """The secret of a session that a browser sends; None for none."""
        return self._read(request, self._session)

    def guard(self, request: Request) -> str | None:
        """The secret that guards the sign-in form; None for none."""
        return self._read(request, self._guard)

    def attempt(self, request: Request) -> str | None:
        """What belongs to a sign-in by an issuer that a browser has begun; None for none."""
        return request.cookies.get(self._attempt)

    def keep_session(self, response: Response, secret: str) -> None:
        """Let the browser keep the secret of a session; the server knows when it ends."""
        self._set(response, self._session, secret)

    def drop_session(self, response: Response) -> None:
        """Let the browser forget the session."""
        self._drop(response, self._session)

    def keep_guard(self, response: Response, secret: str) -> None:
        """Let the browser keep the secret that guards the sign-in form."""
        self._set(response, self._guard, secret)

    def drop_guard(self, response: Response) -> None:
        """Let the browser forget the secret that guards the sign-in form."""
        self._drop(response, self._guard)

    def keep_attempt(self, response: Response, text: str) -> None:
        """Let the browser keep what belongs to a sign-in by an issuer, for as long as that may take."""
        self._set(response, self._attempt, text, ATTEMPT_SECONDS)

    def drop_attempt(self, response: Response) -> None:
        """Let the browser forget its sign-in by an issuer, which is over."""
        self._drop(response, self._attempt)

    @staticmethod
    def _read(request: Request, name: str) -> str | None:
        secret = request.cookies.get(name, "")
        return secret if 0 < len(secret) <= _SECRET_LIMIT else None

    def _set(self, response: Response, name: str, secret: str, seconds: int | None = None) -> None:
        response.set_cookie(name, secret, seconds, path="/", secure=self._secure, httponly=True, samesite="lax")

    def _drop(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path="/", secure=self._secure, httponly=True, samesite="lax")


def new_guard() -> str:
    """Make a secret that guards a sign-in form."""
    return token_urlsafe(_SECRET_BYTES)
