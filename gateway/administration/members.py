"""Members of groups and projects, and changes of them.

The caller has found the place for somebody who may administer it, or, to leave it, may know of it.
"""

from dataclasses import replace
from datetime import datetime

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_member
from gateway.directory.places import Place
from gateway.directory.tree_administration import NamedMember
from gateway.inspection.place_finder import PlaceFinder
from gateway.namespaces.member import unknown_member
from gateway.namespaces.role import Role
from gateway.services import Services


class MemberAdministration:
    """Lists and changes members. Raises PlaceRefused where somebody gives or takes a role above the own one, TreeError
    where the tree does not allow a change, DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._tree = services.directory.tree
        self._clock = services.clock
        self._finder = PlaceFinder(services)
        self._audited = AuditedChanges(services.audit)

    async def list_of(self, place: Place, *, inherited: bool) -> list[NamedMember]:
        """The members of a place itself, or with `inherited` those of the groups above it, too, each user once with
        the strongest role; in the order of their names."""
        return await self._tree.members_of(place.path, self._clock(), inherited=inherited)

    async def find(self, place: Place, user_id: int, *, inherited: bool = False) -> NamedMember | None:
        """Find the membership of a user at a place itself, or with `inherited` there or above."""
        found = await self._tree.members_of(place.path, self._clock(), inherited=inherited, user_id=user_id)
        return found[0] if found else None

    async def add(
        self, actor: Actor, place: Place, user_id: int, role: Role, expires_at: datetime | None
    ) -> NamedMember:
        """Give a user a role at a place, and in everything below it. `expires_at`: None for no end."""
        await self._finder.require_at_most_own(actor.principal, place, role)
        await self._tree.add_member(place.key, user_id, role, expires_at, self._clock())
        return await self._changed(actor, place, user_id, None)

    async def update(
        self, actor: Actor, place: Place, found: NamedMember, role: Role, expires_at: datetime | None
    ) -> NamedMember:
        """Change the role and the expiry of a member."""
        await self._finder.require_at_most_own(actor.principal, place, max(role, found.member.role))
        await self._tree.update_member(
            place.key, found.user.id, lambda one: replace(one, role=role, expires_at=expires_at), self._clock()
        )
        return await self._changed(actor, place, found.user.id, found)

    async def remove(self, actor: Actor, place: Place, found: NamedMember) -> None:
        """Remove a member; what the user has from the groups above stays. Everybody may remove oneself."""
        user = actor.principal.user
        if user is None or user.id != found.user.id:
            await self._finder.require_at_most_own(actor.principal, place, found.member.role)
        await self._tree.remove_member(place.key, found.user.id)
        former = tell_member(found.member)
        self._audited.changed(actor, EventKind.DELETE, Subject.MEMBER, place.path, found.user.name, before=former)

    async def _changed(self, actor: Actor, place: Place, user_id: int, before: NamedMember | None) -> NamedMember:
        """The member who was added, or changed from what was there before, which is noted. Raises MemberUnknown."""
        found = await self.find(place, user_id)
        if found is None:
            raise unknown_member(str(user_id), place.path, [])
        kind, former = (EventKind.CREATE, None) if before is None else (EventKind.UPDATE, tell_member(before.member))
        after = tell_member(found.member)
        self._audited.changed(actor, kind, Subject.MEMBER, place.path, found.user.name, before=former, after=after)
        return found
