"""Issuer of ID tokens on a real port with TLS, which signs whatever a test wants and publishes what it is told to."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from .canaries import remember
from .certs import Authority
from .serving import AsgiServer

AUDIENCE = "https://registry.example.com"
_MADE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_PUBLIC: dict[str, Callable[[Any], Any]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


class SigningKeyOfTests:
    """A private key of an issuer, with its id and the algorithm that it is for."""

    def __init__(self, id: str, algorithm: str = "ES256") -> None:
        self.id = id
        self.algorithm = algorithm
        self.private = _MADE[algorithm]()

    @property
    def document(self) -> dict[str, Any]:
        """The public key, as a key set has it."""
        public = json.loads(_PUBLIC[self.algorithm](self.private.public_key()))
        return {**public, "kid": self.id, "alg": self.algorithm, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        text = jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.id, **header})
        return remember(text)


class Issuer:
    """An issuer. `published`: the keys that it shows. `requests`: paths that were requested. `configuration`: what it
    says of itself beside what is right, or instead; `respond`: None, or what it does instead of an answer. `person`:
    the claims of whoever signs in; `granted`: what was requested with each code; `redeemed`: what came with codes."""

    def __init__(self, authority: Authority, algorithm: str = "ES256") -> None:
        routes = [
            Route("/.well-known/openid-configuration", self._show),
            Route("/keys", self._keys),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        self._server = AsgiServer(Starlette(routes=routes), authority=authority)
        self._authority = authority
        self.key = SigningKeyOfTests("first", algorithm)
        self.published = [self.key.document]
        self.configuration: dict[str, Any] = {}
        self.requests: list[str] = []
        self.respond: Callable[[Request], Any] | None = None
        self.person: dict[str, Any] = {"sub": "person-1", "preferred_username": "Ada.Lovelace", "groups": ["staff"]}
        self.granted: dict[str, dict[str, str]] = {}
        self.redeemed: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return self._server.origin

    def settings(self, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The table of the settings for this issuer."""
        own = {"ca_file": str(self._authority.ca_file), "private_addresses": True}
        return {"issuer": self.url, "audience": AUDIENCE, "rule": list(rules), **own, **more}

    def start(self) -> "Issuer":
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    def rotate(self, id: str = "second", algorithm: str | None = None) -> None:
        """Sign with another key from now on, which alone is shown."""
        self.key = SigningKeyOfTests(id, algorithm or self.key.algorithm)
        self.published = [self.key.document]

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims of a valid token; None takes one away."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "repo:acme/app:ref:refs/heads/main",
            "jti": uuid4().hex,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "repository": "acme/app",
            "repository_owner": "acme",
            "ref": "refs/heads/main",
            **changed,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, **changed: Any) -> str:
        """A token that the key of now signs."""
        return self.key.sign(self.claims(**changed))

    def grant(self, query: dict[str, str]) -> str:
        """A code for a request that a browser was sent with."""
        code = remember(uuid4().hex)
        self.granted[code] = query
        return code

    async def _authorize(self, request: Request) -> Response:
        """Sign the person in without a question, and lead the browser back."""
        query = dict(request.query_params)
        back = urlencode({"code": self.grant(query), "state": query["state"], "iss": self.url})
        return RedirectResponse(f"{query['redirect_uri']}?{back}")

    async def _token(self, request: Request) -> Response:
        """Redeem a code once, for whoever presents the verifier of its challenge (RFC 7636, 4.6)."""
        sent = {key: value for key, [value] in parse_qs((await request.body()).decode()).items()}
        self.redeemed.append({**sent, "authorization": request.headers.get("authorization", "")})
        asked = self.granted.pop(sent["code"], None)
        digest = sha256(sent["code_verifier"].encode()).digest()
        challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or (asked["code_challenge"], asked["redirect_uri"]) != (challenge, sent["redirect_uri"]):
            return JSONResponse({"error": "invalid_grant"}, 400)
        own = {"aud": asked["client_id"], "nonce": asked["nonce"], **self.person}
        return await self._answer(request, {"id_token": self.token(**own), "token_type": "Bearer"})

    async def _show(self, request: Request) -> Response:
        document = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            **self.configuration,
        }
        return await self._answer(request, document)

    async def _keys(self, request: Request) -> Response:
        return await self._answer(request, {"keys": self.published})

    async def _answer(self, request: Request, document: Any) -> Response:
        self.requests.append(request.url.path)
        if self.respond is not None:
            answer = self.respond(request)
            response: Response = await answer if asyncio.iscoroutine(answer) else answer
            return response
        return JSONResponse(document)


async def stall(request: Request) -> Response:
    """Answer when nobody waits any more."""
    await asyncio.sleep(60)
    return Response()


def redirect(request: Request) -> Response:
    return RedirectResponse(f"{request.url.path}/elsewhere")


__all__ = ["AUDIENCE", "Issuer", "SigningKeyOfTests", "redirect", "stall"]
