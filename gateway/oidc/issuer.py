"""Issuer: what one says of itself and its keys (OpenID Connect Discovery 1.0), fetched anew with each call.

Whoever lets people log in by an issuer needs the same document: `metadata` returns all of it, checked as far as every
use needs.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from cache.oci.document import parse_document
from cache.upstream.egress import OWN_HEADERS, Egress, body
from cache.upstream.errors import UpstreamError
from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.keys import KeySet, parse_key_set

DISCOVERY_PATH = "/.well-known/openid-configuration"
METADATA_LIMIT = 64 * 1024
KEYS_LIMIT = 256 * 1024
"""Bytes of the two documents; those of the largest issuers have some 10 KiB."""

DOCUMENT_SECONDS = 5.0
"""How long a document may take once its head is here."""


class IssuerClient:
    """Requests to one issuer, by an egress of its own. It follows no redirect, and sends nothing that is secret."""

    def __init__(self, url: str, egress: Egress) -> None:
        """`url`: the issuer, exactly as its tokens name it."""
        self.url = url
        self._egress = egress

    async def metadata(self) -> Mapping[str, Any]:
        """What the issuer says of itself. Raises IssuerUnusable."""
        raw = await self._get(f"{self.url.rstrip('/')}{DISCOVERY_PATH}", METADATA_LIMIT)
        try:
            document = parse_document(raw, 8)
        except ValueError as error:
            raise IssuerUnusable(f"its configuration is {error}") from error
        if not isinstance(document, dict) or document.get("issuer") != self.url:
            raise IssuerUnusable("its configuration names another issuer than the setting")
        return document

    async def keys(self) -> KeySet:
        """The keys that the issuer signs with now. Raises IssuerUnusable."""
        address = (await self.metadata()).get("jwks_uri")
        if not isinstance(address, str) or not _is_safe(address):
            raise IssuerUnusable("its configuration has no jwks_uri with https")
        return parse_key_set(await self._get(address, KEYS_LIMIT))

    async def _get(self, url: str, limit: int) -> bytes:
        try:
            response = await self._egress.send("GET", url, {**OWN_HEADERS, "Accept": "application/json"})
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


def _is_safe(url: str) -> bool:
    """Whether keys may come from a URL: by https, without a user name in it."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
