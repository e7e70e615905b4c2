"""Probe of an upstream for diagnosis: single requests without the retries with which a pull hides faults.

They use the same addresses, rules and tokens as pulls.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

from cache.oci.digest import Digest
from cache.oci.media_types import ACCEPTED
from cache.oci.names import RepositoryName, Tag
from cache.upstream.allowance import StatedLimit, parse_stated_limit
from cache.upstream.egress import OWN_HEADERS, Egress, Response, drop
from cache.upstream.errors import Unavailable
from cache.upstream.flow import carry_out
from cache.upstream.tokens import Tokens
from cache.values import Registry


@dataclass(frozen=True, slots=True)
class PingResult:
    """Response to a first request. `challenge`: the demanded authentication, empty if none. `date`: the registry's
    clock, None if it states none."""

    status: int
    challenge: str
    date: datetime | None


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """Response to a HEAD of a manifest; `limit` and `remaining` are pulls, None if they are not stated."""

    status: int
    limit: int | None
    remaining: int | None


class RegistryProbe:
    """Requests to one registry, whose host has the URL. Raises only UpstreamError."""

    def __init__(self, url: str, registry: Registry, egress: Egress, tokens: Tokens) -> None:
        self._url = url
        self._registry = registry
        self._egress = egress
        self._tokens = tokens

    async def ping(self, authorization: str | None = None) -> PingResult:
        """Send a GET /v2/ (distribution-spec, "Determining Support"), anonymous unless a header is given."""
        headers = {"Authorization": authorization} if authorization else {}
        response = await self._send("GET", f"{self._url}/v2/", headers)
        challenge = ", ".join(response.headers.get_list("www-authenticate")) if response.status_code == 401 else ""
        return PingResult(response.status_code, challenge, parse_date(response.headers.get("date", "")))

    async def authorization(self, image: RepositoryName, challenge: str) -> str | None:
        """Get the Authorization header for a challenge, with a token if it demands one; None if there is no way to
        authenticate."""
        flow = self._tokens.renewed(f"repository:{self._registry.full_name(image)}:pull", None, challenge)
        return await carry_out(flow, self._egress)

    async def head(self, image: RepositoryName, reference: Tag | Digest, authorization: str | None) -> ManifestHead:
        """Send a HEAD for a manifest, which Docker Hub does not count as a pull."""
        headers = {"Accept": ", ".join(ACCEPTED)} | ({"Authorization": authorization} if authorization else {})
        url = f"{self._url}/v2/{quote(self._registry.full_name(image))}/manifests/{reference}"
        response = await self._send("HEAD", url, headers)
        stated = parse_stated_limit(response.headers) or StatedLimit()
        return ManifestHead(response.status_code, stated.limit, stated.remaining)

    async def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        host = urlsplit(url).netloc
        if not self._egress.allows(url):
            raise Unavailable(f"{host} is not among the hosts that are reached through the proxy")
        response = await self._egress.send(method, url, {"Host": host, **OWN_HEADERS, **headers})
        await drop(response)
        return response


def parse_date(value: str) -> datetime | None:
    """The moment of a Date header (RFC 9110, section 6.6.1); None if it is malformed."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
