"""Changes of groups: create, rename, move, delete."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.administration.tree import TreeChanges
from gateway.api.documents import DocumentWriter
from gateway.api.errors import ParametersInvalid
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import accepted, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, Shape, Text
from gateway.api.tree_refusals import tree_refusals
from gateway.auth.matrix import Action
from gateway.directory.places import GroupPlace
from gateway.namespaces.group import Group, with_visibility
from gateway.namespaces.node import Visibility
from gateway.services import Services

VISIBILITIES = Literal["public", "internal", "private"]
ONE = "/groups/{id}"


class GroupShape(Shape):
    """Properties of a group that may be changed; those that are not given stay."""

    name: Annotated[Text | None, Field(max_length=255, description="The last part of its path."), Blank] = None
    path: Annotated[Text | None, Field(max_length=255, description="The same; it goes before the name."), Blank] = None
    visibility: Annotated[VISIBILITIES | None, Field(description="Who may know of the group."), Blank] = None

    @property
    def last_part(self) -> str | None:
        """The last part of the path that is wanted."""
        return self.path or (None if self.name is None else slug(self.name))

    def applied_to(self, group: Group) -> Group:
        """The group with the visibility that is wanted; where that is narrower, strangers do not pull through it."""
        if self.visibility is None:
            return group
        return with_visibility(group, Visibility(self.visibility))


class NewGroupShape(GroupShape):
    """Properties of a new group."""

    parent_id: Annotated[int | None, Field(ge=1, description="The id of the group that holds it."), Blank] = None


class TransferShape(Shape):
    """Where a group goes."""

    group_id: Annotated[
        int | None, Field(ge=1, description="The id of the group that is to hold it; none: the top."), Blank
    ] = None


class GroupChanges:
    """Handlers of changes of groups."""

    def __init__(self, services: Services, places: Places, documents: DocumentWriter, options: ApiOptions) -> None:
        self._tree = TreeChanges(services, options.old_paths)
        self._places = places
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("POST", "/groups", self.create, NewGroupShape, "group", status=201, refers=True, answer="Group"),
            Route("PUT", ONE, self.update, GroupShape, "group", answer="Group"),
            Route("DELETE", ONE, self.delete, NoParameters, "group", status=202, conflicts=True),
            Route("POST", f"{ONE}/transfer", self.transfer, TransferShape, "group", status=201, answer="Group"),
        ]

    async def create(self, call: Call[NewGroupShape]) -> Response:
        """Create a group: at the top as an administrator, below a group as an owner of that."""
        wanted = call.parameters
        if wanted.last_part is None:
            raise ParametersInvalid(["name is missing", "path is missing"])
        above = await self._above(call, wanted.parent_id)
        with tree_refusals():
            made = await self._tree.create_group(call, above, wanted.last_part, wanted.applied_to)
        return await self._document(made, 201)

    async def update(self, call: Call[GroupShape]) -> Response:
        """Change the visibility of a group, or rename it; its old path leads to it for a while."""
        place, wanted = await self._find(call, Action.ADMIN), call.parameters
        if wanted == GroupShape():
            raise ParametersInvalid(["name, path, visibility are missing, at least one parameter must be provided"])
        with tree_refusals():
            group = await self._tree.change_group(call, place, wanted.applied_to)
            part = wanted.last_part
            if part is not None and part != group.path.rpartition("/")[2]:
                group = replace(group, path=(await self._tree.rename(call, place, part)).new)
        return await self._document(group, 200)

    async def transfer(self, call: Call[TransferShape]) -> Response:
        """Move a group with all that it holds into another one, or to the top; no content is copied."""
        place = await self._find(call, Action.OWN)
        above = await self._above(call, call.parameters.group_id)
        with tree_refusals():
            moved = await self._tree.transfer_group(call, place, above)
        return await self._document(replace(place.group, path=moved.new), 201)

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a group that holds no other group and no project."""
        place = await self._find(call, Action.OWN)
        with tree_refusals():
            await self._tree.delete_group(call, place)
        return accepted()

    async def _above(self, call: "Call[Any]", id: int | None) -> GroupPlace | None:
        """The group of an id, which is to hold another one; None for the top."""
        return None if id is None else await self._places.group_for(str(id), call.principal, Action.ADMIN)

    async def _find(self, call: "Call[Any]", action: Action) -> GroupPlace:
        return await self._places.group_for(call.path["id"], call.principal, action)

    async def _document(self, group: Group, status: int) -> Response:
        parents = await self._places.namespaces_of([group.path])
        return one(self._documents.group(group, parents.get(group.path)), status)


def slug(name: str) -> str:
    """The part of a path that GitLab makes of a name."""
    return "-".join(name.lower().split())
