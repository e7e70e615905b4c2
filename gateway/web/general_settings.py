"""Settings > General of projects and groups: who may see and use them, their path and place, and their deletion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response

from gateway.administration.tree import TreeChanges
from gateway.auth.matrix import Action
from gateway.db.moves import Moved
from gateway.inspection.place_finder import PlaceUnknown, sought_path
from gateway.namespaces.errors import TreeError
from gateway.namespaces.group import with_visibility
from gateway.namespaces.node import NodeKind, Visibility
from gateway.namespaces.paths import parent_path
from gateway.namespaces.project import RegistryAccess
from gateway.services import Services
from gateway.web.errors import PageError, refusal
from gateway.web.forms import Form
from gateway.web.page_places import NO_PLACE, GroupPage, NodePage, PagePlaces, ProjectPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

VISIBILITIES: Mapping[str, Mapping[Visibility, tuple[str, str]]] = {
    noun: {
        Visibility.PRIVATE: ("Private", f"Members alone see the {noun}."),
        Visibility.INTERNAL: ("Internal", "Everybody who is signed in sees it, but external users."),
        Visibility.PUBLIC: ("Public", "Everybody sees it, without signing in."),
    }
    for noun in ("project", "group")
}
ACCESSES = {
    RegistryAccess.ENABLED: ("Everyone With Access", "Whoever sees the project may pull its images."),
    RegistryAccess.PRIVATE: ("Only Project Members", "Reporters and above may pull, whoever sees the project."),
    RegistryAccess.DISABLED: ("Off", "Nobody pulls or pushes. The images are kept."),
}
"""The choices, and what each means."""

_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the forms of the page hold. `problem`: why something was not done; empty where nobody has tried."""

    visibility: Visibility
    registry: RegistryAccess | None
    part: str
    above: str
    problem: str = ""

    @classmethod
    def of(cls, page: NodePage) -> "_Chosen":
        """What is stored."""
        node = page.place.project if isinstance(page, ProjectPage) else page.place.group
        registry = page.place.project.registry if isinstance(page, ProjectPage) else None
        return cls(node.visibility, registry, page.path.rpartition("/")[2], parent_path(page.path))


