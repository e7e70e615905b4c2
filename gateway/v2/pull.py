"""Pulling: manifests, blobs, tags and referrers (distribution-spec, "Pull" and "Content Discovery")."""

import asyncio
import json
from functools import lru_cache, partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.types import ASGIApp

from cache.oci.digest import Digest
from cache.oci.errors import ArtifactTypeInvalid, ManifestUnknown, PageInvalid, RegistryError
from cache.oci.media_types import OCI_INDEX, SCHEMA_1, essence, is_media_type
from cache.oci.names import Tag
from cache.upstream.lists import PAGE_SIZE
from cache.values import ReferrersPage, TagPage, WrittenDescriptor
from gateway.auth.authenticator import peer_of
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, describe
from gateway.http.access_log import note_counted, note_lookup, note_native_lookup
from gateway.http.documents import DocumentResponse, Documents
from gateway.http.errors import API_VERSION
from gateway.http.request_headers import first_headers
from gateway.maintenance.repeated_pulls import RepeatedPulls, WatchedPull
from gateway.observability.group_pulls import GroupPulls
from gateway.registry.base import WritableRepository
from gateway.repositories import Opened, OpenedNative, OpenedRepository
from gateway.v2.audited import Audited
from gateway.v2.endpoint import Endpoint, EndpointKind
from gateway.v2.manifests import OLD_CLIENT
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import PageLinks, page_size
from gateway.v2.responses import BlobHead, ManifestResponse, PulledBlob, cache_headers
from gateway.v2.root_selection import chosen_root
from gateway.v2.warnings import note_warning

TAGS_NAMED = 5
"""Existing tags that the refusal of another one names."""

_FROM_THE_START = "bytes=0-"
_NAMES_AT_ONCE = 10_000
_PULLED = (EndpointKind.MANIFEST, EndpointKind.BLOB)
_KINDS = {kind: kind.name.lower() for kind in EndpointKind}
_SCHEMA_1 = b"docker.distribution.manifest.v1+"
"""What the media types of Docker's first format contain, and no other."""
_ACCEPT_LIMIT = 1024
"""Bytes of an Accept whose meaning is remembered, so that clients that invent some take little memory."""


