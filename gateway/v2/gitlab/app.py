"""GitlabApi: the app of every path below /gitlab/v1/, which takes the tokens of /v2/ for the same rights.

Reading a repository needs `pull` of its path; what lies below a path needs `pull` of `PATH/*`, too; a rename needs
`pull` and `push`. Each request is decided anew beside its token, as below /v2/.
"""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cache.oci.errors import ManifestUnknown, NameUnknown, Unauthorized
from cache.oci.names import RepositoryName
from cache.runtime.on_behalf import on_behalf_of
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, describe
from gateway.auth.requester import requester_of
from gateway.auth.scopes import BELOW, PULL, scope_text
from gateway.db.repositories import StoredRepository
from gateway.http.access_log import note_native_lookup, note_principal
from gateway.http.errors import API_VERSION, unknown_path, wrong_method
from gateway.repositories import OpenedNative
from gateway.server.client_connection import note_accepted
from gateway.services import Services
from gateway.v2.audited import Audited
from gateway.v2.challenges import CHALLENGE_HEADER, LoginOffered, challenge
from gateway.v2.endpoint import check_raw_path
from gateway.v2.gitlab.documents import (
    repository_document,
    repository_documents,
    tag_details_document,
    tag_document,
)
from gateway.v2.gitlab.endpoint import GitlabEndpoint, GitlabResource, parse_gitlab_endpoint
from gateway.v2.gitlab.errors import QueryValueInvalid
from gateway.v2.gitlab.moves import ProjectMoves
from gateway.v2.gitlab.paging import links, page_ends
from gateway.v2.gitlab.parameters import TagListQuery, parse_count
from gateway.v2.gitlab.platform import read_platform
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from gateway.v2.root_selection import RootTable, address_roots

MOST_REFERRERS = 5_000
"""Referrers that one page of tags shows in all."""

_READS = ("GET", "HEAD")
_WITH_DESCENDANTS = "self_with_descendants"
_SIZES = (None, "self", _WITH_DESCENDANTS)


