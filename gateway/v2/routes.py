"""Paths of /v2 and the handlers that serve them."""

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import RegistryError, Unauthorized
from cache.oci.names import RepositoryName
from cache.runtime.on_behalf import on_behalf_of
from gateway.auth.authenticator import peer_of
from gateway.auth.principal import Principal, describe
from gateway.auth.requester import requester_of
from gateway.auth.scopes import CATALOG_SCOPE
from gateway.http.access_log import note_principal
from gateway.http.causes import cause_of, note_actor
from gateway.http.errors import API_VERSION, unknown_path, wrong_method
from gateway.maintenance.repeated_pulls import RepeatedPulls
from gateway.namespaces.locate import Root
from gateway.namespaces.paths import proxied_name
from gateway.observability.group_pulls import GroupPulls
from gateway.release import UNKNOWN_VERSION, installed_version
from gateway.server.client_connection import note_accepted
from gateway.services import Services
from gateway.v2.audited import Audited
from gateway.v2.catalog import Catalog
from gateway.v2.challenges import CHALLENGE_HEADER, LoginOffered, MoreScopeNeeded, challenge, needed_scope
from gateway.v2.deletions import Deletions
from gateway.v2.endpoint import CATALOG, PINGS, Endpoint, EndpointKind, check_raw_path, parse_endpoint
from gateway.v2.manifests import ManifestPushes
from gateway.v2.mounts import Mounts
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import PageLinks
from gateway.v2.pull import Pull
from gateway.v2.root_selection import chosen_root
from gateway.v2.uploads import BlobPushes
from gateway.v2.warnings import with_warning
from gateway.webhooks.cause import caused_by

Handler = Callable[[Request, Endpoint, Principal], Awaitable[ASGIApp]]

GITLAB_HEADERS = {
    "Gitlab-Container-Registry-Version": installed_version() or UNKNOWN_VERSION,
    "Gitlab-Container-Registry-Features": "tag_delete",
    "Gitlab-Container-Registry-Database-Enabled": "true",
}
"""Headers by which GitLab knows what a registry can do."""

_READS = ("GET", "HEAD")
_KINDS = {EndpointKind.UPLOADS: "upload"}
"""Kinds that the log names otherwise than their endpoint."""


