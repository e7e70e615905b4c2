"""Repositories that are renamed, or moved to another project."""

from datetime import timedelta

from cache.oci.names import RepositoryName
from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.db.repositories import StoredRepository
from gateway.directory.places import ProjectPlace
from gateway.inspection.place_finder import PlaceFinder
from gateway.registry.protected import MoveLevels
from gateway.services import Services


class RepositoryMoves:
    """Moves repositories. The caller has found the project for somebody who may manage it.

    Raises PlaceUnknown and PlaceRefused for the project in which the new path lies, TreeError where the tree does not
    allow a move, RegistryError where a pin or a protection rule does not.
    """

    def __init__(self, services: Services, kept: timedelta) -> None:
        """`kept`: how long an old path leads to the repository."""
        self._administration = services.native.administration
        self._kept = kept
        self._finder = PlaceFinder(services)
        self._audited = AuditedChanges(services.audit)

    async def move(
        self, actor: Actor, place: ProjectPlace, repository: StoredRepository, path: RepositoryName
    ) -> ProjectPlace:
        """Move a repository to a path, and return the project in which that lies; no image is copied."""
        destination = await self._finder.destination(path, actor.principal)
        levels = MoveLevels(
            await self._finder.level(actor.principal, place), await self._finder.level(actor.principal, destination)
        )
        moved = await self._administration.move_repository(repository, path, destination.project.id, self._kept, levels)
        self._audited.moved(actor, moved.kind, moved.old, moved.new)
        return destination
