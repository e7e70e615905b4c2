"""The reach of a principal: what lists of all repositories look at, before each project is decided about."""

from collections.abc import Iterable
from datetime import datetime

from gateway.auth.matrix import PULL, Audience
from gateway.auth.principal import Principal, PrincipalKind
from gateway.namespaces.credentials import DeployToken, Job, JobDeployToken
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Way
from gateway.namespaces.reach import PullReach
from gateway.namespaces.role import Role

_WEAKEST = min(requirement for cell in PULL.values() for requirement in cell if isinstance(requirement, Role))
"""Weakest role that lets anybody pull from anything."""


def reach_of(principal: Principal, members: Iterable[Member], origin: Way, now: datetime) -> PullReach:
    """The projects from which a principal may be able to pull.

    `members`: all memberships of its user. `origin`: the way to the node to which a deploy token or a job belongs. What
    an administrator's job sees of other projects depends on their lists of allowed jobs, as for any other user's.
    """
    user = principal.user
    audiences = {Audience.EVERYBODY} | ({Audience.SIGNED_IN} if user is not None and not user.external else set())
    opened = frozenset(visibility for (visibility, _), cell in PULL.items() if audiences.intersection(cell))
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
