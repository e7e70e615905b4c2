"""Repositories of projects and groups: lists, and one of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.api.documents import DocumentWriter
from gateway.api.errors import ResourceUnknown
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import one, page, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import Flag, ListShape, SearchText, Shape, parse_id_cursor
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.db.repositories import StoredRepository
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.windows import ListWindow
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.registry.native_store import NativeStore

TAGS_SHOWN = 10_000
"""Tags that one response holds in all for `tags=true`; what a repository has beyond its share, its own list shows."""

_ORDERS = {
    "path": RepositoryOrder.PATH,
    "name": RepositoryOrder.PATH,
    "id": RepositoryOrder.ID,
    "created_at": RepositoryOrder.ID,
}


class RepositoryListShape(ListShape):
    """Parameters of a list of repositories."""

    order_by: Annotated[
        Literal["path", "name", "id", "created_at"], Field(description="What the list is sorted by.")
    ] = "path"
    cursor: Annotated[
        SearchText, Field(description="With keyset: where the page begins; taken from the link to it.")
    ] = ""


class ProjectListShape(RepositoryListShape):
    """Parameters of the list of a project's repositories."""

    tags: Annotated[Flag, Field(description="Whether each repository is shown with its tags.")] = False
    tags_count: Annotated[Flag, Field(description="Whether the tags of each repository are counted.")] = False


class RepositoryShape(Shape):
    """Parameters of one repository."""

    tags: Annotated[Flag, Field(description="Whether it is shown with its tags.")] = False
    tags_count: Annotated[Flag, Field(description="Whether its tags are counted.")] = False
    size: Annotated[Flag, Field(description="Whether its bytes are summed, each blob once.")] = False


class Repositories:
    """Handlers of repositories that are read."""

    def __init__(self, places: Places, native: NativeStore, documents: DocumentWriter, options: ApiOptions) -> None:
        self._places = places
        self._inventory = native.inventory
        self._kept_until = native.administration.kept_until
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        lists, single = "/registry/repositories", "/registry/repositories/{id}"
        return [
            Route(
                *("GET", f"/projects/{{id}}{lists}", self.of_project, ProjectListShape, "repositories"),
                anonymous=True,
                jobs=True,
                answer="Repositories",
            ),
            Route(
                *("GET", f"/groups/{{id}}{lists}", self.of_group, RepositoryListShape, "repositories"),
                anonymous=True,
                answer="Repositories",
            ),
            Route("GET", single, self.show, RepositoryShape, "repository", answer="Repository"),
        ]

    async def of_project(self, call: Call[ProjectListShape]) -> Response:
        """List the repositories of a project."""
        wanted = call.parameters
        place = await self._places.project(call.path["id"], call.principal, Action.PULL)
        note_native_lookup(call.request.scope, "repositories", place.project.path)
        order, counted = _ORDERS[wanted.order_by], wanted.pagination is None
        window = window_of(wanted, _after(wanted, order))
        part = await self._inventory.repositories_of(place.project.id, order, window, counted=counted)
        manages = await self._places.may(call.principal, Action.MANAGE, place)
        cleaned = await self._inventory.cleanups_started([row.id for row in part.rows])
        documents = [
            self._documents.repository(row, place.project, manages=manages, cleaned_at=cleaned.get(row.id))
            for row in part.rows
        ]
        if wanted.tags_count:
            await self._add_counts(documents, part.rows)
        if wanted.tags:
            await self._add_tags(documents, part.rows)
        return page(call, self._options, part, documents, _cursor(part.rows, order))

    async def of_group(self, call: Call[RepositoryListShape]) -> Response:
        """List the repositories of all projects below a group from which the reader may pull."""
        wanted = call.parameters
        place, reach = await self._places.group(call.path["id"], call.principal)
        order, counted = _ORDERS[wanted.order_by], wanted.pagination is None
        window = window_of(wanted, _after(wanted, order))
        part = await self._inventory.repositories_below(place.group.path, reach, order, window, counted=counted)
        documents = await self._shown(call.principal, part.rows)
        return page(call, self._options, part, documents, _cursor(part.rows, order))

    async def show(self, call: Call[RepositoryShape]) -> Response:
        """Show one repository, by its id alone."""
        wanted = call.parameters
        try:
            found = await self._places.repository_anywhere(call.path["id"], call.principal, Action.PULL)
        except ResourceUnknown:
            return one(await self._deleted(call))
        note_native_lookup(call.request.scope, "repository", found.project.project.path)
        manages = await self._places.may(call.principal, Action.MANAGE, found.project)
        cleaned = await self._inventory.cleanups_started([found.stored.id])
        document = self._documents.repository(
            found.stored, found.project.project, manages=manages, cleaned_at=cleaned.get(found.stored.id)
        )
        if wanted.tags_count:
            await self._add_counts([document], [found.stored])
        if wanted.tags:
            await self._add_tags([document], [found.stored])
        if wanted.size:
            document["size"] = await self._inventory.size(found.stored.id)
        return one(document)

    async def _deleted(self, call: Call[RepositoryShape]) -> dict[str, object]:
        """The document of a deleted repository, by which a client sees what became of its deletion."""
        gone = await self._places.deleted_anywhere(call.path["id"], call.principal)
        project, deleted = gone.project.project, gone.deleted
        note_native_lookup(call.request.scope, "repository", project.path)
        return self._documents.deleted_repository(deleted, project, self._kept_until(deleted.deleted_at))

    async def _shown(self, principal: Principal, rows: Sequence[StoredRepository]) -> list[dict[str, object]]:
        """The documents of those repositories from whose projects a principal may pull, which are all that the reach
        finds, unless that changes meanwhile."""
        shown: dict[int, tuple[ProjectPlace, bool]] = {}
        for id in dict.fromkeys(row.project_id for row in rows):
            place = await self._places.project_of(id)
            if place is not None and await self._places.may(principal, Action.PULL, place):
                shown[id] = place, await self._places.may(principal, Action.MANAGE, place)
        cleaned = await self._inventory.cleanups_started([row.id for row in rows])
        return [
            self._documents.repository(row, known[0].project, manages=known[1], cleaned_at=cleaned.get(row.id))
            for row in rows
            if (known := shown.get(row.project_id)) is not None
        ]

    async def _add_counts(self, documents: Sequence[dict[str, object]], rows: Sequence[StoredRepository]) -> None:
        counts = await self._inventory.tag_counts([row.id for row in rows])
        for document, row in zip(documents, rows, strict=True):
            document["tags_count"] = counts[row.id]

    async def _add_tags(self, documents: Sequence[dict[str, object]], rows: Sequence[StoredRepository]) -> None:
        """Add the first tags of each repository, of which a response holds TAGS_SHOWN in all."""
        each = ListWindow(TAGS_SHOWN // max(1, len(rows)))
        for document, row in zip(documents, rows, strict=True):
            part = await self._inventory.tags(row.id, each, counted=False)
            document["tags"] = self._documents.tags(row.path, part.rows)


def _after(wanted: RepositoryListShape, order: RepositoryOrder) -> str | int | None:
    """Where a page of a keyset begins. Raises ParametersInvalid."""
    if wanted.pagination is None or not wanted.cursor:
        return None
    if order is RepositoryOrder.PATH:
        return wanted.cursor
    return parse_id_cursor(wanted.cursor)


def _cursor(rows: Sequence[StoredRepository], order: RepositoryOrder) -> Mapping[str, str]:
    """The parameter by which the page of a keyset begins that follows some rows."""
    if not rows:
        return {}
    return {"cursor": rows[-1].path if order is RepositoryOrder.PATH else str(rows[-1].id)}
