"""Access: the facts about one principal at one place, looked up for a decision."""

from datetime import datetime

from gateway.auth.decisions import AbsentTarget, Decision, DependencyProxyTarget, ProjectTarget, Standing, Target
from gateway.auth.matrix import Action
from gateway.auth.people import role_at
from gateway.auth.permissions import decide, decide_creation, guard_at, level_at
from gateway.auth.principal import Principal, principal_of, user_id_of
from gateway.auth.protection import UNGUARDED, TagGuard
from gateway.auth.reach import knowledge_of, reach_of
from gateway.auth.virtual import VirtualTarget, decide_virtual
from gateway.directory.directory import Directory
from gateway.directory.places import GroupPlace, Located, ProjectPlace
from gateway.namespaces.credentials import Credential, CredentialRef, DeployToken, Job, JobDeployToken
from gateway.namespaces.locate import NativeLocation
from gateway.namespaces.node import NodeKey, NodeKind, Way
from gateway.namespaces.protection import NO_LEVEL
from gateway.namespaces.reach import Knowledge, PullReach
from gateway.namespaces.role import Role

_NO_STANDING = Standing()
"""That of an anonymous principal, wherever it is."""


class Access:
    """Decides about located names. Every fact comes from the directory, mostly from memory; no decision is kept."""

    def __init__(self, directory: Directory, open_proxy: bool) -> None:
        """`open_proxy`: whether this server may serve anonymous pulls of upstreams' images."""
        self._directory = directory
        self._open_proxy = open_proxy

    async def decide(self, principal: Principal, action: Action, located: Located, now: datetime) -> Decision:
        """Decide whether a principal may do something to what a name leads to. Raises DatabaseUnusable."""
        return decide(principal, action, await self.target(principal, located), now)

    async def decide_creation(self, principal: Principal, way: Way, name: str, now: datetime) -> Decision:
        """Decide whether a push to a name may create the project that it lacks at the end of a way. Raises
        DatabaseUnusable."""
        await self._directory.require_current()
        return decide_creation(principal, way, await self._standing(principal, way), name, now)

    async def target(self, principal: Principal, located: Located) -> Target:
        """All that decisions about a principal and a name depend on.

        Raises DatabaseUnusable, also where memories may have missed a change and the principal has a credential: what
        strangers may do goes on meanwhile.
        """
        if not principal.is_anonymous:
            await self._directory.require_current()
        place = located.place
        if place is None:
            await self._standing(principal, ())  # costs what a name costs that the principal may not know
            return AbsentTarget(located.name)
        standing = await self._standing(principal, place.way)
        if isinstance(place, GroupPlace):
            return DependencyProxyTarget(located.name, place.group, place.way, self._open_proxy, standing)
        location = located.location
        below = location.name.text[len(place.project.path) :] if isinstance(location, NativeLocation) else ""
        return ProjectTarget(
            located.name, place.project, place.way, standing, place.job_allowances, place.protection, below
        )

    async def level(self, principal: Principal, located: Located, now: datetime) -> int:
        """The level by which the protection rules of what a name leads to judge a principal. Raises
        DatabaseUnusable."""
        target = await self.target(principal, located)
        return level_at(principal, target, now) if isinstance(target, ProjectTarget) else NO_LEVEL

    async def guard(self, principal: Principal, located: Located, now: datetime) -> TagGuard:
        """What protection rules keep a principal from doing to the tags of what a name leads to. Raises
        DatabaseUnusable."""
        if not isinstance(located.place, ProjectPlace) or not located.place.protection.of_tags:
            return UNGUARDED
        target = await self.target(principal, located)
        return guard_at(principal, target, now) if isinstance(target, ProjectTarget) else UNGUARDED

    async def reach(self, principal: Principal, now: datetime) -> PullReach:
        """Projects from which a principal may be able to pull; each still needs a decision. Raises DatabaseUnusable."""
        if not principal.is_anonymous:
            await self._directory.require_current()
        node, user = _node_of(principal), principal.user
        origin = () if node is None else await self._directory.way_to(node)
        members = () if user is None else await self._directory.memberships_anywhere(user.id)
        return reach_of(principal, members, origin, now)

    async def knowledge(
        self, principal: Principal, now: datetime, *, weakest: Role = Role.GUEST, members_only: bool = False
    ) -> Knowledge:
        """Groups and projects that a person may know of, as `knowledge_of` tells them. Raises DatabaseUnusable."""
        if principal.user is None:
            return knowledge_of(principal, (), now, weakest, members_only=members_only)
        await self._directory.require_current()
        members = await self._directory.memberships_anywhere(principal.user.id)
        return knowledge_of(principal, members, now, weakest, members_only=members_only)

    async def role(self, principal: Principal, way: Way, now: datetime) -> Role | None:
        """The strongest role of a person at the end of a way; an administrator is an owner everywhere. Raises
        DatabaseUnusable."""
        await self._directory.require_current()
        return role_at(principal, way, (await self._standing(principal, way)).members, now)

    async def decide_virtual(self, principal: Principal, name: str, group: NodeKey, now: datetime) -> Decision:
        """Decide whether a principal may pull from a virtual registry of a group, under a name. Raises
        DatabaseUnusable."""
        if not principal.is_anonymous:
            await self._directory.require_current()
        node = _node_of(principal)
        origin = () if node is None else await self._directory.way_to(node)
        target = VirtualTarget(name, group, await self.is_within(principal, group, now), origin)
        return decide_virtual(principal, target, now)

    async def is_within(self, principal: Principal, group: NodeKey, now: datetime) -> bool:
        """Whether a person has a role in a group, here or above, or in anything in it. Raises DatabaseUnusable."""
        if principal.user is None:
            return False
        members = await self._directory.memberships_anywhere(principal.user.id)
        nodes = [member.node for member in members if member.is_active(now)]
        if not frozenset(await self._directory.way_to(group)).isdisjoint(nodes):
            return True
        return any([group in await self._directory.way_to(node) for node in nodes])

    async def _standing(self, principal: Principal, way: Way) -> Standing:
        if principal.is_anonymous:
            return _NO_STANDING
        node = _node_of(principal)
        origin = () if node is None else await self._directory.way_to(node)
        if principal.user is None:
            return Standing(origin=origin)
        nodes = dict.fromkeys((*way, *origin))
        return Standing(await self._directory.memberships(principal.user.id, nodes), origin)


async def stored_principal(directory: Directory, ref: CredentialRef, credential: Credential) -> Principal:
    """The principal of a stored credential, whether or not it has ended: decisions look at that. Raises
    DatabaseUnusable."""
    user_id = user_id_of(credential)
    return principal_of(ref, credential, None if user_id is None else await directory.user(user_id))


def _node_of(principal: Principal) -> NodeKey | None:
    """The node to which a principal's token belongs; None where it belongs to a person or to nobody."""
    match principal.credential:
        case DeployToken(node=node) | JobDeployToken(token=DeployToken(node=node)):
            return node
        case Job() as job:
            return NodeKey(NodeKind.PROJECT, job.project_id)
        case _:
            return None
