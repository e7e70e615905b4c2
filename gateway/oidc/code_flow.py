"""Sign-in of a person by an issuer: the authorization code flow with PKCE (OpenID Connect Core 1.0, 3.1; RFC 7636).

One secret that the browser alone keeps binds it to its attempt: `state`, `nonce` and the verifier of PKCE are derived
from it, each by a name of its own, so that none of them tells another one. Pure; the issuer is asked elsewhere.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.oidc.errors import IdTokenRefused, IssuerUnusable

CODE_LIMIT = 2048
"""Characters of a code that is redeemed."""


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """An attempt of one browser to sign in by one issuer. `issuer`: its name in the settings."""

    issuer: str
    secret: str = field(repr=False)

    @property
    def state(self) -> str:
        """What the issuer sends back, by which the response belongs to this browser and this issuer."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """What the ID token must state, so that none that was made for another attempt is accepted."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """What only whoever began the attempt can present with the code (RFC 7636, 4.1)."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """What the issuer is told of the verifier (RFC 7636, 4.2, S256)."""
        return _encoded(sha256(self.verifier.encode()).digest())

    def _derived(self, use: str) -> str:
        return _encoded(hmac.digest(self.secret.encode(), f"{use}\0{self.issuer}".encode(), sha256))


def authorization_url(metadata: Mapping[str, Any], client_id: str, redirect_uri: str, attempt: SignInAttempt) -> str:
    """Where a browser begins. Raises IssuerUnusable."""
    endpoint = endpoint_of(metadata, "authorization_endpoint")
    query = {
        "response_type": "code",
        "scope": "openid profile",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge,
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"


def endpoint_of(metadata: Mapping[str, Any], name: str) -> str:
    """An address that an issuer states. Raises IssuerUnusable unless it is one with https."""
    url = metadata.get(name)
    if isinstance(url, str) and url.isprintable() and is_safe(url):
        return url
    raise IssuerUnusable(f"its configuration has no {name} with https")


def check_response(attempt: SignInAttempt, issuer: str, response: Mapping[str, str]) -> str:
    """The code of what an issuer has sent a browser back with. `issuer`: its URL. Raises IdTokenRefused."""
    if not hmac.compare_digest(response.get("state", "").encode(), attempt.state.encode()):
        raise IdTokenRefused("the response belongs to no sign-in of this browser")
    if response.get("iss", issuer) != issuer:  # RFC 9207: the code of another issuer is not sent to this one
        raise IdTokenRefused("the response is of another issuer")
    if error := response.get("error"):
        raise IdTokenRefused(f"the issuer responded with {error[:100]!r}")
    code = response.get("code", "")
    if not 0 < len(code) <= CODE_LIMIT or not code.isprintable():
        raise IdTokenRefused("the response has no code")
    return code


def check_nonce(attempt: SignInAttempt, claims: Mapping[str, Any]) -> None:
    """Raises IdTokenRefused unless a token was made for an attempt."""
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
        raise IdTokenRefused("it was made for another sign-in")


def is_safe(url: str) -> bool:
    """Whether something may come from a URL: by https, without a user name in it."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
    except ValueError:
        return False


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
