"""ProjectDocuments: what a client is told of one project, with what only its administrators see."""

from gateway.api.cleanup_policies import CleanupPolicies
from gateway.api.documents import DocumentWriter
from gateway.api.places import Places, namespace_above
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.directory.places import ProjectPlace


class ProjectDocuments:
    """Writes the documents of single projects."""

    def __init__(self, places: Places, documents: DocumentWriter, policies: CleanupPolicies) -> None:
        self._places = places
        self._documents = documents
        self._policies = policies

    async def describe(self, principal: Principal, place: ProjectPlace) -> dict[str, object]:
        """The document of a project for a principal. Raises DatabaseUnusable."""
        project, manages = place.project, await self._places.may(principal, Action.ADMIN, place)
        above = namespace_above(project.path, place.way)
        assert above is not None, "a project lies in a namespace"
        document = self._documents.project(project, above, manages=manages)
        if manages:
            document["container_expiration_policy"] = await self._policies.document(project.id)
        return document
