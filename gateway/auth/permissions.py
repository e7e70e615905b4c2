"""Who may do what; pure, and every answer says why."""

from dataclasses import dataclass
from enum import Enum

from gateway.auth.principal import Kind, Principal
from gateway.namespaces.group import Group


class Action(Enum):
    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str


def decide_pull(principal: Principal, group: Group, *, open_proxy: bool) -> Decision:
    """Whether somebody may pull through a group's dependency proxy.

    `open_proxy`: whether this server may serve strangers at all. It is a fact of its addresses and settings; where a
    client connects from says nothing, since behind a reverse proxy all clients come from one place.
    """
    if principal.kind is Kind.ANONYMOUS and not group.anonymous_pull:
        return Decision(False, f"group {group.path!r} asks for a login, and this server has none yet")
    if principal.kind is Kind.ANONYMOUS and not open_proxy:
        return Decision(
            False,
            f"group {group.path!r} allows anonymous pull, but this server is reached beyond its own machine: "
            "set allow_open_proxy = true if everybody who reaches it may pull",
        )
    return Decision(True, "the group allows anonymous pull")
