"""People as the tables of rights see them: by role, as administrators, or as signed in at all."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from gateway.auth.matrix import Audience, Cell, Requirement
from gateway.auth.principal import Principal
from gateway.namespaces.member import Member, strongest_role
from gateway.namespaces.node import NodeKey, NodeKind, Way
from gateway.namespaces.role import Role
from gateway.namespaces.user import User


@dataclass(frozen=True, slots=True)
class Person:
    """Facts by which the tables decide; `signed_in` is false for an external user as well as for nobody."""

    role: Role | None = None
    admin: bool = False
    signed_in: bool = False

    def meets(self, cell: Cell) -> bool:
        return self.admin or any(self._meets(requirement) for requirement in cell)

    def _meets(self, requirement: Requirement) -> bool:
        match requirement:
            case Audience.EVERYBODY:
                return True
            case Audience.SIGNED_IN:
                return self.signed_in
            case Role():
                return self.role is not None and self.role >= requirement


def person_at(user: User | None, way: Way, members: Iterable[Member], now: datetime) -> Person:
    """A user as a member of the nodes of a way; who has the namespace at its top is the owner of everything below."""
    if user is None:
        return Person()
    owns = way[:1] == (NodeKey(NodeKind.USER, user.id),)
    own = (member for member in members if member.user_id == user.id and member.node in way)
    return Person(Role.OWNER if owns else strongest_role(own, now), user.admin, not user.external)


def role_at(principal: Principal, way: Way, members: Iterable[Member], now: datetime) -> Role | None:
    """The role of the person behind a principal at the end of a way; an administrator is an owner everywhere."""
    person = person_at(principal.user, way, members, now)
    return Role.OWNER if person.admin else person.role


def everybody(cell: Cell) -> bool:
    return Audience.EVERYBODY in cell


@lru_cache(100)
def cell_words(cell: Cell) -> str:
    """The requirements of a cell, as the subject of a sentence."""
    return " and ".join(
        f"{requirement.word}s and above" if isinstance(requirement, Role) else requirement.value for requirement in cell
    )


def role_words(person: Person) -> str:
    if person.admin:
        return "administrator"
    return f"{person.role.word}" if person.role is not None else "no member"
