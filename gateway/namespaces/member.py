"""Member: a user's role in a group or project, which holds for everything below it, until it expires."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from gateway.namespaces.node import NodeKey
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