class GeneralSettings:
    """Handlers of the settings of projects and groups."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._tree = TreeChanges(services, pages.options.old_paths)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", "/groups/{group:path}/-/edit", self.ask),
            PageRoute("POST", "/groups/{group:path}/-/edit", self.save_group),
            PageRoute("GET", "/{project:path}/edit", self.ask),
            PageRoute("POST", "/{project:path}/edit", self.save_project),
            *self._advanced("/groups/{group:path}"),  # which would fit the other one, too
            *self._advanced("/{project:path}"),
        ]

    def _advanced(self, node: str) -> list[PageRoute]:
        return [
            PageRoute("POST", f"{node}/-/settings/path", self.rename),
            PageRoute("POST", f"{node}/-/settings/transfer", self.transfer),
            PageRoute("GET", f"{node}/-/settings/delete", self.ask_to_delete),
            PageRoute("POST", f"{node}/-/settings/delete", self.delete),
        ]

    async def ask(self, visit: Visit) -> Response:
        """Show the settings."""
        page = await self._places.node(visit, Action.ADMIN)
        return await self._show(visit, page, _Chosen.of(page))

    async def save_project(self, visit: Visit) -> Response:
        """Change who may see a project, and who may use its registry."""
        page, visibility = await self._places.project(visit, Action.ADMIN), visibility_of(visit.form)
        try:
            registry = RegistryAccess(visit.form.one("container_registry_access_level"))
        except ValueError as error:
            raise PageError("The form names no access level. Nothing was changed.") from error
        await self._places.finder.require_audience(visit.principal, page.place, visibility)
        try:
            await self._tree.change_project(
                visit, page.place, lambda project: replace(project, visibility=visibility, registry=registry)
            )
        except TreeError as error:
            chosen = replace(_Chosen.of(page), visibility=visibility, registry=registry)
            return await self._show(visit, page, replace(chosen, problem=refusal(error)))
        return self._pages.lead(visit, f"{page.edit_path}?done=saved")

    async def save_group(self, visit: Visit) -> Response:
        """Change who may see a group."""
        page, visibility = await self._places.group_page(visit, Action.ADMIN), visibility_of(visit.form)
        try:
            await self._tree.change_group(visit, page.place, lambda group: with_visibility(group, visibility))
        except TreeError as error:
            chosen = replace(_Chosen.of(page), visibility=visibility)
            return await self._show(visit, page, replace(chosen, problem=refusal(error)))
        return self._pages.lead(visit, f"{page.edit_path}?done=saved")

    async def rename(self, visit: Visit) -> Response:
        """Give a project or group another last part of its path."""
        page, part = await self._places.node(visit, Action.ADMIN), visit.form.one("path").strip().lower()
        try:
            moved = await self._tree.rename(visit, page.place, part)
        except TreeError as error:
            return await self._show(visit, page, replace(_Chosen.of(page), part=part, problem=refusal(error)))
        return self._moved(visit, page, moved)

    async def transfer(self, visit: Visit) -> Response:
        """Move a project or group with all that it holds to another place."""
        page, above = await self._places.node(visit, Action.OWN), visit.form.one("above").strip().strip("/").lower()
        try:
            moved = await self._transfer(visit, page, above)
        except (TreeError, PlaceUnknown) as error:
            problem = NO_PLACE.format(above) if isinstance(error, PlaceUnknown) else refusal(error)
            return await self._show(visit, page, replace(_Chosen.of(page), above=above, problem=problem))
        return self._moved(visit, page, moved)

    async def _transfer(self, visit: Visit, page: NodePage, above: str) -> Moved:
        finder = self._places.finder
        if isinstance(page, ProjectPage):
            return await self._tree.transfer_project(visit, page.place, await finder.namespace(above, visit.principal))
        group = await finder.group_for(sought_path(above), visit.principal, Action.ADMIN) if above else None
        return await self._tree.transfer_group(visit, page.place, group)

    async def ask_to_delete(self, visit: Visit) -> Response:
        """Ask whether a project or group is to be deleted, by its path."""
        return self._ask_to_delete(visit, await self._places.node(visit, Action.OWN), "")

    async def delete(self, visit: Visit) -> Response:
        """Delete a project or group whose path was typed."""
        page = await self._places.node(visit, Action.OWN)
        if visit.form.one("confirmation").strip() != page.path:
            return self._ask_to_delete(visit, page, f"What you typed is not the path of the {page.noun}.")
        try:
            if isinstance(page, ProjectPage):
                await self._tree.delete_project(visit, page.place)
            else:
                await self._tree.delete_group(visit, page.place)
        except TreeError as error:
            return self._ask_to_delete(visit, page, refusal(error))
        way = page.place.way
        is_in_group = len(way) > 1 and way[-2].kind is NodeKind.GROUP
        return self._pages.lead(visit, f"/{parent_path(page.path) if is_in_group else ''}?deleted=yes")

    def _moved(self, visit: Visit, page: NodePage, moved: Moved) -> Response:
        address = f"/groups/{moved.new}/-/edit" if isinstance(page, GroupPage) else f"/{moved.new}/edit"
        return self._pages.lead(visit, f"{address}?done=moved")

    def _ask_to_delete(self, visit: Visit, page: NodePage, problem: str) -> Response:
        return self._pages.show(
            visit,
            "delete_node.html",
            f"{'Error: delete' if problem else 'Delete'} {page.path}",
            status=_INVALID if problem else 200,
            **page.shown,
            problem=problem,
        )

    async def _show(self, visit: Visit, page: NodePage, chosen: _Chosen) -> Response:
        return self._pages.show(
            visit,
            "general_settings.html",
            f"{'Error: settings' if chosen.problem else 'Settings'} · {page.path}",
            status=_INVALID if chosen.problem else 200,
            **page.shown,
            chosen=chosen,
            owns=await self._places.may(visit, Action.OWN, page.place),
            visibilities=VISIBILITIES[page.noun],
            accesses=ACCESSES if isinstance(page, ProjectPage) else {},
            kept=self._pages.options.old_paths,
            done=visit.query.one("done"),
        )


def visibility_of(form: Form) -> Visibility:
    """The visibility of a form. Raises PageError."""
    try:
        return Visibility(form.one("visibility"))
    except ValueError as error:
        raise PageError("The form names no visibility. Nothing was changed.") from error
