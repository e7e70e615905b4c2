"""Pulling: manifests, blobs, tags and referrers (distribution-spec, "Pull" and "Content Discovery")."""

import asyncio
import json
from functools import partial
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.types import ASGIApp

from cache.oci.digest import Digest
from cache.oci.errors import ArtifactTypeInvalid, PageInvalid
from cache.oci.media_types import OCI_INDEX, is_media_type
from cache.oci.names import Tag
from cache.upstream.lists import PAGE_SIZE
from cache.values import ReferrersPage, TagPage
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.http.access_log import note_lookup
from gateway.http.documents import DocumentResponse, Documents
from gateway.http.errors import API_VERSION
from gateway.repositories import OpenedRepository
from gateway.v2.endpoint import Endpoint, EndpointKind
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import PageLinks
from gateway.v2.responses import BlobHead, ManifestResponse, PulledBlob, cache_headers
from gateway.v2.root_selection import chosen_root

_NAMES_AT_ONCE = 10_000
_KINDS = {kind: kind.name.lower() for kind in EndpointKind}


class Pull:
    """Handlers of the pull endpoints; each reads as the sentence in the specification."""

    def __init__(self, opener: RepositoryOpener, links: PageLinks) -> None:
        self._opener = opener
        self._links = links
        self._documents = Documents()

    async def get_manifest(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        found = await opened.repository.manifest(_reference(endpoint))
        opened.prefetch(found)
        manifest = self._documents.share(found.manifest.raw)
        return ManifestResponse(found.manifest.descriptor, manifest, found.status, request.headers)

    async def head_manifest(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        found = await opened.repository.stat_manifest(_reference(endpoint))
        return ManifestResponse(found.descriptor, None, found.status, request.headers)

    async def get_blob(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        return PulledBlob(partial(opened.repository.blob, _digest(endpoint)), request.headers)

    async def head_blob(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        digest = _digest(endpoint)
        found = await opened.repository.stat_blob(digest)
        return BlobHead(digest, found.size, found.status)

    async def list_tags(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        count, image = _page_size(request.query_params.get("n")), f"{opened.group} {opened.upstream} {endpoint.name}"
        start = await asyncio.to_thread(self._links.read, request.query_params.get("last"), image)
        found = await opened.repository.tags(count, start)
        page, headers = found.page, API_VERSION | cache_headers(found.status)
        if page.next is not None:
            root = chosen_root(request.scope)
            query = {} if count is None else {"n": str(count)}
            query["last"] = await asyncio.to_thread(self._links.write, page.next, image)
            if root.link_namespace:
                query["ns"] = root.link_namespace
            url = f"{root.url}/v2/{endpoint.name}/tags/list?{urlencode(query)}"
            headers["Link"] = f'<{url}>; rel="next"'
        body = await asyncio.to_thread(_tags_document, str(endpoint.name), page)
        return DocumentResponse(self._documents.share(body), "application/json", headers)

    async def list_referrers(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        opened = await self._open(request, endpoint, principal)
        wanted = _artifact_type(request.query_params.get("artifactType"))
        found = await opened.repository.referrers(_digest(endpoint), wanted)
        headers = API_VERSION | cache_headers(found.status)
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        body = await asyncio.to_thread(_referrers_document, found.page, wanted)
        return DocumentResponse(self._documents.share(body), OCI_INDEX, headers)

    async def _open(self, request: Request, endpoint: Endpoint, principal: Principal) -> OpenedRepository:
        root = chosen_root(request.scope).root
        address = request.client.host if request.client else ""
        opened = await self._opener.open(endpoint.name, principal, Action.PULL, root, address)
        note_lookup(request.scope, _KINDS[endpoint.kind], opened.group, opened.upstream)
        return opened


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


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
    return head[:-1] + b',"manifests":[' + b",".join(map(_json, manifests)) + b"]}"


def _reference(endpoint: Endpoint) -> Tag | Digest:
    if endpoint.target is None:
        raise TypeError(f"{endpoint.kind} has no reference")
    return endpoint.target


def _digest(endpoint: Endpoint) -> Digest:
    if not isinstance(endpoint.target, Digest):
        raise TypeError(f"{endpoint.kind} has no digest")
    return endpoint.target


def _page_size(text: str | None) -> int | None:
    """The parameter `n`, at most PAGE_SIZE; None where it is absent. Raises PageInvalid."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise PageInvalid(f"n must be a number, not {text[:50]!r}")
    return min(int(text), PAGE_SIZE)


def _artifact_type(text: str | None) -> str | None:
    """The parameter `artifactType`; None where it is absent. Raises ArtifactTypeInvalid."""
    if text is not None and not is_media_type(text):
        raise ArtifactTypeInvalid(f"artifactType must be a media type, not {text[:50]!r}")
    return text