class GitlabApi:
    """App for every path below /gitlab/v1, inside ErrorRendering. Raises RegistryError for a refused request."""

    def __init__(
        self,
        services: Services,
        opener: RepositoryOpener,
        roots: RootTable,
        registry: RegistryOptions,
        old_paths: timedelta,
    ) -> None:
        """`old_paths`: how long what has moved keeps its old path."""
        self._authenticator = services.authenticator
        self._directory = services.directory
        self._native = services.native
        self._inventory = services.native.inventory
        self._opener = opener
        self._roots = roots
        access = Access(services.directory, registry.open_proxy)
        self._moves = ProjectMoves(services, opener, access, Audited(services.audit), old_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._respond(Request(scope, receive))
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> ASGIApp:
        path, address = request.scope["path"], address_roots(request.scope, self._roots).own
        check_raw_path(request.scope["raw_path"])
        if address.root is not None:  # the address belongs to one upstream
            raise unknown_path(path)
        endpoint = parse_gitlab_endpoint(path)
        if endpoint is None:
            if parse_gitlab_endpoint(f"{path}/") is None:
                raise unknown_path(path)
            query = request.scope["query_string"].decode("latin-1")
            return Response(status_code=301, headers={"Location": f"{address.url}{path}/{query and f'?{query}'}"})
        try:
            principal = await self._authenticator.authenticate(request.scope)
            if not principal.is_anonymous:
                note_accepted(request.scope)
                note_principal(request.scope, describe(principal))
            client = request.client.host if request.client else ""
            with on_behalf_of(requester_of(principal, client)):
                return await self._handled(request, endpoint, principal, address.url)
        except Unauthorized as error:
            error.headers[CHALLENGE_HEADER] = challenge(address.url, _needed_scope(request, endpoint))
            raise

    async def _handled(self, request: Request, endpoint: GitlabEndpoint, principal: Principal, url: str) -> ASGIApp:
        is_renamed = endpoint.resource is GitlabResource.REPOSITORY
        if request.method == "PATCH" and is_renamed:
            return await self._moves.rename(request, endpoint.repository, principal)
        if request.method not in _READS:
            raise wrong_method(request.method, (*_READS, "PATCH") if is_renamed else _READS)
        match endpoint.resource:
            case GitlabResource.BASE:
                return await self._ping(principal)
            case GitlabResource.REPOSITORY:
                return await self._repository(request, endpoint, principal)
            case GitlabResource.TAGS:
                return await self._tags(request, endpoint, principal, url)
            case GitlabResource.TAG:
                return await self._tag(request, endpoint, principal)
            case GitlabResource.REPOSITORIES:
                return await self._repositories(request, endpoint, principal, url)

    async def _ping(self, principal: Principal) -> ASGIApp:
        """Show that the registry has this API; whoever sends no credential is challenged, as below /v2/."""
        if principal.is_anonymous and principal.limits is None and await self._directory.has_logins():
            raise LoginOffered("log in, or request a token without a login for what everybody may pull")
        return Response(status_code=200, headers=API_VERSION)

    async def _repository(self, request: Request, endpoint: GitlabEndpoint, principal: Principal) -> ASGIApp:
        """One repository, with its size where that is wanted."""
        wanted = request.query_params.get("size")
        if wanted not in _SIZES:
            raise QueryValueInvalid(f"size must be self or {_WITH_DESCENDANTS}")
        opened = await self._open(request, endpoint, principal)
        stored = await self._native.find(RepositoryName(opened.path))
        created_at, size = None if stored is None else stored.created_at, None
        if wanted == _WITH_DESCENDANTS:
            _require_below(principal, endpoint.repository)
            size = await self._inventory.size_below(opened.project.id, opened.path)
        elif wanted is not None and stored is not None:
            size = await self._inventory.size(stored.id)
        if stored is None and size is None:
            raise _no_repository(opened.path)
        return JSONResponse(repository_document(opened.path, created_at, size))

    async def _tags(self, request: Request, endpoint: GitlabEndpoint, principal: Principal, url: str) -> ASGIApp:
        """A page of the tags of a repository, from either end."""
        query = TagListQuery.parse(request.query_params)
        stored = await self._stored(request, endpoint, principal)
        wanted = query.selection
        found = await self._inventory.selected_tags(stored.id, wanted)
        more = len(found) > wanted.limit
        rows = found[-wanted.limit :] if wanted.backwards else found[: wanted.limit]
        digests = [row.digest for row in rows]
        images = await self._inventory.images(stored.id, digests)
        referrers = None
        if query.referrers:
            types = query.referrer_types
            referrers = await self._inventory.referrers_of(stored.id, digests, types, MOST_REFERRERS)
        documents = [
            tag_document(row, images.get(row.digest), None if referrers is None else referrers.get(row.digest, []))
            for row in rows
        ]
        headers = links(request, url, page_ends(rows, wanted, more=more))
        return JSONResponse(documents, headers=headers)

    async def _tag(self, request: Request, endpoint: GitlabEndpoint, principal: Principal) -> ASGIApp:
        """One tag, with its image and, of an index, those that it lists."""
        tag = endpoint.tag
        assert tag is not None, "the path names a tag"
        stored = await self._stored(request, endpoint, principal)
        details = await self._inventory.tag(stored.id, tag)
        image = None
        if details is not None:
            image = (await self._inventory.images(stored.id, [details.stored.digest])).get(details.stored.digest)
        if details is None or image is None:
            raise ManifestUnknown(f"repository {stored.path} has no tag {tag.text!r}")
        listed = [child.digest for child in image.children]
        children = await self._inventory.images(stored.id, listed)
        shown = [children[digest] for digest in listed if digest in children]
        opened = await self._open(request, endpoint, principal)
        platform = None if image.config is None else await read_platform(opened.repository, image.config)
        return JSONResponse(tag_details_document(stored.path, details.stored, image, shown, platform))

    async def _repositories(
        self, request: Request, endpoint: GitlabEndpoint, principal: Principal, url: str
    ) -> ASGIApp:
        """A page of the repositories at and below a path that have a tag."""
        count, last = parse_count(request.query_params), request.query_params.get("last", "")
        opened = await self._open(request, endpoint, principal)
        _require_below(principal, endpoint.repository)
        found = await self._inventory.tagged_below(opened.project.id, opened.path, last, count + 1)
        ends = {"next": {"last": found[count - 1].path}} if len(found) > count else {}
        return JSONResponse(repository_documents(found[:count]), headers=links(request, url, ends))

    async def _open(self, request: Request, endpoint: GitlabEndpoint, principal: Principal) -> OpenedNative:
        """Open what a name leads to, for a principal that may pull from it. Raises NameUnknown, Unauthorized,
        Denied."""
        client = request.client.host if request.client else ""
        opened = await self._opener.open(endpoint.repository, principal, Action.PULL, None, client)
        if not isinstance(opened, OpenedNative):
            raise NameUnknown(f"{endpoint.repository} comes from an upstream: this API knows repositories of projects")
        note_native_lookup(request.scope, endpoint.resource.value, opened.project.path)
        return opened

    async def _stored(self, request: Request, endpoint: GitlabEndpoint, principal: Principal) -> StoredRepository:
        opened = await self._open(request, endpoint, principal)
        stored = await self._native.find(RepositoryName(opened.path))
        if stored is None:
            raise _no_repository(opened.path)
        return stored


def _needed_scope(request: Request, endpoint: GitlabEndpoint) -> str:
    """The scope of a challenge."""
    if endpoint.name is None:
        return ""
    below = f" {scope_text(f'{endpoint.name}{BELOW}', [PULL])}"
    if request.method == "PATCH":
        return scope_text(endpoint.name.text, [PULL, "push"]) + below
    listed = endpoint.resource is GitlabResource.REPOSITORIES
    is_wide = listed or request.query_params.get("size") == _WITH_DESCENDANTS
    return scope_text(endpoint.name.text, [PULL]) + (below if is_wide else "")


def _require_below(principal: Principal, name: RepositoryName) -> None:
    """Check that a Bearer token lists what lies below a path. Raises Unauthorized."""
    if principal.limits is not None and PULL not in principal.limits.actions.get(f"{name}{BELOW}", ()):
        raise Unauthorized(f"the Bearer token does not list pull of {name}{BELOW}")


def _no_repository(path: str) -> NameUnknown:
    return NameUnknown(f"there is no repository {path}")
