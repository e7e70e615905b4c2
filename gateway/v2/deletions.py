"""Deleting manifests, tags and blobs (distribution-spec, "Content Management")."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.names import Tag
from gateway.audit.event import Subject
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.http.access_log import note_native_lookup
from gateway.http.errors import API_VERSION
from gateway.namespaces.expiry import format_moment
from gateway.repositories import OpenedNative
from gateway.v2.audited import ACCEPTED, Audited
from gateway.v2.endpoint import Endpoint
from gateway.v2.opener import RepositoryOpener
from gateway.v2.root_selection import chosen_root
from gateway.v2.warnings import warning_value


class Deletions:
    """Handlers of the endpoints by which content is deleted."""

    def __init__(self, opener: RepositoryOpener, audited: Audited) -> None:
        self._opener = opener
        self._audited = audited

    async def delete_manifest(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """DELETE of a digest: the manifest with every tag that points to it; of a tag: the tag alone.

        A warning tells people how they come back.
        """
        if isinstance(reference := endpoint.reference, Tag):
            return await self._delete_tag(request, endpoint, principal, reference)
        opened = await self._open(request, endpoint, principal)
        kept_until = format_moment(await opened.repository.delete_manifest(reference))
        self._audited.deleted(request, principal, opened, Subject.MANIFEST, reference)
        return _accepted(
            f"until {kept_until} at least, 'registry-gateway tag restore {opened.path}:TAG' restores it with each tag "
            "that it had"
        )

    async def delete_tag(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """DELETE of `tags/reference/TAG`, which GitLab's registry has: the tag alone."""
        return await self._delete_tag(request, endpoint, principal, endpoint.tag)

    async def delete_blob(self, request: Request, endpoint: Endpoint, principal: Principal) -> ASGIApp:
        """DELETE of a blob from this repository; others keep it."""
        opened = await self._open(request, endpoint, principal)
        await opened.repository.delete_blob(endpoint.digest)
        self._audited.deleted(request, principal, opened, Subject.BLOB, endpoint.digest)
        return _accepted("the blob is restored by pushing it again")

    async def _delete_tag(self, request: Request, endpoint: Endpoint, principal: Principal, tag: Tag) -> ASGIApp:
        """Delete a tag; a warning tells people until when it can be restored (distribution-spec, "Warnings")."""
        opened = await self._open(request, endpoint, principal)
        deleted = await opened.repository.delete_tag(tag)
        self._audited.deleted(request, principal, opened, Subject.TAG, deleted.digest, tag)
        kept_until = format_moment(deleted.kept_until)
        return _accepted(
            f"until {kept_until} at least, 'registry-gateway tag restore {endpoint.name}:{tag}' restores it"
        )

    async def _open(self, request: Request, endpoint: Endpoint, principal: Principal) -> OpenedNative:
        root = chosen_root(request.scope).root
        opened = await self._opener.open_native(endpoint.name, principal, Action.DELETE, root)
        note_native_lookup(request.scope, endpoint.kind.name.lower(), opened.project.path)
        return opened


def _accepted(told: str) -> Response:
    return Response(status_code=ACCEPTED, headers={**API_VERSION, "Warning": warning_value(told)})
