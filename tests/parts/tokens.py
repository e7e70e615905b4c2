"""Token service of the test's Docker Hub: GET /token, as docker's token protocol specifies."""

import base64
import binascii
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.parts.canaries import remember


@dataclass(frozen=True)
class Grant:
    """Content of one token: pulls of `repositories`, for `user` (None: anonymous), until `expires`."""

    user: str | None
    repositories: frozenset[str]
    expires: float


class WrongCredential(Exception):
    """The Basic credential names an unknown user or has a wrong password."""


class TokenService:
    """Issues random tokens and remembers their grants.

    `may_pull(user, repository)` decides; a refused scope is left out of the token, as Docker Hub does.
    """

    def __init__(self, may_pull: Callable[[str | None, str], bool]) -> None:
        self.users: dict[str, str] = {}
        self.lifetime: float = 300
        self.down = False
        self._may_pull = may_pull
        self._grants: dict[str, Grant] = {}
        self.app = Starlette(routes=[Route("/token", self._token, methods=["GET"])])

    def find(self, token: str) -> Grant | None:
        """The grant of a token, or None if it is unknown or has expired."""
        grant = self._grants.get(token)
        return grant if grant is not None and time.monotonic() < grant.expires else None

    def revoke_all(self) -> None:
        """Revokes every token issued so far."""
        self._grants = {}

    def reset(self) -> None:
        self.users, self.lifetime, self.down = {}, 300, False
        self.revoke_all()

    async def _token(self, request: Request) -> Response:
        if self.down:
            return JSONResponse({"details": "service unavailable"}, 503)
        try:
            user = self._user(request.headers.get("authorization"))
        except WrongCredential:
            return JSONResponse({"details": "incorrect username or password"}, 401)
        asked = (repository_of(scope) for scope in " ".join(request.query_params.getlist("scope")).split())
        allowed = frozenset(name for name in asked if name is not None and self._may_pull(user, name))
        token = remember(secrets.token_urlsafe(48))
        self._grants[token] = Grant(user, allowed, time.monotonic() + self.lifetime)
        return JSONResponse(
            {
                "token": token,
                "access_token": token,
                "expires_in": int(self.lifetime),
                "issued_at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            }
        )

    def _user(self, authorization: str | None) -> str | None:
        if authorization is None:
            return None
        kind, _, encoded = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise WrongCredential from None
        if kind.lower() != "basic" or self.users.get(name) != password:
            raise WrongCredential
        return name


def repository_of(scope: str) -> str | None:
    """The repository that a scope `repository:NAME:…pull…` requests; None for any other scope."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return name if kind == "repository" and "pull" in actions.split(",") else None
