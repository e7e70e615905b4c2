"""An ID token as it is sent: a JWT in the compact form (RFC 7515, 7519), read within bounds before any of it counts.

One spelling of a token is accepted: base64url without padding and without bits that mean nothing, JSON without a key
that stands twice. What its header says of keys (`jwk`, `jku`, `x5u`, `x5c`) is not read, and an extension that must be
understood (`crit`) refuses it.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cache.oci.document import parse_document
from gateway.oidc.errors import IdTokenRefused
from gateway.oidc.keys import ALGORITHMS, KEY_ID_LIMIT, VerificationKey

TOKEN_LIMIT = 8 * 1024
"""Bytes of a token: the server reads no longer Authorization. Those of CI systems have 1 to 3 KiB."""

DEPTH_LIMIT = 6
"""Levels of the claims; those of CI systems have two or three."""

_COMPACT = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""Three parts, of which the first two begin with `{"` in base64url: with this alone a secret is taken for a token."""


def resembles_token(secret: str) -> bool:
    """Whether a secret has the form of a signed JWT, which no password and no other token has."""
    return _COMPACT.match(secret) is not None


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token that was read, and of which nothing is verified. `claims`: what it states; `signed`: the bytes that the
    signature is over."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def check_signature(self, key: VerificationKey) -> None:
        """Raises IdTokenRefused unless a key signed it."""
        if not key.verifies(self.algorithm, self.signed, self.signature):
            raise IdTokenRefused("its signature is wrong, or made with an algorithm that is not the key's")


def read_token(text: str) -> SignedToken:
    """Read a token. Raises IdTokenRefused."""
    if len(text) > TOKEN_LIMIT:
        raise IdTokenRefused(f"it has more than {TOKEN_LIMIT} bytes")
    if _COMPACT.fullmatch(text) is None:
        raise IdTokenRefused("it is not a signed token in the compact form")
    head, body, tail = text.split(".")
    header, claims = _object("header", head), _object("claims", body)
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise IdTokenRefused("its algorithm is not accepted")
    if "crit" in header or "b64" in header:
        raise IdTokenRefused("its header has an extension that is not understood")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise IdTokenRefused("it is a token of another type")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_LIMIT:
        raise IdTokenRefused("its header names no key")
    return SignedToken(algorithm, key_id, claims, f"{head}.{body}".encode(), _decode(tail))


def _object(what: str, part: str) -> Mapping[str, Any]:
    try:
        document = parse_document(_decode(part), DEPTH_LIMIT)
    except ValueError as error:
        raise IdTokenRefused(f"its {what} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise IdTokenRefused(f"its {what} is no object")
    return document


def _decode(part: str) -> bytes:
    """The bytes of a part, which have no other spelling. Raises IdTokenRefused."""
    try:
        decoded = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise IdTokenRefused("a part of it is not base64url") from error
    if urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise IdTokenRefused("a part of it has bits that mean nothing")
    return decoded
