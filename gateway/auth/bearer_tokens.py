"""Bearer tokens of this server, short-lived and signed, and the refresh tokens by which clients get more of them.

A Bearer token is a JWT (RFC 7519) whose only rights are an upper bound; it names the credential behind it, which is
looked up again with each request. One algorithm is accepted, with keys of the server's own file; what a header says of
keys (`jwk`, `jku`, `x5u`, `x5c`) is not read, and an extension that must be understood (`crit`) refuses the token.

A refresh token is sealed, so it holds no state here: it stands for a credential as long as that is valid.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from secrets import token_urlsafe
from typing import Any

import jwt
from cachetools import LRUCache
from jwt.types import Options

from gateway.auth.principal import AccessList
from gateway.auth.scopes import NO_PROJECTS, access_document, claimed_projects, granted_actions
from gateway.keys.sealing import SealBroken, Sealer
from gateway.keys.signing import ALGORITHM, TOKEN_LIFETIME, SigningKey, SigningKeys
from gateway.namespaces.credentials import CredentialRef

ISSUER = SERVICE = "registry-gateway"
"""Issuer of the tokens, and the name of the one service that they are for."""

SERVICES = frozenset({SERVICE, "container_registry", "dependency_proxy"})
"""Names that clients may use for the service: its own, and those by which GitLab's two are known."""

CLOCK_SKEW = timedelta(seconds=5)
"""Time by which the clock of the process that issued a token may be ahead."""

TOKEN_LIMIT = 8 * 1024 - len("Bearer ")
"""Bytes of a token that is issued or accepted: the server reads no longer Authorization."""

KEPT_ISSUED = 256
_REFRESH_CONTEXT = "refresh token"


class TokenTooLong(ValueError):
    """A token for so many or so long names would not be accepted by the server that issues it."""


class TokenRefused(Exception):
    """A token is not accepted; the text states why for the log, and clients are told nothing of it."""


