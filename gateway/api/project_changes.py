"""Changes of projects: create, move, delete."""

from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from gateway.administration.tree import TreeChanges
from gateway.api.cleanup_policies import CleanupPolicies, check_wanted
from gateway.api.documents import DocumentWriter
from gateway.api.errors import Forbidden, ParametersInvalid, ResourceUnknown
from gateway.api.namespaces import Namespaces
from gateway.api.options import ApiOptions
from gateway.api.places import PROJECT, Places
from gateway.api.project_documents import ProjectDocuments
from gateway.api.projects import ProjectShape
from gateway.api.responses import one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, Shape, Text
from gateway.api.tree_refusals import tree_refusals
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.auth.matrix import Action
from gateway.services import Services

ONE = "/projects/{id}"


class NewProjectShape(ProjectShape):
    """Properties of a new project."""

    namespace_id: Annotated[
        int | None, Field(ge=1, description="The id of the namespace that holds it; by default one's own."), Blank
    ] = None


class MoveShape(Shape):
    """Where a project goes."""

    namespace: Annotated[int | Text, Field(description="The id or the path of the namespace that is to hold it.")]


class ProjectChanges:
    """Handlers of changes of whole projects."""

    def __init__(
        self,
        services: Services,
        places: Places,
        namespaces: Namespaces,
        documents: DocumentWriter,
        options: ApiOptions,
    ) -> None:
        self._tree = TreeChanges(services, options.old_paths)
        self._audited = AuditedChanges(services.audit)
        self._places = places
        self._namespaces = namespaces
        self._policies = CleanupPolicies(services)
        self._projects = ProjectDocuments(places, documents, self._policies)

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route(
                *("POST", "/projects", self.create, NewProjectShape, "project"),
                status=201,
                refers=True,
                answer="Project",
            ),
            Route("DELETE", ONE, self.delete, NoParameters, "project", status=202),
            Route("PUT", f"{ONE}/transfer", self.transfer, MoveShape, "project", answer="Project"),
        ]

    async def create(self, call: Call[NewProjectShape]) -> Response:
        """Create a project, in the caller's own namespace unless another one is named."""
        wanted, user = call.parameters, call.principal.user
        part, policy = wanted.last_part, wanted.container_expiration_policy_attributes
        if policy is not None:  # before anything is made
            check_wanted(policy)
        if part is None:
            raise ParametersInvalid(["name, path are missing, at least one parameter must be provided"])
        if user is None:
            raise Forbidden("the token belongs to no user")
        above = user.name
        if wanted.namespace_id is not None:
            above = await self._namespaces.path_for_projects(call.principal, str(wanted.namespace_id))
        with tree_refusals():
            made = await self._tree.create_project(call, above, part, wanted.applied_to)
        if policy is not None:
            await self._policies.save(made.id, policy)
            self._audited.changed(call, EventKind.UPDATE, Subject.CLEANUP_POLICY, made.path)
        return await self._document(call, made.id, 201)

    async def transfer(self, call: Call[MoveShape]) -> Response:
        """Move a project with its images into another namespace; its old path leads to it for a while."""
        place = await self._places.project(call.path["id"], call.principal, Action.OWN)
        above = await self._namespaces.path_for_projects(call.principal, str(call.parameters.namespace))
        with tree_refusals():
            await self._tree.transfer_project(call, place, above)
        return await self._document(call, place.project.id, 200)

    async def delete(self, call: Call[NoParameters]) -> Response:
        """Delete a project with its images, members and tokens. It cannot be restored."""
        place = await self._places.project(call.path["id"], call.principal, Action.OWN)
        with tree_refusals():
            await self._tree.delete_project(call, place)
        return one({"message": "202 Accepted"}, 202)

    async def _document(self, call: "Call[Any]", id: int, status: int) -> Response:
        place = await self._places.project_of(id)
        if place is None:
            raise ResourceUnknown(PROJECT)
        return one(await self._projects.describe(call.principal, place), status)
