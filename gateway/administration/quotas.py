"""Quotas of groups and projects: what is stored at and below them, and how much may be."""

from dataclasses import replace

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import Subject
from gateway.audit.told import tell_group, tell_project
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.permissions import no_administrator
from gateway.auth.principal import Principal
from gateway.directory.places import Place, ProjectPlace
from gateway.inspection.place_finder import PlaceRefused
from gateway.services import Services


class Quotas:
    """Shows quotas to whoever may administer a place, and lets administrators of the server change them. Raises
    PlaceRefused, TreeError, StoreUnavailable, DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._native = services.native
        self._tree = services.directory.tree
        self._audited = AuditedChanges(services.audit)

    @staticmethod
    def may_change(principal: Principal) -> bool:
        """Whether somebody may change quotas."""
        return not no_administrator(principal)

    async def stored(self, place: Place) -> int:
        """Bytes that are stored at and below a place."""
        return await self._tree.stored_bytes(place.key, place.path)

    async def change(self, actor: Actor, place: Place, quota: int | None) -> None:
        """Change the quota of a place, in bytes; None for none."""
        if not self.may_change(actor.principal):
            raise PlaceRefused(Decision(False, "administrators of the server change quotas", Refusal.DENIED))
        if isinstance(place, ProjectPlace):
            project = await self._native.update_project(place.project.id, lambda one: replace(one, quota=quota))
            told = tell_project(place.project), tell_project(project)
            self._audited.updated(actor, Subject.PROJECT, project.path, *told)
        else:
            group = await self._tree.update_group(place.group.id, lambda one: replace(one, quota=quota))
            self._audited.updated(actor, Subject.GROUP, group.path, tell_group(place.group), tell_group(group))