class RegistryApi:
    """App for every path under /v2, inside a RootSelection. Raises RegistryError for a refused request."""

    def __init__(self, services: Services, opener: RepositoryOpener, repeated: RepeatedPulls | None = None) -> None:
        """`repeated`: as for Pull."""
        self._authenticator = services.authenticator
        self._directory = services.directory
        links = PageLinks(services.sealer)
        audited = Audited(services.audit)
        pull = Pull(opener, links, audited, GroupPulls(services.group_usage, services.clock), repeated)
        uploads = BlobPushes(opener, Mounts(opener))
        deletions = Deletions(opener, audited)
        self._catalog = Catalog(services.native, opener)
        self._handlers: dict[tuple[EndpointKind, str], Handler] = {
            (EndpointKind.MANIFEST, "GET"): pull.get_manifest,
            (EndpointKind.MANIFEST, "HEAD"): pull.head_manifest,
            (EndpointKind.MANIFEST, "PUT"): ManifestPushes(opener, audited).put,
            (EndpointKind.MANIFEST, "DELETE"): deletions.delete_manifest,
            (EndpointKind.BLOB, "GET"): pull.get_blob,
            (EndpointKind.BLOB, "HEAD"): pull.head_blob,
            (EndpointKind.BLOB, "DELETE"): deletions.delete_blob,
            (EndpointKind.UPLOADS, "POST"): uploads.begin,
            (EndpointKind.UPLOAD, "GET"): uploads.show,
            (EndpointKind.UPLOAD, "PATCH"): uploads.append,
            (EndpointKind.UPLOAD, "PUT"): uploads.finish,
            (EndpointKind.UPLOAD, "DELETE"): uploads.cancel,
            (EndpointKind.TAG, "DELETE"): deletions.delete_tag,
            **{(EndpointKind.TAGS, method): pull.list_tags for method in _READS},
            **{(EndpointKind.REFERRERS, method): pull.list_referrers for method in _READS},
        }

    @property
    def routes(self) -> frozenset[tuple[EndpointKind, str]]:
        """Every resource of a repository with each method that it has; all else is refused."""
        return frozenset(self._handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with caused_by(partial(cause_of, request)):
            response = await self._respond(request)
            await response(scope, receive, with_warning(scope, send))

    async def _respond(self, request: Request) -> ASGIApp:
        path, method = request.scope["path"], request.method
        check_raw_path(request.scope["raw_path"])
        endpoint = None if path in PINGS else parse_endpoint(path)
        try:
            principal = await self._authenticator.authenticate(request.scope)
            if not principal.is_anonymous:
                note_accepted(request.scope)
                note_principal(request.scope, describe(principal))
                note_actor(request.scope, principal.name)
            if endpoint is None:
                return await self._respond_without_name(request, principal)
            handler = self._handlers.get((endpoint.kind, method))
            if handler is None:
                raise wrong_method(method, [known for kind, known in self._handlers if kind is endpoint.kind])
            if principal.is_anonymous:  # acts on behalf of its address, as each request does from its beginning
                return await handler(request, endpoint, principal)
            with on_behalf_of(requester_of(principal, peer_of(request.scope))):
                return await handler(request, endpoint, principal)
        except RegistryError as error:
            if endpoint is not None and error.facts:
                error.facts["kind"] = _KINDS.get(endpoint.kind, endpoint.kind.name.lower())
            if not isinstance(error, Unauthorized):
                raise
            more = f" {error.scope}" if isinstance(error, MoreScopeNeeded) else ""
            error.headers[CHALLENGE_HEADER] = await self._challenge(request, endpoint, more)
            raise

    async def _respond_without_name(self, request: Request, principal: Principal) -> ASGIApp:
        """Respond to a path that names no repository. Raises EndpointUnknown, Unsupported, Unauthorized."""
        path, method = request.scope["path"], request.method
        is_catalog = path == CATALOG and chosen_root(request.scope).root is None
        if path not in PINGS and not is_catalog:
            raise unknown_path(path)
        if method not in _READS:
            raise wrong_method(method)
        return await (self._catalog.list_repositories(request, principal) if is_catalog else self._ping(principal))

    async def _ping(self, principal: Principal) -> ASGIApp:
        """Respond to a ping; whoever sends no credential is challenged once there is one that could be sent.

        A client logs in at the realm of this challenge, and requests anonymous tokens there. Raises Unauthorized.
        """
        if principal.is_anonymous and principal.limits is None and await self._directory.has_logins():
            raise LoginOffered("log in, or request a token without a login for what everybody may pull")
        return ping()

    async def _challenge(self, request: Request, endpoint: Endpoint | None, more: str) -> str:
        """The challenge for a request: the realm is at the address that it came to, whose names the scope uses.

        `more`: further scopes, each after a blank. The token endpoint sees no `ns`, so the scope names such an image as
        the main address does.
        """
        chosen = chosen_root(request.scope)
        if endpoint is None:
            return challenge(chosen.url, CATALOG_SCOPE if request.scope["path"] == CATALOG else "")
        name = endpoint.name.text
        if chosen.root is not None and chosen.link_namespace:
            name = await self._main_name(endpoint.name, chosen.root)
        return challenge(chosen.url, needed_scope(endpoint, request.method, name) + more)

    async def _main_name(self, name: RepositoryName, root: Root) -> str:
        """The name at the main address of an image below a root."""
        located = await self._directory.locate(name, root)
        return located.name if located.location else proxied_name(root.group, f"{root.upstream}/{name}")


def ping() -> ASGIApp:
    """Response that shows that this is a registry (distribution-spec, "Determining Support"), and one with the API of
    GitLab's (GitLab registry API, "Compliance check")."""
    return JSONResponse({}, headers=API_VERSION | GITLAB_HEADERS)
