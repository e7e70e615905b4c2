"""Member: a user's role in a group or project, which holds for everything below it, until it expires."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.namespaces.errors import MembershipRefused, MemberUnknown
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.namespaces.role import Role


@dataclass(frozen=True, slots=True)
class Member:
    """One stored membership. `expires_at`: from this time on it means nothing; None: it does not expire."""

    node: NodeKey
    user_id: int
    role: Role
    expires_at: datetime | None
    created_at: datetime

    def is_active(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


def strongest_role(members: Iterable[Member], now: datetime) -> Role | None:
    """Find the strongest role among memberships that have not expired; None if there is none.

    A role in a group holds in everything below it, and a weaker one further down takes nothing away, as in GitLab.
    """
    return max((member.role for member in members if member.is_active(now)), default=None)


def check_membership(user: str, role: Role, where: PathEntry, inherited: Sequence[tuple[str, Role]]) -> None:
    """Check that a membership adds something to what a user has from above, as GitLab does.

    `inherited`: paths of the nodes above with the role that the user has there now; the owner of a namespace is owner
    there. Raises MembershipRefused.
    """
    if where.key.kind is NodeKind.USER:
        raise MembershipRefused(f"the namespace of user {where.path!r} has no members: add them to a project in it")
    if not inherited:
        return
    source, strongest = max(inherited, key=lambda pair: pair[1])
    if role < strongest:
        raise MembershipRefused(
            f"user {user!r} is {strongest.word} of {source!r}, which holds in {where.path!r} too: "
            f"{role.word} would take nothing away; choose at least {strongest.word}, or change the role in {source!r}"
        )


def unknown_member(user: str, path: str, inherited: Sequence[str]) -> MemberUnknown:
    """The error for a user who is no member of a node itself. `inherited`: paths of the nodes above with the user."""
    if inherited:
        above = " and ".join(map(repr, inherited))
        return MemberUnknown(f"user {user!r} is a member of {path!r} only by way of {above}: change the role there")
    return MemberUnknown(f"user {user!r} is not a member of {path!r}")
