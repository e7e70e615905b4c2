"""Changes of whole repositories: deleting, restoring and moving them, and the list of those that can be restored."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from gateway.administration.repositories import RepositoryMoves
from gateway.api.documents import DocumentWriter
from gateway.api.errors import Conflicting, ResourceUnknown, ValuesRefused
from gateway.api.options import ApiOptions
from gateway.api.places import PROJECT, DeletedPlace, FoundRepository, Places, told
from gateway.api.responses import accepted, one, page, restorable, window_of
from gateway.api.routing import BASE, Call, Route
from gateway.api.shapes import IdListShape, NoParameters, Shape, Text, refused
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.db.repositories import DeletedRepository, StoredRepository
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.errors import MoveRefused, PathInvalid, PathReserved, RestoreRefused
from gateway.namespaces.old_path import RESERVED
from gateway.services import Services

ONE = "/projects/{id}/registry/repositories/{repository_id}"
DELETED = "/projects/{id}/registry/deleted_repositories"
ACCEPTED = 202


class DeletedListShape(IdListShape):
    """Parameters of the list of deleted repositories."""


class RepositoryMoveShape(Shape):
    """Where a repository is to be: its name in its project, or its whole path."""

    name: Annotated[
        Text | None, Field(description="The name within the project; empty for the path of the project itself.")
    ] = None
    path: Annotated[Text | None, Field(description="The whole path, which may lie in another project.")] = None

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        if (self.name is None) == (self.path is None):
            raise refused("name, path are missing, exactly one parameter must be provided")
        return self

    def path_in(self, project: str) -> str:
        """The path that is wanted. `project`: the path of the project in which the repository lies."""
        if self.path is not None:
            return self.path
        return f"{project}/{self.name}" if self.name else project


class RepositoryChanges:
    """Handlers of repositories that are changed."""

    def __init__(
        self,
        places: Places,
        services: Services,
        documents: DocumentWriter,
        audited: AuditedChanges,
        options: ApiOptions,
    ) -> None:
        self._places = places
        self._inventory = services.native.inventory
        self._administration = services.native.administration
        self._moves = RepositoryMoves(services, options.old_paths)
        self._documents = documents
        self._audited = audited
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("DELETE", ONE, self.delete, NoParameters, "repository", jobs=True, status=ACCEPTED),
            Route("PUT", ONE, self.move, RepositoryMoveShape, "repository", conflicts=True, answer="Repository"),
            Route("GET", DELETED, self.list_deleted, DeletedListShape, "repositories", answer="DeletedRepositories"),
            Route(
                *("POST", f"{ONE}/restore", self.restore, NoParameters, "repository"),
                conflicts=True,
                answer="Repository",
            ),
        ]

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a repository. It is gone at once; its content is purged later, and can be restored until then.

        Who deletes what is deleted already is told so again: a client that lost the first response may ask once more.
        """
        try:
            found = await self._find(call)
        except ResourceUnknown as unknown:
            gone = await self._find_deleted(call, unknown)
            return self._accepted(gone.deleted, self._administration.kept_until(gone.deleted.deleted_at))
        level = await self._places.level(call.principal, found.project)
        deleted = await self._administration.delete_repository(found.stored, call.principal.name, level)
        self._audited.deleted(call, ACCEPTED, deleted.path)
        return self._accepted(found.stored, deleted.kept_until)

    async def move(self, call: Call[RepositoryMoveShape]) -> Response:
        """Rename a repository, or move it to another project; its images are not copied, and its old path leads to it
        for a while."""
        found = await self._find(call)
        path = _parse_path(call.parameters.path_in(found.project.project.path))
        try:
            with told(PROJECT):
                destination = await self._moves.move(call, found.project, found.stored, path)
        except PathInvalid as error:
            raise ValuesRefused({"path": [str(error)]}) from error
        except PathReserved as error:
            raise _reserved() from error
        except MoveRefused as error:
            raise Conflicting(str(error)) from error
        return await self._present(found.stored.id, destination)

    async def list_deleted(self, call: Call[DeletedListShape]) -> Response:
        """List the deleted repositories of a project that can be restored."""
        wanted = call.parameters
        place = await self._places.project(call.path["id"], call.principal, Action.MANAGE)
        note_native_lookup(call.request.scope, "repositories", place.project.path)
        window = window_of(wanted, int(wanted.cursor) if wanted.cursor else None)
        part = await self._inventory.deleted_of(place.project.id, window, counted=wanted.pagination is None)
        kept_until = self._administration.kept_until
        documents = [
            self._documents.deleted_repository(deleted, place.project, kept_until(deleted.deleted_at))
            for deleted in part.rows
        ]
        return page(call, self._options, part, documents, {"cursor": str(part.rows[-1].id)} if part.rows else {})

    async def restore(self, call: Call[NoParameters]) -> Response:
        """Restore a deleted repository with its tags, under the path that it had."""
        gone = await self._places.deleted_repository(call.path["id"], call.path["repository_id"], call.principal)
        note_native_lookup(call.request.scope, "repository", gone.project.project.path)
        try:
            restored = await self._administration.restore_repository(gone.deleted.id, gone.deleted.project_id)
        except PathReserved as error:
            raise _reserved() from error
        except RestoreRefused as error:
            raise Conflicting(str(error)) from error
        self._audited.restored(call, restored.path)
        return one(self._documents.repository(restored, gone.project.project, manages=True))

    async def _find(self, call: Call[Any]) -> FoundRepository:
        found = await self._places.repository(
            call.path["id"], call.path["repository_id"], call.principal, Action.MANAGE
        )
        note_native_lookup(call.request.scope, "repository", found.project.project.path)
        return found

    async def _find_deleted(self, call: Call[Any], unknown: ResourceUnknown) -> DeletedPlace:
        """The deleted repository that a path names. Raises `unknown` where there is none."""
        try:
            return await self._places.deleted_repository(call.path["id"], call.path["repository_id"], call.principal)
        except ResourceUnknown:
            raise unknown from None

    async def _present(self, id: int, place: ProjectPlace) -> Response:
        stored: StoredRepository | None = await self._inventory.find(id)
        if stored is None:
            raise ResourceUnknown("Repository")
        return one(self._documents.repository(stored, place.project, manages=True))

    def _accepted(self, gone: StoredRepository | DeletedRepository, kept_until: datetime) -> Response:
        """The response to a deletion; a warning tells until when, and how, it can be taken back."""
        path = f"{ONE}/restore".format(id=gone.project_id, repository_id=gone.id)
        return accepted(restorable(f"{self._options.url}{BASE}{path}", kept_until))


def _parse_path(text: str) -> RepositoryName:
    """The path of a repository that a client wants. Raises ValuesRefused."""
    try:
        return RepositoryName.parse(text)
    except NameInvalid as error:
        raise ValuesRefused({"path": [str(error.detail)]}) from error


def _reserved() -> Conflicting:
    """The error for a path that something had that has moved, which may be hidden from the client."""
    return Conflicting(f"the path {RESERVED}")
