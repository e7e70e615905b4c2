"""New groups and projects: the forms that make them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response

from gateway.administration.tree import TreeChanges
from gateway.auth.matrix import Action
from gateway.inspection.place_finder import PlaceUnknown, sought_path
from gateway.namespaces.errors import TreeError
from gateway.namespaces.group import with_visibility
from gateway.namespaces.node import Visibility
from gateway.services import Services
from gateway.web.errors import refusal
from gateway.web.forms import Form
from gateway.web.general_settings import VISIBILITIES, visibility_of
from gateway.web.page_places import NO_PLACE, PagePlaces
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

GROUP, PROJECT = "/-/new/group", "/-/new/project"
_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A group or project as a form asks for it. `above`: the path of what is to hold it. `problem`: why it was not
    made; empty where nobody has tried."""

    above: str = ""
    name: str = ""
    visibility: Visibility = Visibility.PRIVATE
    problem: str = ""

    @classmethod
    def read(cls, form: Form) -> "_Wanted":
        """Read a form. Raises PageError."""
        return cls(form.one("above").strip().strip("/").lower(), form.one("name").strip(), visibility_of(form))


class NewNodes:
    """Handlers of what is made."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._tree = TreeChanges(services, pages.options.old_paths)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", GROUP, self.ask_for_group),
            PageRoute("POST", GROUP, self.create_group),
            PageRoute("GET", PROJECT, self.ask_for_project),
            PageRoute("POST", PROJECT, self.create_project),
        ]

    async def ask_for_group(self, visit: Visit) -> Response:
        """Show the form that makes a group."""
        visit.require_user()
        return self._show(visit, "group", _Wanted(visit.query.one("in")))

    async def create_group(self, visit: Visit) -> Response:
        """Make a group: at the top as an administrator, below a group as an owner of that."""
        wanted = _Wanted.read(visit.form)
        try:
            above = None
            if wanted.above:
                finder = self._places.finder
                above = await finder.group_for(sought_path(wanted.above), visit.principal, Action.ADMIN)
            made = await self._tree.create_group(
                visit, above, wanted.name.lower(), lambda group: with_visibility(group, wanted.visibility)
            )
        except (TreeError, PlaceUnknown) as error:
            return self._refuse(visit, "group", wanted, error)
        return self._pages.lead(visit, f"/{made.path}")

    async def ask_for_project(self, visit: Visit) -> Response:
        """Show the form that makes a project."""
        user = visit.require_user()
        return self._show(visit, "project", _Wanted(visit.query.one("in") or user.name))

    async def create_project(self, visit: Visit) -> Response:
        """Make a project, in one's own namespace or in a group as a developer of that."""
        wanted = _Wanted.read(visit.form)
        try:
            namespace = await self._places.finder.namespace(wanted.above, visit.principal)
            made = await self._tree.create_project(
                visit, namespace, wanted.name.lower(), lambda project: replace(project, visibility=wanted.visibility)
            )
        except (TreeError, PlaceUnknown) as error:
            return self._refuse(visit, "project", wanted, error)
        return self._pages.lead(visit, f"/{made.path}")

    def _refuse(self, visit: Visit, noun: str, wanted: _Wanted, error: Exception) -> Response:
        problem = NO_PLACE.format(wanted.above) if isinstance(error, PlaceUnknown) else refusal(error)
        return self._show(visit, noun, replace(wanted, problem=problem))

    def _show(self, visit: Visit, noun: str, wanted: _Wanted) -> Response:
        return self._pages.show(
            visit,
            "new_node.html",
            f"{'Error: new' if wanted.problem else 'New'} {noun}",
            status=_INVALID if wanted.problem else 200,
            noun=noun,
            wanted=wanted,
            visibilities=VISIBILITIES[noun],
        )
