"""PlaceFinder: projects and groups that somebody may know of, as pages and the REST API show them.

Whoever may not know of one is told the same as where there is none, and, where it is named by its path, as slowly.
"""

from dataclasses import replace
from datetime import datetime

from cache.oci.errors import NameInvalid
from cache.oci.names import NAME_LIMIT, RepositoryName
from gateway.auth.access import Access
from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal
from gateway.auth.protection import TagGuard
from gateway.directory.places import GroupPlace, Located, Place, ProjectPlace
from gateway.namespaces.errors import PathInvalid
from gateway.namespaces.locate import NativeLocation
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.old_path import Former
from gateway.namespaces.paths import RESERVED_ANYWHERE, proxied_name
from gateway.namespaces.protection import UNPROTECTED
from gateway.namespaces.reach import PullReach
from gateway.namespaces.role import Role
from gateway.services import Services

Sought = RepositoryName | int | None
"""A path, or an id; None for what can be neither."""

_READS = (Action.KNOW, Action.PULL, Action.TOKENS)


class PlaceUnknown(Exception):
    """There is no such place, or the principal may not know of it. `reason`: for the log; empty where there is none."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class PlaceRefused(Exception):
    """The principal may know of the place, and not do this there."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


class PlaceMoved(Exception):
    """Something was to be changed by an old path. `present`: where it is now."""

    def __init__(self, text: str, present: str) -> None:
        super().__init__(text)
        self.present = present


def sought_path(text: str) -> RepositoryName | None:
    """The path that somebody means, in any capitals; None for what no path can be, such as the name of an image of an
    upstream, which would lead to its group."""
    if not RESERVED_ANYWHERE.isdisjoint(text.lower().split("/")):
        return None
    try:
        return RepositoryName.parse(text.lower()) if text.isascii() and len(text) <= NAME_LIMIT else None
    except NameInvalid:
        return None


