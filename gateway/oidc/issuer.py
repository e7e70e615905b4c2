"""Issuer: what one says of itself and its keys (OpenID Connect Discovery 1.0), fetched anew with each call.

Whoever lets people log in by an issuer needs the same document: `metadata` returns all of it, checked as far as every
use needs.
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from cache.oci.document import parse_document
from cache.upstream.egress import OWN_HEADERS, Egress, body
from cache.upstream.errors import UpstreamError
from gateway.oidc.code_flow import endpoint_of
from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.keys import KeySet, parse_key_set

DISCOVERY_PATH = "/.well-known/openid-configuration"
METADATA_LIMIT = 64 * 1024
KEYS_LIMIT = 256 * 1024
TOKENS_LIMIT = 64 * 1024
"""Bytes of the documents; those of the largest issuers have some 10 KiB."""

DOCUMENT_SECONDS = 5.0
"""How long a document may take once its head is here."""


_NONE: Mapping[str, str] = {}


class IssuerClient:
    """Requests to one issuer, by an egress of its own. It follows no redirect, and sends nothing that is secret but a
    code, with what proves that it is this server's."""

    def __init__(self, url: str, egress: Egress) -> None:
        """`url`: the issuer, exactly as its tokens name it."""
        self.url = url
        self._egress = egress

    async def metadata(self) -> Mapping[str, Any]:
        """What the issuer says of itself. Raises IssuerUnusable."""
        raw = await self._request("GET", f"{self.url.rstrip('/')}{DISCOVERY_PATH}", METADATA_LIMIT)
        try:
            document = parse_document(raw, 8)
        except ValueError as error:
            raise IssuerUnusable(f"its configuration is {error}") from error
        if not isinstance(document, dict) or document.get("issuer") != self.url:
            raise IssuerUnusable("its configuration names another issuer than the setting")
        return document

    async def keys(self) -> KeySet:
        """The keys that the issuer signs with now. Raises IssuerUnusable."""
        address = endpoint_of(await self.metadata(), "jwks_uri")
        return parse_key_set(await self._request("GET", address, KEYS_LIMIT))

    async def redeem(self, metadata: Mapping[str, Any], grant: Mapping[str, str], client_id: str, secret: str) -> str:
        """The ID token for a code (OpenID Connect Core 1.0, 3.1.3). `grant`: the code, and what goes with it; `secret`:
        of the client, empty for a public one. Raises IssuerUnusable."""
        fields = {"grant_type": "authorization_code", "client_id": client_id, **grant}
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Connection": "close"}
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and isinstance(methods, list) and "client_secret_basic" not in methods:
            fields["client_secret"] = secret
        elif secret:  # RFC 6749, 2.3.1: both are encoded as in a form
            pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        endpoint = endpoint_of(metadata, "token_endpoint")
        raw = await self._request("POST", endpoint, TOKENS_LIMIT, headers, urlencode(fields).encode())
        try:
            document = parse_document(raw, 8)
        except ValueError as error:
            raise IssuerUnusable(f"its tokens are {error}") from error
        token = document.get("id_token") if isinstance(document, dict) else None
        if not isinstance(token, str):
            raise IssuerUnusable("it has sent no ID token")
        return token

    async def _request(
        self, method: str, url: str, limit: int, headers: Mapping[str, str] = _NONE, content: bytes = b""
    ) -> bytes:
        try:
            sent = {**OWN_HEADERS, "Accept": "application/json", **headers}
            response = await self._egress.send(method, url, sent, content=content)
            if response.status_code != 200:
                await response.aclose()
                raise IssuerUnusable(f"{urlsplit(url).netloc} responded with {response.status_code}")
            raw = await body(response, limit, DOCUMENT_SECONDS)
        except UpstreamError as error:
            raise IssuerUnusable(error.reason) from error
        if raw is None:
            raise IssuerUnusable(f"{urlsplit(url).netloc} sent more than {limit} bytes")
        return raw

    async def close(self) -> None:
        await self._egress.close()
