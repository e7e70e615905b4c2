"""Pushing manifests (distribution-spec, "Pushing Manifests")."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.digest import Digest
from cache.oci.document import OFF_LOOP_BYTES, parse_document
from cache.oci.errors import DigestInvalid, ManifestInvalid, TagInvalid
from cache.oci.manifest import Manifest
from cache.oci.media_types import SCHEMA_1, essence
from cache.oci.names import Tag
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.http.access_log import note_native_lookup
from gateway.http.bodies import refuse_encoded
from gateway.http.errors import API_VERSION
from gateway.v2.audited import Audited
from gateway.v2.endpoint import Endpoint
from gateway.v2.opener import RepositoryOpener
from gateway.v2.pushed_documents import PushedDocuments
from gateway.v2.responses import CONTENT_DIGEST
from gateway.v2.root_selection import chosen_root

TAGS_AT_ONCE = 100
"""Tags that one push of a manifest may set."""

OLD_CLIENT = "use Docker 17.12 or later, or another current client"
"""What helps a client that knows Docker schema 1 alone."""


class ManifestPushes:
    """Handler by which manifests are pushed."""

    def __init__(self, opener: RepositoryOpener, audited: Audited) -> None:
        self._opener = opener
        self._audited = audited
        self._documents = PushedDocuments()

    async def put(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """PUT: store a manifest byte for byte, and point tags to it."""
        root = chosen_root(request.scope).root
        opened = await self._opener.open_native(endpoint.name, principal, Action.PUSH, root)
        note_native_lookup(request.scope, "manifest", opened.project.path)
        refuse_encoded(request)
        tags, stated = _tags(request, endpoint), _stated_digest(request, endpoint)
        content_type = request.headers.get("content-type", "")
        async with self._documents.received(request, principal) as raw:
            if len(raw) < OFF_LOOP_BYTES:
                manifest = parse_pushed(content_type, raw, stated)
            else:
                manifest = await asyncio.to_thread(parse_pushed, content_type, raw, stated)
            guard = await self._opener.decide_again(endpoint.name, principal, Action.PUSH, root)
            former = await opened.repository.put_manifest(manifest, tuple(tags), guard)
        self._audited.pushed(request, principal, opened, manifest.descriptor.digest, {t: former.get(t) for t in tags})
        return _created(endpoint, manifest, _parameters(request))


def parse_pushed(content_type: str, raw: bytes, stated: Digest | None) -> Manifest:
    """Parse a pushed document, whose digest must be the stated one. Raises ManifestInvalid, DigestInvalid."""
    media_type = essence(content_type) if content_type else _own_media_type(raw)
    if media_type in SCHEMA_1:
        raise ManifestInvalid(f"Docker schema 1 is not stored: {OLD_CLIENT}")
    manifest = Manifest.parse(media_type, raw, stated.algorithm if stated else "sha256")
    if stated is not None and manifest.descriptor.digest != stated:
        raise DigestInvalid(f"the manifest has the digest {manifest.descriptor.digest}, not {stated}")
    return manifest


def _own_media_type(raw: bytes) -> str:
    """The media type that a document states for itself, where the request states none. Raises ManifestInvalid."""
    try:
        document = parse_document(raw)
    except ValueError as error:
        raise ManifestInvalid(str(error)) from error
    media_type = document.get("mediaType") if isinstance(document, dict) else None
    if not isinstance(media_type, str):
        raise ManifestInvalid("neither the request nor the document states the media type: send it as Content-Type")
    return media_type


def _parameters(request: Request) -> Sequence[str]:
    return request.query_params.getlist("tag")


def _tags(request: Request, endpoint: Endpoint) -> list[Tag]:
    """The tags that a push sets: that of its path, and those of its parameters. Raises TagInvalid."""
    texts = _parameters(request)
    if len(texts) > TAGS_AT_ONCE:
        raise TagInvalid(f"one push sets at most {TAGS_AT_ONCE} tags, not {len(texts)}")
    first = [endpoint.target] if isinstance(endpoint.target, Tag) else []
    return list(dict.fromkeys([*first, *map(Tag.parse, texts)]))


def _stated_digest(request: Request, endpoint: Endpoint) -> Digest | None:
    """The digest that the client states, in the path or as a parameter beside a tag. Raises DigestInvalid."""
    text = request.query_params.get("digest")
    stated = None if text is None else Digest.parse(text)
    if not isinstance(endpoint.target, Digest):
        return stated
    if stated not in (None, endpoint.target):
        raise DigestInvalid(f"the path states {endpoint.target}, and the parameter {stated}")
    return endpoint.target


def _created(endpoint: Endpoint, manifest: Manifest, set_tags: Sequence[str]) -> Response:
    digest = str(manifest.descriptor.digest)
    headers = {"Location": f"/v2/{endpoint.name}/manifests/{digest}", CONTENT_DIGEST: digest}
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject.digest)
    if set_tags:
        headers["OCI-Tag"] = ", ".join(dict.fromkeys(set_tags))
    return Response(status_code=201, headers=API_VERSION | headers)
