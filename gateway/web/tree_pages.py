"""Pages of groups and projects, and of the repositories that lie in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from gateway.auth.matrix import Action
from gateway.db.repositories import StoredRepository
from gateway.db.repository_lists import RepositoryOrder
from gateway.db.tree_lists import TreeFilter, TreeOrder
from gateway.db.windows import ListWindow
from gateway.inspection.place_finder import PlaceUnknown
from gateway.registry.inventory import ListedFigures
from gateway.services import Services
from gateway.web.page_places import PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

PAGE = 20
"""Repositories on a page."""

NODES = 50
"""Groups and projects on a page."""

_SORTS = {"name": (RepositoryOrder.PATH, False), "created": (RepositoryOrder.ID, True)}
"""What a list may be sorted by, and whether it begins at the end."""


@dataclass(frozen=True, slots=True)
class ListedRepository:
    """A repository in a list. `project`: the path of its project; `manages`: whether the visitor may delete it."""

    stored: StoredRepository
    figures: ListedFigures
    project: str
    manages: bool

    @property
    def address(self) -> str:
        """The address of the page with its tags."""
        return f"/{self.project}/container_registry/{self.stored.id}"


class TreePages:
    """Handlers of groups and projects."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", "/groups/{group:path}/-/container_registries", self.group_registry),
            PageRoute("GET", "/groups/{group:path}", self.group),
            PageRoute("GET", "/{project:path}/container_registry", self.project_registry),
        ]

    @property
    def last_routes(self) -> Sequence[PageRoute]:
        """Routes that fit every path of a group or project, and so come after all others."""
        return [PageRoute("GET", "/{project:path}", self.node)]

    async def node(self, visit: Visit) -> Response:
        """Show the project of a path, or the group."""
        try:
            page = await self._places.project(visit)
        except PlaceUnknown:
            return await self.group(visit)
        if page.path != visit.place["project"].lower():
            return self._pages.lead(visit, f"/{page.path}")  # an old path
        return self._pages.show(visit, "project.html", page.path, page=page, project=page)

    async def group(self, visit: Visit) -> Response:
        """Show what lies below a group."""
        path = visit.place.get("group") or visit.place["project"]
        place, _ = await self._places.group(_at_group(visit, path))
        known = await self._places.finder.access.knowledge(visit.principal, self._services.clock())
        tree, below = self._services.directory.tree, place.group.path
        groups = await tree.list_groups(
            *(known, TreeFilter(below, direct=True), TreeOrder.PATH),
            ListWindow(NODES, after=visit.query.one("groups_after") or None),
            counted=False,
        )
        projects = await tree.list_projects(
            *(known, TreeFilter(below, direct=True), TreeOrder.PATH),
            ListWindow(NODES, after=visit.query.one("after") or None),
            counted=False,
        )
        page = await self._places.page_of(visit, place)
        return self._pages.show(visit, "group.html", below, **page.shown, groups=groups, projects=projects)

    async def project_registry(self, visit: Visit) -> Response:
        """List the repositories of a project."""
        page = await self._places.registry(visit)
        order, window = _window(visit)
        inventory = self._services.native.inventory
        part = await inventory.repositories_of(page.place.project.id, order, window, counted=not window.search)
        figures = await inventory.figures([row.id for row in part.rows])
        return self._pages.show(
            visit,
            "registry.html",
            f"Container Registry · {page.path}",
            page=page,
            project=page,
            part=part,
            listed=[ListedRepository(row, figures[row.id], page.path, page.manages) for row in part.rows],
            policy=await self._services.native.policies.find(page.place.project.id),
            **_listing(visit, order, part.rows),
        )

    async def group_registry(self, visit: Visit) -> Response:
        """List the repositories of all projects below a group from which the visitor may pull."""
        place, reach = await self._places.group(visit)
        order, window = _window(visit)
        inventory, path = self._services.native.inventory, place.group.path
        part = await inventory.repositories_below(path, reach, order, window, counted=False)
        figures = await inventory.figures([row.id for row in part.rows])
        return self._pages.show(
            visit,
            "group_registry.html",
            f"Container Registry · {path}",
            **(await self._places.page_of(visit, place)).shown,
            part=part,
            listed=await self._shown(visit, part.rows, figures),
            **_listing(visit, order, part.rows),
        )

    async def _shown(
        self, visit: Visit, rows: Sequence[StoredRepository], figures: dict[int, ListedFigures]
    ) -> list[ListedRepository]:
        """The rows from whose projects the visitor may pull, which are all that the reach finds, unless that changes
        meanwhile."""
        found, finder, now = dict[int, tuple[str, bool]](), self._places.finder, self._services.clock()
        for id in dict.fromkeys(row.project_id for row in rows):
            place = await finder.project_of(id)
            if place is not None and (await finder.decide(visit.principal, Action.PULL, place, now)).allowed:
                manages = (await finder.decide(visit.principal, Action.MANAGE, place, now)).allowed
                found[id] = place.project.path, manages
        return [
            ListedRepository(row, figures[row.id], *known)
            for row in rows
            if (known := found.get(row.project_id)) is not None
        ]


def _at_group(visit: Visit, path: str) -> Visit:
    """The visit of a path as that of a group."""
    return Visit(visit.request, visit.principal, visit.session, {"group": path}, visit.form)


def _window(visit: Visit) -> tuple[RepositoryOrder, ListWindow]:
    """The order of a list, and the part of it, as the query names them; what it names wrongly means nothing."""
    query = visit.query
    order, descending = _SORTS.get(query.one("sort"), _SORTS["name"])
    after: str | int | None = query.one("after") or None
    if order is RepositoryOrder.ID and after is not None:
        after = int(after) if str(after).isascii() and str(after).isdigit() and len(str(after)) <= _ID_DIGITS else None
    return order, ListWindow(PAGE, after=after, descending=descending, search=query.one("search").strip())


_ID_DIGITS = 18


def _listing(visit: Visit, order: RepositoryOrder, rows: Sequence[StoredRepository]) -> dict[str, Any]:
    """What every list of repositories shows of itself."""
    last = "" if not rows else rows[-1].path if order is RepositoryOrder.PATH else str(rows[-1].id)
    sort = next(name for name, (column, _) in _SORTS.items() if column is order)
    return {"sort": sort, "search": visit.query.one("search").strip(), "last": last}
