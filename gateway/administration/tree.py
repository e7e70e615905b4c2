"""Groups and projects that are made, renamed, moved and deleted, by whoever may."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_group, tell_project
from gateway.auth.decisions import Decision, Refusal
from gateway.db.moves import Moved
from gateway.directory.places import GroupPlace, Place, ProjectPlace
from gateway.inspection.place_finder import PlaceRefused
from gateway.namespaces.group import Group
from gateway.namespaces.paths import joined, parent_path
from gateway.namespaces.project import Project
from gateway.namespaces.user import User
from gateway.services import Services

ACCEPTED = 202
_NOBODY = "the token belongs to no user"


class TreeChanges:
    """Changes of the tree. The caller has found the places for somebody who may do that there, and a namespace for who
    may create projects in it.

    Raises PlaceRefused where the top of the tree is for administrators alone, TreeError where the tree does not allow a
    change, RegistryError, DatabaseUnusable.
    """

    def __init__(self, services: Services, kept: timedelta) -> None:
        """`kept`: how long what has moved keeps its old path."""
        self._tree = services.directory.tree
        self._native = services.native
        self._clock = services.clock
        self._kept = kept
        self._audited = AuditedChanges(services.audit)

    async def create_group(
        self, actor: Actor, above: GroupPlace | None, part: str, change: Callable[[Group], Group]
    ) -> Group:
        """Create a group below another one, or at the top, as an administrator; whoever does it owns it."""
        user = _require_user(actor)
        if above is None and not user.admin:
            raise _refused("administrators alone create groups at the top: name a group of yours as parent_id")
        path = joined("" if above is None else above.path, part)
        made = await self._tree.create_group(path, change, user, self._clock())
        self._audited.changed(actor, EventKind.CREATE, Subject.GROUP, made.path, after=tell_group(made))
        return made

    async def create_project(
        self, actor: Actor, namespace: str, part: str, change: Callable[[Project], Project]
    ) -> Project:
        """Create a project in the namespace of a path."""
        user = _require_user(actor)
        made = await self._tree.create_project(joined(namespace, part), change, user.id, self._clock())
        self._audited.changed(actor, EventKind.CREATE, Subject.PROJECT, made.path, after=tell_project(made))
        return made

    async def change_group(self, actor: Actor, place: GroupPlace, change: Callable[[Group], Group]) -> Group:
        """Change the properties of a group; its path stays."""
        group = await self._tree.update_group(place.group.id, change)
        if group != place.group:
            self._audited.updated(actor, Subject.GROUP, group.path, tell_group(place.group), tell_group(group))
        return group

    async def change_project(self, actor: Actor, place: ProjectPlace, change: Callable[[Project], Project]) -> Project:
        """Change the switches of a project; its path stays."""
        project = await self._native.update_project(place.project.id, change)
        if project != place.project:
            told = tell_project(place.project), tell_project(project)
            self._audited.updated(actor, Subject.PROJECT, project.path, *told)
        return project

    async def rename(self, actor: Actor, place: Place, part: str) -> Moved:
        """Give a group or project another last part of its path; its old path leads to it for a while."""
        return await self._move(actor, place, lambda path: joined(parent_path(path), part))

    async def transfer_group(self, actor: Actor, place: GroupPlace, above: GroupPlace | None) -> Moved:
        """Move a group with all that it holds into another one, or to the top, as an administrator."""
        if above is None and not _require_user(actor).admin:
            raise _refused("administrators alone move groups to the top: name a group of yours as group_id")
        below = "" if above is None else above.path
        return await self._move(actor, place, lambda path: joined(below, path.rpartition("/")[2]))

    async def transfer_project(self, actor: Actor, place: ProjectPlace, namespace: str) -> Moved:
        """Move a project with its images into the namespace of a path."""
        return await self._move(actor, place, lambda path: joined(namespace, path.rpartition("/")[2]))

    async def delete_group(self, actor: Actor, place: GroupPlace) -> None:
        """Delete a group that holds no other group and no project."""
        gone = await self._tree.delete_group(place.group.id)
        self._audited.changed(actor, EventKind.DELETE, Subject.GROUP, gone.path, before=tell_group(gone))

    async def delete_project(self, actor: Actor, place: ProjectPlace) -> None:
        """Delete a project with its images, members and tokens. It cannot be restored."""
        # A client that does not wait for the end changes nothing: what was begun is done.
        deletion = asyncio.ensure_future(self._native.administration.delete_project(place.project.id))
        for repository in await asyncio.shield(deletion):
            self._audited.deleted(actor, ACCEPTED, repository)
        before = tell_project(place.project)
        self._audited.changed(actor, EventKind.DELETE, Subject.PROJECT, place.path, before=before)

    async def _move(self, actor: Actor, place: Place, to: Callable[[str], str]) -> Moved:
        move = self._tree.move_project if isinstance(place, ProjectPlace) else self._tree.move_group
        moved = await move(place.key.id, to, self._clock(), self._kept)
        self._audited.moved(actor, moved.kind, moved.old, moved.new)
        return moved


def _require_user(actor: Actor) -> User:
    if actor.principal.user is None:
        raise _refused(_NOBODY)
    return actor.principal.user


def _refused(reason: str) -> PlaceRefused:
    return PlaceRefused(Decision(False, reason, Refusal.DENIED))