@dataclass(frozen=True, slots=True)
class Backing:
    """The credential that a token stands for.

    `made_at`: when the password was set, or the stored token was made. An id alone does not do: where a backup was
    restored, ids that were given after it are given once more, to credentials of other people.
    """

    ref: CredentialRef
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Bearer:
    """A verified Bearer token. `backing`: None for nobody's."""

    backing: Backing | None
    access: AccessList


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new Bearer token, as its response describes it."""

    text: str
    issued_at: datetime
    lifetime: timedelta = TOKEN_LIFETIME


_Same = tuple[Backing | None, str, frozenset[tuple[str, frozenset[str]]], frozenset[tuple[str, str]], int, str]


class TokenService:
    """Issues and verifies the tokens of this server."""

    def __init__(self, keys: SigningKeys, sealer: Sealer) -> None:
        self._keys = keys
        self._sealer = sealer
        self._issued: LRUCache[_Same, IssuedToken] = LRUCache(KEPT_ISSUED)

    def issue(
        self,
        backing: Backing | None,
        subject: str,
        granted: Mapping[str, frozenset[str]],
        now: datetime,
        projects: Mapping[str, str] = NO_PROJECTS,
    ) -> IssuedToken:
        """Issue a Bearer token with these actions by canonical name. `subject`: a name for logs; `projects`: as for
        `access_document`.

        Requests of one second for the same get the same token: a fleet that begins to pull at once sends many, and a
        signature takes as long as the rest of a request. Raises TokenTooLong, SigningKeysUnusable.
        """
        key, issued = self._keys.current(now), int(now.timestamp())
        same = (backing, subject, frozenset(granted.items()), frozenset(projects.items()), issued, key.id)
        if (known := self._issued.get(same)) is not None:
            return known
        claims: dict[str, object] = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": subject,
            "iat": issued,
            "nbf": issued,
            "exp": issued + int(TOKEN_LIFETIME.total_seconds()),
            "jti": token_urlsafe(12),
            "access": access_document(granted, projects),
        }
        if backing is not None:
            claims["backing"] = _backing_document(backing)
        text = _sign(claims, key)
        if len(text) > TOKEN_LIMIT:
            raise TokenTooLong(f"the token would have more than {TOKEN_LIMIT} bytes: ask for fewer repositories")
        token = self._issued[same] = IssuedToken(text, datetime.fromtimestamp(issued, UTC))
        return token

    def verify(self, text: str, now: datetime) -> Bearer:
        """Verify a Bearer token. Raises TokenRefused, SigningKeysUnusable."""
        claims = self._signed_claims(text, now)
        try:
            if claims["iss"] != ISSUER or claims["aud"] != SERVICE:
                raise TokenRefused("a token of another issuer or for another service")
            expires_at = datetime.fromtimestamp(_number(claims["exp"]), UTC)
            begins = max(_number(claims["nbf"]), _number(claims["iat"]))
            if now >= expires_at:
                raise TokenRefused("a token that has expired")
            if now + CLOCK_SKEW < datetime.fromtimestamp(begins, UTC):
                raise TokenRefused("a token of the future")
            backing = _parse_backing(claims["backing"]) if "backing" in claims else None
            access = claims["access"]
            return Bearer(backing, AccessList(granted_actions(access), expires_at, claimed_projects(access)))
        except (KeyError, ValueError, TypeError, OverflowError, OSError) as error:
            raise TokenRefused("a token whose claims are not those of this server") from error

    def published(self, now: datetime) -> list[dict[str, str]]:
        """The public keys that verify tokens now, as JSON Web Keys. Raises SigningKeysUnusable."""
        return [key.document() for key in self._keys.published(now)]

    def issue_refresh(self, backing: Backing) -> str:
        """A refresh token, which is valid as long as the credential that it stands for. Raises SealBroken."""
        return self._sealer.seal(json.dumps(_backing_document(backing)), _REFRESH_CONTEXT)

    def open_refresh(self, text: str) -> Backing:
        """The credential that a refresh token stands for. Raises TokenRefused."""
        try:
            return _parse_backing(json.loads(self._sealer.open(text, _REFRESH_CONTEXT)))
        except (SealBroken, ValueError, KeyError, TypeError) as error:
            raise TokenRefused("a refresh token that this server did not issue") from error

    def _signed_claims(self, text: str, now: datetime) -> dict[str, Any]:
        """The claims of a token that one of our keys signed. Raises TokenRefused, SigningKeysUnusable."""
        if len(text) > TOKEN_LIMIT:
            raise TokenRefused("a token that is too long")
        try:
            header = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused("a text that is no token") from error
        if header.get("alg") != ALGORITHM or "crit" in header:
            raise TokenRefused("a token with another algorithm, or with an extension that is not understood")
        key_id = header.get("kid")
        key = self._keys.find(key_id, now) if isinstance(key_id, str) else None
        if key is None:
            raise TokenRefused("a token of an unknown key")
        try:
            claims: dict[str, Any] = jwt.decode(text, key.public, [ALGORITHM], _SIGNATURE_ALONE)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise TokenRefused("a token with a wrong signature") from error
        return claims


def _sign(claims: Mapping[str, object], key: SigningKey) -> str:
    """A signed token in its compact form (RFC 7515, section 7.1); twice as fast as by the library that verifies."""
    signed = f"{_header(key.id)}.{_encode(claims)}"
    signature = urlsafe_b64encode(key.private.sign(signed.encode())).rstrip(b"=").decode()
    return f"{signed}.{signature}"


@lru_cache(16)
def _header(key_id: str) -> str:
    return _encode({"alg": ALGORITHM, "kid": key_id, "typ": "JWT"})


def _encode(document: Mapping[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).rstrip(b"=").decode()


_SIGNATURE_ALONE: Options = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}
"""The claims are compared with the time of the request, which the library does not take."""


def _backing_document(backing: Backing) -> dict[str, object]:
    return {"ref": str(backing.ref), "made_at": backing.made_at.isoformat()}


def _parse_backing(document: Mapping[str, Any]) -> Backing:
    """Read a document. Raises ValueError, KeyError, TypeError."""
    return Backing(CredentialRef.parse(document["ref"]), datetime.fromisoformat(document["made_at"]))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value
