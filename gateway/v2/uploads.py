"""Pushing blobs: sessions of uploads, and mounts (distribution-spec, "Pushing blobs")."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.digest import Digest
from cache.oci.errors import DigestInvalid, RangeInvalid, RegistryError, SizeInvalid, UploadInvalid, UploadUnknown
from cache.sqlite import DatabaseUnusable
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, PrincipalKind
from gateway.http.access_log import note_native_lookup
from gateway.http.bodies import content_length, has_body, pieces, refuse_encoded
from gateway.http.errors import API_VERSION
from gateway.registry.base import ClientLeft, UploadSession
from gateway.registry.uploads import received_range
from gateway.repositories import OpenedNative
from gateway.v2.endpoint import Endpoint
from gateway.v2.long_pushes import while_allowed
from gateway.v2.mounts import Mounts
from gateway.v2.opener import RepositoryOpener
from gateway.v2.responses import CONTENT_DIGEST
from gateway.v2.root_selection import chosen_root

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?", re.ASCII)
_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Place of a body within a blob: the offset of its first byte, and its length in bytes; None where not stated."""

    start: int | None
    length: int | None


class BlobPushes:
    """Handlers of the endpoints by which blobs are pushed; each reads as the sentence in the specification."""

    def __init__(self, opener: RepositoryOpener, mounts: Mounts) -> None:
        self._opener = opener
        self._mounts = mounts

    async def begin(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """POST: mount a blob, push one with this request alone, or begin a session."""
        opened = await self._open(request, endpoint, principal)
        query = request.query_params
        if (mounted := query.get("mount")) is not None:
            digest = Digest.parse(mounted)
            if await self._mounts.mount(digest, query.get("from"), opened, endpoint.name, principal):
                return _created(endpoint, digest)
        whole = None if mounted is not None or query.get("digest") is None else Digest.parse(query["digest"])
        if whole is not None:
            refuse_encoded(request)  # before a session begins that nothing would end
        session = await opened.repository.begin_upload(owner_of(principal))
        if whole is None:
            return _accepted(endpoint, session)
        try:
            await self._append(request, endpoint, session, Chunk(None, content_length(request)), principal)
            await self._decide_again(request, endpoint, principal)
            await session.commit(whole)
        except BaseException:
            with suppress(RegistryError, DatabaseUnusable, OSError):  # the sweep ends what cannot be ended now
                await asyncio.shield(session.cancel())
            raise
        return _created(endpoint, whole)

    async def show(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """GET: how far an upload has come."""
        session = await self._find(request, endpoint, principal)
        await session.require_unfinished()
        return Response(status_code=204, headers=API_VERSION | _progress(endpoint, session))

    async def append(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """PATCH: append a chunk, or a stream without a stated length."""
        session = await self._find(request, endpoint, principal)
        await self._append(request, endpoint, session, parse_chunk(request), principal)
        return _accepted(endpoint, session)

    async def finish(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """PUT: append what comes with the request, if anything does, and make a blob of it all."""
        session = await self._find(request, endpoint, principal)
        digest = _stated_digest(request)
        if has_body(request):
            await self._append(request, endpoint, session, parse_chunk(request), principal)
            await self._decide_again(request, endpoint, principal)
        await session.commit(digest)
        return _created(endpoint, digest)

    async def cancel(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """DELETE: end an upload and forget what has arrived."""
        session = await self._find(request, endpoint, principal)
        await session.cancel()
        return Response(status_code=204, headers=API_VERSION)

    async def _open(self, request: Request, endpoint: Endpoint, principal: Principal) -> OpenedNative:
        root = chosen_root(request.scope).root
        opened = await self._opener.open_native(endpoint.name, principal, Action.PUSH, root)
        note_native_lookup(request.scope, "upload", opened.project.path)
        return opened

    async def _find(self, request: Request, endpoint: Endpoint, principal: Principal) -> UploadSession:
        """The session of an upload, which goes on where it began, also where the repository has moved meanwhile."""
        opened = await self._opener.open_begun(endpoint.name, principal, Action.PUSH, chosen_root(request.scope).root)
        note_native_lookup(request.scope, "upload", opened.project.path)
        if not _UPLOAD_ID.fullmatch(endpoint.upload):
            raise UploadUnknown("there is no upload of this id: begin another one")
        return await opened.repository.find_upload(endpoint.upload, owner_of(principal))

    async def _decide_again(self, request: Request, endpoint: Endpoint, principal: Principal) -> None:
        await self._opener.decide_again(endpoint.name, principal, Action.PUSH, chosen_root(request.scope).root)

    async def _append(
        self, request: Request, endpoint: Endpoint, session: UploadSession, chunk: Chunk, principal: Principal
    ) -> None:
        """Append the body of a request, as long as its principal may push.

        A refused range is told where the upload goes on (distribution-spec, "Pushing a blob in chunks").
        """
        refuse_encoded(request)
        try:
            body = while_allowed(pieces(request), partial(self._decide_again, request, endpoint, principal))
            await session.append(body, chunk.start, chunk.length)
        except RangeInvalid as error:
            error.headers = _progress(endpoint, session) | error.headers
            raise
        except ClientLeft as error:
            raise UploadInvalid("the client left before its body was complete") from error


def owner_of(principal: Principal) -> str:
    """The text by which an upload knows who began it: a person, by whichever credential, or a job or deploy token."""
    if principal.user is not None and principal.kind in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN):
        return f"user:{principal.user.id}"
    return str(principal.ref)


def parse_chunk(request: Request) -> Chunk:
    """Read where a body belongs, from Content-Range and Content-Length. Raises UploadInvalid, SizeInvalid."""
    length, text = content_length(request), request.headers.get("content-range")
    if text is None:
        return Chunk(None, length)
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        raise UploadInvalid(f"Content-Range must be the first and the last offset, as in 0-1023, not {text[:50]!r}")
    first, last = int(match[1]), int(match[2])
    if last < first:
        raise UploadInvalid(f"Content-Range ends before it begins: {text[:50]!r}")
    stated = last - first + 1
    if length not in (None, stated):
        raise SizeInvalid(f"Content-Range states {stated} bytes and Content-Length {length}")
    return Chunk(first, stated)


def _stated_digest(request: Request) -> Digest:
    text = request.query_params.get("digest")
    if text is None:
        raise DigestInvalid("the request that ends an upload needs the digest of the blob: ?digest=sha256:…")
    return Digest.parse(text)


def _progress(endpoint: Endpoint, session: UploadSession) -> dict[str, str]:
    """Headers that state how far an upload has come; an empty one shows as its first byte, as registries do."""
    return {
        "Location": f"/v2/{endpoint.name}/blobs/uploads/{session.id}",
        "Range": received_range(session.received),
        "Docker-Upload-UUID": session.id,
    }


def _accepted(endpoint: Endpoint, session: UploadSession) -> Response:
    return Response(status_code=202, headers=API_VERSION | _progress(endpoint, session))


def _created(endpoint: Endpoint, digest: Digest) -> Response:
    location = {"Location": f"/v2/{endpoint.name}/blobs/{digest}", CONTENT_DIGEST: str(digest)}
    return Response(status_code=201, headers=API_VERSION | location)
