"""The reach of a principal: what lists of all repositories look at, before each project is decided about."""

from collections.abc import Iterable
from datetime import datetime

from gateway.auth.matrix import KNOWS, PULL, Audience, Cell
from gateway.auth.principal import Principal, PrincipalKind
from gateway.namespaces.credentials import DeployToken, Job, JobDeployToken
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility, Way
from gateway.namespaces.reach import Knowledge, PullReach
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

_WEAKEST = min(requirement for cell in PULL.values() for requirement in cell if isinstance(requirement, Role))
"""Weakest role that lets anybody pull from anything."""


def reach_of(principal: Principal, members: Iterable[Member], origin: Way, now: datetime) -> PullReach:
    """The projects from which a principal may be able to pull.

    `members`: all memberships of its user. `origin`: the way to the node to which a deploy token or a job belongs. What
    an administrator's job sees of other projects depends on their lists of allowed jobs, as for any other user's.
    """
    user = principal.user
    opened = _opened(user, ((visibility, cell) for (visibility, _), cell in PULL.items()))
    match principal.credential:
        case DeployToken(node=node) | JobDeployToken(token=DeployToken(node=node)):
            return PullReach(opened, (node,))
        case Job(project_id=project_id):
            return PullReach(opened, (NodeKey(NodeKind.PROJECT, project_id),), origin)
    if user is None or principal.kind is PrincipalKind.ANONYMOUS:
        return PullReach(opened)
    if user.admin:
        return PullReach(everything=True)
    own = (member.node for member in members if member.is_active(now) and member.role >= _WEAKEST)
    return PullReach(opened, (NodeKey(NodeKind.USER, user.id), *own))


def knowledge_of(
    principal: Principal, members: Iterable[Member], now: datetime, weakest: Role, *, members_only: bool
) -> Knowledge:
    """The groups and projects that a person may know of, or those of them in which the person has a role.

    `members`: all memberships of the user. `weakest`: role from which on a membership counts; `members_only`: whether
    nothing counts but memberships, also for an administrator.
    """
    user = principal.user
    if user is None:
        return Knowledge() if members_only else Knowledge(_opened(None, KNOWS.items()))
    if user.admin and not members_only:
        return Knowledge(everything=True)
    own = tuple(member.node for member in members if member.is_active(now) and member.role >= weakest)
    opened = frozenset[Visibility]() if members_only else _opened(user, KNOWS.items())
    return Knowledge(opened, (user.key, *own))


def _opened(user: User | None, cells: Iterable[tuple[Visibility, Cell]]) -> frozenset[Visibility]:
    """The visibilities of which a cell is for everybody like a user; None: for everybody."""
    audiences = {Audience.EVERYBODY} | ({Audience.SIGNED_IN} if user is not None and not user.external else set())
    return frozenset(visibility for visibility, cell in cells if audiences.intersection(cell))
