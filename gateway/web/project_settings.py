"""Settings > General of a project: who may know of it, and who may use its registry."""

from collections.abc import Sequence
from dataclasses import replace

from starlette.responses import Response

from gateway.audit.changes import AuditedChanges
from gateway.audit.event import Subject
from gateway.audit.told import tell_project
from gateway.auth.matrix import Action
from gateway.namespaces.errors import TreeError
from gateway.namespaces.node import Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.services import Services
from gateway.web.errors import PageError, sentence
from gateway.web.page_places import PagePlaces, ProjectPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

VISIBILITIES = {
    Visibility.PRIVATE: ("Private", "Members alone see the project."),
    Visibility.INTERNAL: ("Internal", "Everybody who is signed in sees it, but external users."),
    Visibility.PUBLIC: ("Public", "Everybody sees it, without signing in."),
}
ACCESSES = {
    RegistryAccess.ENABLED: ("Everyone With Access", "Whoever sees the project may pull its images."),
    RegistryAccess.PRIVATE: ("Only Project Members", "Reporters and above may pull, whoever sees the project."),
    RegistryAccess.DISABLED: ("Off", "Nobody pulls or pushes. The images are kept."),
}
"""The choices, and what each means."""

_INVALID = 422


class ProjectSettings:
    """Handlers of the settings of projects."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._audited = AuditedChanges(services.audit)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        pattern = "/{project:path}/edit"
        return [PageRoute("GET", pattern, self.ask), PageRoute("POST", pattern, self.save)]

    async def ask(self, visit: Visit) -> Response:
        """Show the settings."""
        page = await self._places.project(visit, Action.ADMIN)
        return self._show(visit, page, page.place.project, "", 200)

    async def save(self, visit: Visit) -> Response:
        """Change the settings."""
        page, form = await self._places.project(visit, Action.ADMIN), visit.form
        try:
            visibility = Visibility(form.one("visibility"))
            registry = RegistryAccess(form.one("container_registry_access_level"))
        except ValueError as error:
            raise PageError("The form names no visibility or no access level. Nothing was changed.") from error

        await self._places.finder.require_audience(visit.principal, page.place, visibility)

        def change(project: Project) -> Project:
            return replace(project, visibility=visibility, registry=registry)

        try:
            changed = await self._services.native.update_project(page.place.project.id, change)
        except TreeError as error:
            return self._show(visit, page, change(page.place.project), sentence(str(error)), _INVALID)
        if changed != page.place.project:
            told = tell_project(page.place.project), tell_project(changed)
            self._audited.updated(visit, Subject.PROJECT, changed.path, *told)
        return self._pages.lead(visit, f"/{page.path}/edit?saved=yes")

    def _show(self, visit: Visit, page: ProjectPage, chosen: Project, problem: str, status: int) -> Response:
        return self._pages.show(
            visit,
            "project_settings.html",
            f"{'Error: settings' if problem else 'Settings'} · {page.path}",
            status=status,
            project=page,
            chosen=chosen,
            problem=problem,
            visibilities=VISIBILITIES,
            accesses=ACCESSES,
            saved=visit.query.has("saved"),
        )
