"""Changes of tags: deleting one, what became of it, and pointing it again to what it pointed to."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from cache.oci.digest import Digest
from cache.oci.errors import ManifestUnknown
from gateway.api.documents import DocumentWriter
from gateway.api.errors import Conflicting, ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.places import TAG, Places
from gateway.api.responses import one, page, restorable, window_of
from gateway.api.routing import BASE, Call, Route
from gateway.api.shapes import Blank, IdListShape, NoParameters, Shape, Text, refused
from gateway.api.tags import ONE, find_repository, tag_of
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.namespaces.errors import RestoreRefused
from gateway.namespaces.expiry import parse_as_of
from gateway.registry.native_store import NativeStore
from gateway.services import Services

DELETED = 200
"""Status of the response to the deletion of a tag, which GitLab's clients expect."""


class HistoryShape(IdListShape):
    """Parameters of the history of a tag, the latest event first."""

    sort: Annotated[Literal["asc", "desc"], Field(description="The direction of the order.")] = "desc"


class RestoreShape(Shape):
    """What a tag is to point to again; without parameters, what it pointed to before its last change."""

    digest: Annotated[Text | None, Field(description="The manifest that it is to point to."), Blank] = None
    at: Annotated[
        Text | None, Field(description="What it pointed to at a date or a time, or so long ago, as in `12h`."), Blank
    ] = None

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self.digest is not None and self.at is not None:
            raise refused("digest, at are mutually exclusive")
        return self


class TagChanges:
    """Handlers of tags that are changed, and of their histories."""

    def __init__(
        self,
        places: Places,
        services: Services,
        documents: DocumentWriter,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._places = places
        self._native: NativeStore = services.native
        self._clock = services.clock
        self._documents = documents
        self._audited = audited
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("DELETE", ONE, self.delete, NoParameters, "tag", jobs=True, status=DELETED),
            Route(
                *("GET", f"{ONE}/history", self.history, HistoryShape, "tag"),
                anonymous=True,
                jobs=True,
                answer="TagEvents",
            ),
            Route(*("POST", f"{ONE}/restore", self.restore, RestoreShape, "tag"), conflicts=True, answer="TagDetails"),
        ]

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a tag; its image stays as long as something else needs it, and for a while at least."""
        found, tag = await find_repository(self._places, call, Action.DELETE_TAG, "tag"), tag_of(call)
        guard = await self._places.guard(call.principal, found.project)
        opened = self._native.repository(
            found.project.project, found.name, actor=call.principal.name, found=found.stored, guard=guard
        )
        try:
            deleted = await opened.delete_tag(tag)
        except ManifestUnknown as error:
            raise ResourceUnknown(TAG) from error
        self._audited.deleted(call, DELETED, found.stored.path, tag, deleted.digest)
        place = {"id": found.stored.project_id, "repository_id": found.stored.id, "tag_name": tag.text}
        url = self._options.url + BASE + f"{ONE}/restore".format(**place)
        return one(DELETED, headers=restorable(url, deleted.kept_until))

    async def history(self, call: Call[HistoryShape]) -> Response:
        """List what became of a tag: each creation, move and deletion, with who did it."""
        wanted = call.parameters
        found, tag = await find_repository(self._places, call, Action.PULL, "tag"), tag_of(call)
        window = window_of(wanted, int(wanted.cursor) if wanted.cursor else None)
        counted = wanted.pagination is None
        part = await self._native.inventory.tag_events(found.stored.id, tag, window, counted=counted)
        if not part.rows and part.total == 0:
            raise ResourceUnknown(TAG)
        documents = [self._documents.tag_event(event) for event in part.rows]
        return page(call, self._options, part, documents, {"cursor": str(part.rows[-1].id)} if part.rows else {})

    async def restore(self, call: Call[RestoreShape]) -> Response:
        """Point a deleted or moved tag to what it pointed to."""
        wanted = call.parameters
        found, tag = await find_repository(self._places, call, Action.PUSH, "tag"), tag_of(call)
        digest = None if wanted.digest is None else Digest.parse(wanted.digest)
        moment = None if wanted.at is None else parse_as_of(wanted.at, self._clock())
        guard = await self._places.guard(call.principal, found.project)
        try:
            restored = await self._native.administration.restore_tag(
                found.stored, tag, call.principal.name, digest=digest, moment=moment, guard=guard
            )
        except RestoreRefused as error:
            raise Conflicting(str(error)) from error
        self._audited.restored(call, found.stored.path, tag, restored)
        details = await self._native.inventory.tag(found.stored.id, tag)
        if details is None:
            raise ResourceUnknown(TAG)
        return one(self._documents.tag_details(found.stored.path, details))
