"""Projects: what a client is told of one, and its switches."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.administration.tree import TreeChanges
from gateway.api.cleanup_policies import CleanupPolicies, PolicyShape
from gateway.api.documents import DocumentWriter
from gateway.api.errors import ParametersInvalid, PathUnknown
from gateway.api.group_changes import slug
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.project_documents import ProjectDocuments
from gateway.api.responses import one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, Shape, Text
from gateway.api.tree_refusals import tree_refusals
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.auth.matrix import Action
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.node import Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.services import Services

ONE = "/projects/{id}"
PACKAGES_HINT = "images are no packages: they are listed and deleted at /api/v4/projects/:id/registry/repositories"


class ProjectShape(Shape):
    """Switches of a project that may be changed; those that are not given stay."""

    container_registry_access_level: Annotated[
        Literal["enabled", "private", "disabled"] | None,
        Field(description="Who may use the registry: as the project is visible, members alone, nobody."),
        Blank,
    ] = None
    container_registry_enabled: Annotated[
        bool | None, Field(description="The former switch: whether the access level is `enabled` or `disabled`."), Blank
    ] = None
    visibility: Annotated[
        Literal["public", "internal", "private"] | None, Field(description="Who may know of the project."), Blank
    ] = None
    container_expiration_policy_attributes: Annotated[
        PolicyShape | None, Field(description="Properties of its cleanup policy.")
    ] = None

    name: Annotated[Text | None, Field(max_length=255, description="The last part of its path."), Blank] = None
    path: Annotated[Text | None, Field(max_length=255, description="The same; it goes before the name."), Blank] = None

    @property
    def last_part(self) -> str | None:
        """The last part of the path that is wanted."""
        return self.path or (None if self.name is None else slug(self.name))

    @property
    def registry(self) -> RegistryAccess | None:
        """The access level that is wanted; the newer switch goes before the former one."""
        if self.container_registry_access_level is not None:
            return RegistryAccess(self.container_registry_access_level)
        if self.container_registry_enabled is None:
            return None
        return RegistryAccess.ENABLED if self.container_registry_enabled else RegistryAccess.DISABLED

    def applied_to(self, project: Project) -> Project:
        """The project with its switches as they are wanted."""
        visibility = project.visibility if self.visibility is None else Visibility(self.visibility)
        return replace(project, registry=self.registry or project.registry, visibility=visibility)


class Projects:
    """Handlers of projects."""

    def __init__(self, services: Services, places: Places, documents: DocumentWriter, options: ApiOptions) -> None:
        self._tree = TreeChanges(services, options.old_paths)
        self._audited = AuditedChanges(services.audit)
        self._policies = CleanupPolicies(services)
        self._projects = ProjectDocuments(places, documents, self._policies)
        self._places = places

    @property
    def routes(self) -> list[Route[Any]]:
        packages = [f"{ONE}/packages", f"{ONE}/packages/{{package_id}}"]
        return [
            Route("GET", ONE, self.show, NoParameters, "project", anonymous=True, jobs=True, answer="Project"),
            Route("PUT", ONE, self.update, ProjectShape, "project", answer="Project"),
            *(
                Route(
                    method,
                    pattern,
                    self.refuse_packages,
                    NoParameters,
                    "packages",
                    anonymous=True,
                    jobs=True,
                    status=404,
                )
                for pattern in packages
                for method in ("GET", "DELETE")
            ),
        ]

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show one project."""
        place = await self._find(call, Action.KNOW)
        return one(await self._projects.describe(call.principal, place))

    async def update(self, call: Call[ProjectShape]) -> Response:
        """Change who may know of a project, and who may use its registry, or rename it; its old path leads to it for a
        while."""
        place, wanted = await self._find(call, Action.ADMIN), call.parameters
        if wanted == ProjectShape():
            names = ", ".join(ProjectShape.model_fields)
            raise ParametersInvalid([f"{names} are missing, at least one parameter must be provided"])
        if wanted.visibility is not None:
            await self._places.require_audience(call.principal, place, Visibility(wanted.visibility))
        if wanted.container_expiration_policy_attributes is not None:
            await self._policies.save(place.project.id, wanted.container_expiration_policy_attributes)
            self._audited.changed(call, EventKind.UPDATE, Subject.CLEANUP_POLICY, place.project.path)
        with tree_refusals():
            changed = await self._tree.change_project(call, place, wanted.applied_to)
            part = wanted.last_part
            if part is not None and part != changed.path.rpartition("/")[2]:
                changed = replace(changed, path=(await self._tree.rename(call, place, part)).new)
        return one(await self._projects.describe(call.principal, replace(place, project=changed)))

    async def refuse_packages(self, call: Call[NoParameters]) -> Response:
        """Say that images are no packages, and where they are."""
        raise PathUnknown(PACKAGES_HINT)

    async def _find(self, call: "Call[Any]", action: Action) -> ProjectPlace:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "project", place.project.path)
        return place