class Pull:
    """Handlers of the pull endpoints; each reads as the sentence in the specification."""

    def __init__(
        self,
        opener: RepositoryOpener,
        links: PageLinks,
        audited: Audited,
        counted: GroupPulls,
        repeated: RepeatedPulls | None = None,
    ) -> None:
        """`repeated`: who is told of pulls of whole blobs."""
        self._opener = opener
        self._links = links
        self._audited = audited
        self._counted = counted
        self._repeated = repeated
        self._documents = Documents()

    async def get_manifest(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        refuse_old_clients(request)
        opened = await self._open(request, endpoint, principal)
        try:
            found = await opened.repository.manifest(endpoint.reference)
        except ManifestUnknown as error:
            if isinstance(opened, OpenedNative) and isinstance(endpoint.target, Tag):
                error.detail = await _with_existing_tags(endpoint.target, opened, error)
            raise
        opened.prefetch(found)
        manifest = self._documents.share(found.manifest.raw)
        note = partial(self._audited.pulled, request, principal, opened, endpoint.reference, found)
        return ManifestResponse(found.manifest.descriptor, manifest, found.status, first_headers(request.scope), note)

    async def head_manifest(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        refuse_old_clients(request)
        opened = await self._open(request, endpoint, principal)
        by_digest = isinstance(endpoint.target, Digest)
        pushed_to = await self._find_pushed_to(request, endpoint, principal, opened) if by_digest else None
        if pushed_to is not None:
            found = await pushed_to.confirm_manifest(endpoint.digest)
        else:
            found = await opened.repository.stat_manifest(endpoint.reference)
        return ManifestResponse(found.descriptor, None, found.status, first_headers(request.scope))

    async def get_blob(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        find = partial(opened.repository.blob, endpoint.digest)
        watched = self._watched(request, endpoint.digest, principal)
        return PulledBlob(find, first_headers(request.scope), watched=watched)

    async def head_blob(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        digest = endpoint.digest
        pushed_to = await self._find_pushed_to(request, endpoint, principal, opened)
        found = await (pushed_to.confirm_blob(digest) if pushed_to else opened.repository.stat_blob(digest))
        return BlobHead(digest, found.size, found.status)

    async def list_tags(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        count, last = page_size(request.query_params.get("n")), request.query_params.get("last")
        image = str(endpoint.name)
        limit: int | None = PAGE_SIZE if count is None else count
        if not isinstance(opened, OpenedNative):  # then the size of a page is the upstream's affair
            image, limit = f"{opened.group} {opened.upstream} {endpoint.name}", count
        found = await opened.repository.tags(limit, await asyncio.to_thread(self._links.read, last, image))
        page, headers = found.page, API_VERSION | cache_headers(found.status)
        if page.next is not None:
            query = {} if count is None else {"n": str(count)}
            query["last"] = await asyncio.to_thread(self._links.write, page.next, image)
            headers["Link"] = _link(request, f"{endpoint.name}/tags/list", query)
        body = await asyncio.to_thread(_tags_document, str(endpoint.name), page)
        return DocumentResponse(self._documents.share(body), "application/json", headers)

    async def list_referrers(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        wanted = _artifact_type(request.query_params.get("artifactType"))
        if isinstance(opened, OpenedNative):
            after = _place(request.query_params.get("after"))
            found = await opened.repository.referrers(endpoint.digest, wanted, after)
        else:
            found = await opened.repository.referrers(endpoint.digest, wanted)
        headers = API_VERSION | cache_headers(found.status)
        query = {}
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
            query["artifactType"] = wanted
        if found.page.next is not None:
            query["after"] = str(found.page.next)
            headers["Link"] = _link(request, f"{endpoint.name}/referrers/{endpoint.digest}", query)
        body = await asyncio.to_thread(_referrers_document, found.page, wanted)
        return DocumentResponse(self._documents.share(body), OCI_INDEX, headers)

    async def _find_pushed_to(
        self, request: Request, endpoint: Endpoint, principal: Principal, opened: Opened
    ) -> WritableRepository | None:
        """The repository that was opened, if the client may push to it, and so rely on what it is told is there."""
        if not isinstance(opened, OpenedNative):
            return None
        root = chosen_root(request.scope).root
        return opened.repository if await self._opener.may_push(endpoint.name, principal, root) else None

    def _watched(self, request: Request, digest: Digest, principal: Principal) -> WatchedPull | None:
        """The request for a blob as it is watched; None for one that continues a blob, or needs a part of it."""
        headers = first_headers(request.scope)
        if self._repeated is None or headers.get("range", _FROM_THE_START) != _FROM_THE_START:
            return None
        client = (peer_of(request.scope), describe(principal), headers.get("user-agent", ""))
        return self._repeated.watch(" ".join(client), digest)

    async def _open(self, request: Request, endpoint: Endpoint, principal: Principal) -> Opened:
        root = chosen_root(request.scope).root
        opened = await self._opener.open(endpoint.name, principal, Action.PULL, root, peer_of(request.scope))
        if opened.former is not None and root is None:
            note_warning(request.scope, opened.former.told(opened.former.present))
        kind = _KINDS[endpoint.kind]
        if isinstance(opened, OpenedNative):
            note_native_lookup(request.scope, kind, opened.project.path)
        else:
            note_lookup(request.scope, kind, opened.group, opened.upstream)
            if endpoint.kind in _PULLED and isinstance(opened, OpenedRepository):
                manifest = endpoint.reference if endpoint.kind is EndpointKind.MANIFEST else None
                location, source = opened.location, opened.plain.source
                watched = self._counted.watch(location.group.id, source, location.image, manifest)
                note_counted(request.scope, watched)
        return opened


def refuse_old_clients(request: Request) -> None:
    """Refuse a client that accepts Docker's first format alone, which no image has here. Raises ManifestUnknown."""
    accept = b",".join([value for name, value in request.scope["headers"] if name == b"accept"])
    if _SCHEMA_1 not in accept:  # the usual case
        return
    accepts_it_alone = _accepts_schema_1_alone if len(accept) <= _ACCEPT_LIMIT else _accepts_schema_1_alone.__wrapped__
    if accepts_it_alone(accept):
        raise ManifestUnknown(f"no image here has Docker schema 1, which is all that this client accepts: {OLD_CLIENT}")


@lru_cache(256)
def _accepts_schema_1_alone(accept: bytes) -> bool:
    """Whether an Accept names no format that images have here. Few differ, since clients write the same each time."""
    media_types = accept.decode("latin-1").split(",")
    return {essence(text) for text in media_types if text.strip()} <= SCHEMA_1 | {"application/json"}


async def _with_existing_tags(tag: Tag, opened: OpenedNative, error: ManifestUnknown) -> object:
    """The detail of an error for a tag that does not exist, completed by some that do: whoever pulls may list them."""
    try:
        found = await opened.repository.tags(TAGS_NAMED)
    except RegistryError:
        return error.detail
    if not found.page.tags:
        return error.detail
    more = " and more" if found.page.next is not None else ""
    return f"there is no tag {tag.text!r}; there are {', '.join(found.page.tags)}{more}"


def _link(request: Request, path: str, query: dict[str, str]) -> str:
    """The header that leads to the next page, at the address that the request came to."""
    chosen = chosen_root(request.scope)
    if chosen.link_namespace:
        query = {**query, "ns": chosen.link_namespace}
    return f'<{chosen.url}/v2/{path}?{urlencode(query)}>; rel="next"'


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _tags_document(name: str, page: TagPage) -> bytes:
    """Write the list of tags, which may be large: for a thread, and some at a time, so that the event loop gets its
    turn in between."""
    pieces = (page.tags[place : place + _NAMES_AT_ONCE] for place in range(0, len(page.tags), _NAMES_AT_ONCE))
    return _json({"name": name})[:-1] + b',"tags":[' + b",".join(_json(piece)[1:-1] for piece in pieces) + b"]}"


def _referrers_document(page: ReferrersPage, wanted: str | None) -> bytes:
    """Write the index of referrers, which may be large: for a thread, and one entry after the other, so that the event
    loop gets its turn in between."""
    manifests = page.manifests
    if wanted is not None and not page.filtered:
        manifests = [manifest for manifest in manifests if manifest.get("artifactType") == wanted]
    head = _json({"schemaVersion": 2, "mediaType": OCI_INDEX})
    return head[:-1] + b',"manifests":[' + b",".join(map(_descriptor, manifests)) + b"]}"


def _descriptor(descriptor: dict[str, Any]) -> bytes:
    return descriptor.text if isinstance(descriptor, WrittenDescriptor) else _json(descriptor)


def _artifact_type(text: str | None) -> str | None:
    """The parameter `artifactType`; None where it is absent. Raises ArtifactTypeInvalid."""
    if text is not None and not is_media_type(text):
        raise ArtifactTypeInvalid(f"artifactType must be a media type, not {text[:50]!r}")
    return text


def _place(text: str | None) -> int:
    """The parameter `after`, which links between pages of referrers have. Raises PageInvalid."""
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise PageInvalid(f"after must be a number, not {text[:50]!r}: follow the Link of each page as it is")
    return int(text)
