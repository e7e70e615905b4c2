"""Lists of groups and projects, and of what lies below a group."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.api.documents import DocumentWriter
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import page, window_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, Flag, ListShape, SearchText, parse_id_cursor
from gateway.auth.matrix import Action
from gateway.db.tree_lists import TreeFilter, TreeOrder
from gateway.db.windows import ListPart
from gateway.namespaces.group import Group
from gateway.namespaces.node import Visibility
from gateway.namespaces.project import Project
from gateway.namespaces.reach import Knowledge
from gateway.namespaces.role import Role
from gateway.services import Services

_ORDERS = {"id": TreeOrder.ID, "created_at": TreeOrder.ID, "name": TreeOrder.PATH, "path": TreeOrder.PATH}


class TreeListShape(ListShape):
    """Parameters of a list of groups or projects."""

    order_by: Annotated[
        Literal["path", "name", "id", "created_at"], Field(description="What the list is sorted by.")
    ] = "path"
    visibility: Annotated[
        Literal["public", "internal", "private"] | None, Field(description="Only those of this visibility."), Blank
    ] = None
    owned: Annotated[Flag, Field(description="Only those that the caller owns.")] = False
    min_access_level: Annotated[
        Role | None, Field(description="Only those in which the caller has at least this role."), Blank
    ] = None
    cursor: Annotated[
        SearchText, Field(description="With keyset: where the page begins; taken from the link to it.")
    ] = ""

    @property
    def role(self) -> Role | None:
        """The weakest role of which the caller must have one; None where none is needed."""
        if self.owned:
            return Role.OWNER
        return self.min_access_level

    def filter(self, below: str = "", *, direct: bool = False) -> TreeFilter:
        """Which rows are wanted; `below`, `direct`: as in TreeFilter."""
        return TreeFilter(below, direct, None if self.visibility is None else Visibility(self.visibility))


class GroupListShape(TreeListShape):
    """Parameters of the list of groups."""

    top_level_only: Annotated[Flag, Field(description="Only groups that lie in no other.")] = False


class KnownProjectsShape(TreeListShape):
    """Parameters of the list of projects."""

    membership: Annotated[Flag, Field(description="Only projects in which the caller has a role.")] = False

    @property
    def role(self) -> Role | None:
        wanted = super().role
        return Role.GUEST if wanted is None and self.membership else wanted


class GroupProjectsShape(TreeListShape):
    """Parameters of the list of a group's projects."""

    include_subgroups: Annotated[Flag, Field(description="Whether those of the groups below are listed, too.")] = False


class Trees:
    """Handlers of lists of the tree."""

    def __init__(self, services: Services, places: Places, documents: DocumentWriter, options: ApiOptions) -> None:
        self._tree = services.directory.tree
        self._places = places
        self._documents = documents
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", "/groups", self.groups, GroupListShape, "groups", anonymous=True, answer="Groups"),
            Route("GET", "/projects", self.projects, KnownProjectsShape, "projects", anonymous=True, answer="Projects"),
            Route(
                *("GET", "/groups/{id}/subgroups", self.subgroups, TreeListShape, "groups"),
                anonymous=True,
                answer="Groups",
            ),
            Route(
                *("GET", "/groups/{id}/descendant_groups", self.descendants, TreeListShape, "groups"),
                anonymous=True,
                answer="Groups",
            ),
            Route(
                *("GET", "/groups/{id}/projects", self.group_projects, GroupProjectsShape, "projects"),
                anonymous=True,
                answer="Projects",
            ),
        ]

    async def groups(self, call: Call[GroupListShape]) -> Response:
        """List the groups that the caller may know of."""
        return await self._groups(call, call.parameters.filter(direct=call.parameters.top_level_only))

    async def subgroups(self, call: Call[TreeListShape]) -> Response:
        """List the groups directly below a group."""
        place = await self._places.group_for(call.path["id"], call.principal, Action.KNOW)
        return await self._groups(call, call.parameters.filter(place.group.path, direct=True))

    async def descendants(self, call: Call[TreeListShape]) -> Response:
        """List the groups below a group, at whatever depth."""
        place = await self._places.group_for(call.path["id"], call.principal, Action.KNOW)
        return await self._groups(call, call.parameters.filter(place.group.path))

    async def projects(self, call: Call[KnownProjectsShape]) -> Response:
        """List the projects that the caller may know of."""
        return await self._projects(call, call.parameters.filter())

    async def group_projects(self, call: Call[GroupProjectsShape]) -> Response:
        """List the projects of a group."""
        place = await self._places.group_for(call.path["id"], call.principal, Action.KNOW)
        which = call.parameters.filter(place.group.path, direct=not call.parameters.include_subgroups)
        return await self._projects(call, which)

    async def _groups(self, call: "Call[Any]", which: TreeFilter) -> Response:
        known, order, counted = await self._known(call), _order_of(call), call.parameters.pagination is None
        window = window_of(call.parameters, _after(call, order))
        part = await self._tree.list_groups(known, which, order, window, counted=counted)
        parents = await self._places.namespaces_of([group.path for group in part.rows])
        documents = [self._documents.group(group, parents.get(group.path)) for group in part.rows]
        return page(call, self._options, part, documents, _next(part, order))

    async def _projects(self, call: "Call[Any]", which: TreeFilter) -> Response:
        known, order, counted = await self._known(call), _order_of(call), call.parameters.pagination is None
        window = window_of(call.parameters, _after(call, order))
        part = await self._tree.list_projects(known, which, order, window, counted=counted)
        above = await self._places.namespaces_of([project.path for project in part.rows])
        documents = [
            self._documents.project(project, above[project.path], manages=False)
            for project in part.rows
            if project.path in above
        ]
        return page(call, self._options, part, documents, _next(part, order))

    async def _known(self, call: "Call[Any]") -> Knowledge:
        return await self._places.knowledge(call.principal, call.parameters.role)


def _order_of(call: "Call[Any]") -> TreeOrder:
    return _ORDERS[call.parameters.order_by]


def _after(call: "Call[Any]", order: TreeOrder) -> str | int | None:
    """The row after which a page of a keyset begins. Raises ParametersInvalid."""
    wanted: TreeListShape = call.parameters
    if wanted.pagination is None or not wanted.cursor:
        return None
    return wanted.cursor if order is TreeOrder.PATH else parse_id_cursor(wanted.cursor)


def _next(part: "ListPart[Group] | ListPart[Project]", order: TreeOrder) -> dict[str, str]:
    """The parameters by which the next page of a keyset begins."""
    rows: Sequence[Group | Project] = part.rows
    if not rows:
        return {}
    return {"cursor": rows[-1].path if order is TreeOrder.PATH else str(rows[-1].id)}