class PlaceFinder:
    """Finds places, and decides; each request anew. Raises DatabaseUnusable."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.access = Access(services.directory, open_proxy=False)  # nothing is pulled through a group here

    async def project(self, sought: Sought, principal: Principal, action: Action) -> ProjectPlace:
        """The project to which a principal may do something. Raises PlaceUnknown, PlaceRefused, and PlaceMoved where an
        old path is given for a change: it is one for reading."""
        place, former, now = None, None, self._services.clock()
        if isinstance(sought, RepositoryName):
            place, former = await self._project_at(sought, now)
        elif sought is not None:
            place = await self.project_of(sought)
        if place is None:
            raise PlaceUnknown
        knowledge = await self.decide(principal, Action.KNOW, place, now)
        if not knowledge.allowed:
            if isinstance(sought, RepositoryName):
                await self._services.directory.conceal([sought])
            raise PlaceUnknown(knowledge.reason)
        await self.require(principal, action, place, now)
        if former is not None and action not in _READS:
            present = place.project.path
            raise PlaceMoved(f"nothing is changed by an old path: {former.told(present)}", present)
        return place

    async def group(self, sought: Sought, principal: Principal) -> tuple[GroupPlace, PullReach]:
        """The group that a principal may know of, with the reach of the principal's pulls.

        Whoever may pull from a project below a group knows the group by the path of that. Raises PlaceUnknown.
        """
        directory, now = self._services.directory, self._services.clock()
        image, found = None, None
        if isinstance(sought, RepositoryName):
            # Images of upstreams lie below a group, and their names lead to it by its old paths, too.
            image = RepositoryName(proxied_name(sought.text, "image"))
            found = (await directory.locate(image)).at(now).place
        elif sought is not None:
            found = await directory.find_place(NodeKey(NodeKind.GROUP, sought))
        place = found if isinstance(found, GroupPlace) else None
        knowledge = None if place is None else await self.decide(principal, Action.KNOW, place, now)
        reach = await self.access.reach(principal, now)
        if place is not None and knowledge is not None and knowledge.allowed:
            return place, reach
        path = place.group.path if place is not None else _text_of(sought)
        if await self._services.native.inventory.reaches_below(reach, path) and place is not None:
            return place, reach
        if place is not None and image is not None:
            await directory.conceal([image])
        raise PlaceUnknown("" if knowledge is None else knowledge.reason)

    async def group_for(self, sought: Sought, principal: Principal, action: Action) -> GroupPlace:
        """The group to which a principal may do something. Raises PlaceUnknown, PlaceRefused, and PlaceMoved where an
        old path is given for a change: it is one for reading."""
        place, _ = await self.group(sought, principal)
        if action is Action.KNOW:
            return place
        await self.require(principal, action, place, self._services.clock())
        if isinstance(sought, RepositoryName) and sought.text != place.path:
            raise PlaceMoved(f"nothing is changed by an old path: the group is {place.path!r} now", place.path)
        return place

    async def project_of(self, id: int) -> ProjectPlace | None:
        """The project of an id, whoever may know of it."""
        found = await self._services.directory.find_place(NodeKey(NodeKind.PROJECT, id))
        return found if isinstance(found, ProjectPlace) else None

    async def decide(
        self,
        principal: Principal,
        action: Action,
        place: Place,
        now: datetime,
        repository: RepositoryName | None = None,
    ) -> Decision:
        """Decide whether a principal may do something at a place, whatever list its token holds. `repository`: one in
        the place, whose protection rules count then; those of the place itself never do."""
        if repository is not None:
            located = Located(repository.text, place, NativeLocation(repository))
        elif isinstance(place, ProjectPlace):
            located = Located(place.project.path, replace(place, protection=UNPROTECTED))
        else:
            located = Located(place.group.path, place)
        return await self.access.decide(replace(principal, limits=None), action, located, now)

    async def require(
        self,
        principal: Principal,
        action: Action,
        place: Place,
        now: datetime,
        repository: RepositoryName | None = None,
    ) -> None:
        """Check that a principal may do something at a place that it may know of. Raises PlaceRefused."""
        decision = await self.decide(principal, action, place, now, repository)
        if not decision.allowed:
            raise PlaceRefused(decision)

    async def role(self, principal: Principal, place: Place) -> Role | None:
        """The strongest role of a person at a place; an administrator is an owner everywhere."""
        return await self.access.role(principal, place.way, self._services.clock())

    async def require_role(self, principal: Principal, place: Place, needed: Role, rule: str) -> None:
        """Check that somebody has a role, or a stronger one. `rule`: which says who may. Raises PlaceRefused."""
        role = await self.role(principal, place)
        if role is None or role < needed:
            raise PlaceRefused(Decision(False, rule, Refusal.DENIED))

    async def require_at_most_own(self, principal: Principal, place: Place, role: Role) -> None:
        """Check that somebody gives and takes no role above the own one. Raises PlaceRefused."""
        await self.require_role(principal, place, role, f"the role {role.word} is above your own here")

    async def require_creator(self, principal: Principal, place: GroupPlace) -> None:
        """Check that somebody may create projects in a group. Raises PlaceRefused."""
        rule = f"developers of group {place.path!r}, or of one above it, create projects there"
        await self.require_role(principal, place, Role.DEVELOPER, rule)

    async def namespace(self, text: str, principal: Principal) -> str:
        """The path of the namespace that somebody names, one's own or a group, in which a principal may create
        projects. Raises PlaceUnknown, PlaceRefused."""
        if principal.user is not None and text.lower() == principal.user.name:
            return principal.user.name
        place, _ = await self.group(sought_path(text), principal)
        if text.lower() != place.path:
            raise PlaceUnknown("the path is an old one")
        await self.require_creator(principal, place)
        return place.path

    async def destination(self, name: RepositoryName, principal: Principal) -> ProjectPlace:
        """The project in which a repository of a name would lie, for a principal that may manage that. Raises
        PlaceUnknown, PlaceRefused, PathInvalid."""
        now = self._services.clock()
        located = (await self._services.directory.locate(name)).at(now)
        place = located.place
        if not isinstance(place, ProjectPlace) or located.former is not None:
            raise PlaceUnknown
        knowledge = await self.decide(principal, Action.KNOW, place, now)
        if not knowledge.allowed:
            await self._services.directory.conceal([name])
            raise PlaceUnknown(knowledge.reason)
        await self.require(principal, Action.MANAGE, place, now)
        if located.problem:
            raise PathInvalid(located.problem)
        return place

    async def require_audience(self, principal: Principal, place: ProjectPlace, wanted: Visibility) -> None:
        """Check that a principal may give a project a visibility: owners alone change it (GitLab, "Project and group
        visibility"). Raises PlaceRefused."""
        if wanted is place.project.visibility:
            return
        await self.require_role(principal, place, Role.OWNER, "owners change the visibility of a project")

    async def level(self, principal: Principal, place: ProjectPlace) -> int:
        """The level by which the protection rules of a project judge a principal."""
        now = self._services.clock()
        return await self.access.level(replace(principal, limits=None), Located(place.project.path, place), now)

    async def guard(self, principal: Principal, place: ProjectPlace) -> TagGuard:
        """What the protection rules of a project keep a principal from doing to its tags."""
        now = self._services.clock()
        return await self.access.guard(replace(principal, limits=None), Located(place.project.path, place), now)

    async def _project_at(self, name: RepositoryName, now: datetime) -> tuple[ProjectPlace | None, Former | None]:
        """The project of a path, and what an old path leads to."""
        located = (await self._services.directory.locate(name)).at(now)
        path = name.text if located.former is None else located.former.present
        if isinstance(located.place, ProjectPlace) and located.place.project.path == path:
            return located.place, located.former
        return None, None


def _text_of(sought: Sought) -> str:
    return sought.text if isinstance(sought, RepositoryName) else str(sought or "")
