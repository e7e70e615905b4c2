"""Small Docker Hub in front of a real registry: tokens, redirects to a CDN, rate limits, private repositories.

It is three servers on three ports: the registry (`hub`), the token service (`token`) and the blob host (`cdn`).
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .cdn import Cdn
from .certs import Authority
from .holds import Hold
from .images import INDEX
from .records import RequestLog
from .registry import RegistryFolder, referrer
from .serving import AsgiServer, Recorded
from .tokens import Grant, TokenService

SERVICE = "registry.docker.io"
WINDOW = 21600
ANONYMOUS_LIMIT, USER_LIMIT = 100, 200
LIMIT_REACHED = (
    "You have reached your unauthenticated pull rate limit. "
    "You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit"
)
FORWARDED = ("accept", "if-none-match")
RETURNED = ("content-type", "content-length", "docker-content-digest", "etag", "link")


class Hub:
    """The three servers and their knobs, which a test turns while they run; `reset` resets every knob.

    `private` holds repositories that only `tokens.users` may pull. The response for a missing repository equals that
    for a private one. `limit` None means an account without limits: no rate-limit headers at all.
    """

    def __init__(self, backend: str, folder: RegistryFolder, authority: Authority | None = None) -> None:
        self.log = RequestLog()
        self.authority = authority
        self.private: set[str] = set()
        self.down = False
        self.exhausted = False
        self.retry_after: int | None = None
        self.limit: int | None = ANONYMOUS_LIMIT
        self.referrers = False
        self.redirects_head = True
        self._backend, self._folder = backend, folder
        self._client: httpx2.AsyncClient | None = None
        self._pulls: dict[str, int] = {}
        self.tokens = TokenService(self._may_pull)
        self.cdn = Cdn(folder.blob_file)
        apps: dict[str, ASGIApp] = {"hub": self._app(), "token": self.tokens.app, "cdn": self.cdn}
        self._servers = {
            name: AsgiServer(Recorded(app, name, self.log), authority=authority) for name, app in apps.items()
        }

    @property
    def url(self) -> str:
        return self._servers["hub"].origin

    @property
    def netloc(self) -> str:
        return self._servers["hub"].netloc

    @property
    def token_netloc(self) -> str:
        return self._servers["token"].netloc

    @property
    def cdn_netloc(self) -> str:
        return self._servers["cdn"].netloc

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings of the server under test for `[upstreams."docker.io"]` with this Hub; `more` adds keys."""
        settings: dict[str, Any] = {
            "url": self.url,
            "token_hosts": [self.token_netloc],
            "redirect_hosts": [self.cdn_netloc],
            "private_addresses": True,
        }
        if self.authority is not None:
            settings["ca_file"] = str(self.authority.ca_file)
        return settings | more

    def start(self) -> None:
        for server in self._servers.values():
            server.start()

    def stop(self) -> None:
        self.cdn.release()
        for server in self._servers.values():
            server.stop()

    def refuse(self, *names: str) -> None:
        """Closes the ports of these servers (`hub`, `token`, `cdn`; none named: all) until `accept`."""
        for name in names or self._servers:
            self._servers[name].stop()

    def accept(self, *names: str) -> None:
        for name in names or self._servers:
            self._servers[name].start()

    def hold(self, digest: str, after: int = 65_536) -> Hold:
        """Stops the CDN's bodies of this blob after `after` bytes until `.release()`; `.reached` is set when one got
        there."""
        return self.cdn.hold(digest, after)

    def reset(self) -> None:
        """Resets every knob, starts all servers and clears the log."""
        self.cdn.reset()
        self.tokens.reset()
        self.private, self.down, self.exhausted, self.retry_after = set(), False, False, None
        self.limit, self.referrers, self.redirects_head = ANONYMOUS_LIMIT, False, True
        self._pulls = {}
        self.accept()
        self.log.clear()

    def count(self, server: str, method: str | None = None, path_contains: str = "", status: int | None = None) -> int:
        return self.log.count(server, method, path_contains, status)

    def downloads(self, digest: str) -> int:
        """How often the blob host was requested to send a blob from its first byte.

        A download of 16 MiB and more that is slow, as each is on a busy machine, is divided: further connections fetch
        ranges of it.
        """
        starts = [record.header("range") for record in self.log.select("cdn", "GET", digest)]
        return sum(wanted is None or wanted.startswith("bytes=0-") for wanted in starts)

    def _may_pull(self, user: str | None, repository: str) -> bool:
        return self._folder.holds_repository(repository) and (user is not None or repository not in self.private)

    # The registry.

    def _app(self) -> Starlette:
        reads = ["GET", "HEAD"]
        return Starlette(
            routes=[
                Route("/v2/", self._ping, methods=reads),
                Route("/v2/{name:path}/manifests/{reference}", self._manifest, methods=reads),
                Route("/v2/{name:path}/blobs/{digest}", self._blob, methods=reads),
                Route("/v2/{name:path}/tags/list", self._tags, methods=["GET"]),
                Route("/v2/{name:path}/referrers/{digest}", self._referrers, methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with httpx2.AsyncClient(base_url=self._backend, trust_env=False, verify=False, timeout=30) as client:
            self._client = client
            yield

    async def _ping(self, request: Request) -> Response:
        if self.down:
            return unavailable()
        if self._grant(request) is None:
            return self._challenge(None)
        return answer(b"{}", {"content-type": "application/json"})

    async def _manifest(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        counted = request.method == "GET"
        source = self._source(self._grant(request))
        if counted and self.limit is not None and (self.exhausted or self._remaining(source) <= 0):
            headers = self._limits(source, 0)
            if self.retry_after is not None:
                headers["retry-after"] = str(self.retry_after)
            return failure(429, "TOOMANYREQUESTS", LIMIT_REACHED, headers)
        response = await self._forward(request)
        if counted and response.status_code == 200:
            self._pulls[source] = self._pulls.get(source, 0) + 1
        response.headers.update(self._limits(source, 0 if self.exhausted else self._remaining(source)))
        return response

    async def _blob(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        name, digest = request.path_params["name"], request.path_params["digest"]
        if not self._folder.holds_blob(name, digest):
            return failure(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if request.method == "HEAD" and not self.redirects_head:
            return await self._forward(request)
        location = self._servers["cdn"].origin + self.cdn.sign(digest)
        return answer(b"", {"location": location, "content-type": "application/octet-stream"}, 307)

    async def _tags(self, request: Request) -> Response:
        """Lists tags, in pages if `n` requests them (distribution-spec, "Content Discovery")."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        response = await self._forward(request)
        if response.status_code != 200:
            return response
        name = request.path_params["name"]
        last, count = request.query_params.get("last", ""), int(request.query_params.get("n", 10_000))
        tags = sorted(tag for tag in json.loads(bytes(response.body))["tags"] or [] if tag > last)
        page, headers = tags[:count], {"content-type": "application/json"}
        if len(tags) > count > 0:
            headers["link"] = f'</v2/{name}/tags/list?n={count}&last={page[-1]}>; rel="next"'
        return answer(json.dumps({"name": name, "tags": page}).encode(), headers)

    async def _referrers(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if not self.referrers:
            return failure(404, "NOT_FOUND", "page not found")
        found = [
            referrer(digest, content)
            for digest, content in self._folder.manifests(request.path_params["name"])
            if json.loads(content).get("subject", {}).get("digest") == request.path_params["digest"]
        ]
        headers = {"content-type": INDEX}
        kind = request.query_params.get("artifactType")
        if kind is not None:
            found = [descriptor for descriptor in found if descriptor["artifactType"] == kind]
            headers["oci-filters-applied"] = "artifactType"
        return answer(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}).encode(), headers)

    async def _forward(self, request: Request) -> Response:
        """Forwards a request to the real registry."""
        if self._client is None:
            return unavailable()
        headers = [(key, value) for key, value in request.headers.items() if key in FORWARDED]
        try:
            found = await self._client.request(request.method, request.url.path, headers=headers)
        except httpx2.TransportError:
            return unavailable()
        returned = {key: found.headers[key] for key in RETURNED if key in found.headers}
        return answer(found.content, returned, found.status_code)

    # Identity of the client, and its count of pulls.

    def _grant(self, request: Request) -> Grant | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        return self.tokens.find(token) if kind.lower() == "bearer" else None

    def _refusal(self, request: Request) -> Response | None:
        """Response to a request that must be refused, or None."""
        if self.down:
            return unavailable()
        name = request.path_params["name"]
        grant = self._grant(request)
        if grant is not None and name in grant.repositories:
            return None
        if "authorization" not in request.headers:
            return self._challenge(name)
        return self._challenge(name, "invalid_token" if grant is None else "insufficient_scope")

    def _challenge(self, name: str | None, problem: str | None = None) -> Response:
        fields = {"realm": f"{self._servers['token'].origin}/token", "service": SERVICE}
        if name is not None:
            fields["scope"] = f"repository:{name}:pull"
        if problem is not None:
            fields["error"] = problem
        challenge = "Bearer " + ",".join(f'{key}="{value}"' for key, value in fields.items())
        return failure(401, "UNAUTHORIZED", "authentication required", {"www-authenticate": challenge})

    def _source(self, grant: Grant | None) -> str:
        user = grant.user if grant is not None else None
        return "127.0.0.1" if user is None else str(uuid5(NAMESPACE_DNS, user))

    def _allowance(self, source: str) -> int:
        if self.limit is None or source == "127.0.0.1":
            return self.limit or 0
        return self.limit * USER_LIMIT // ANONYMOUS_LIMIT

    def _remaining(self, source: str) -> int:
        return max(0, self._allowance(source) - self._pulls.get(source, 0))

    def _limits(self, source: str, remaining: int) -> dict[str, str]:
        if self.limit is None:
            return {}
        return {
            "ratelimit-limit": f"{self._allowance(source)};w={WINDOW}",
            "ratelimit-remaining": f"{remaining};w={WINDOW}",
            "docker-ratelimit-source": source,
        }


def answer(content: bytes, headers: Mapping[str, str], status: int = 200) -> Response:
    return Response(content, status, headers={"docker-distribution-api-version": "registry/2.0", **headers})


def failure(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    content = json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()
    return answer(content, {"content-type": "application/json", **(headers or {})}, status)


def unavailable() -> Response:
    return JSONResponse({"errors": [{"code": "UNAVAILABLE", "message": "service unavailable"}]}, 503)
