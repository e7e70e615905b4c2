"""Permissions: whether a principal may do something. Pure; every decision has a reason."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from gateway.auth.principal import Principal, PrincipalKind
from gateway.namespaces.group import Group


class Action(Enum):
    """Kind of access to a repository."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a permission check; `reason` is a sentence for the log and for people.

    `supported`: false where nobody may do it, whatever their permissions.
    """

    allowed: bool
    reason: str
    supported: bool = True


@dataclass(frozen=True, slots=True)
class DependencyProxyTarget:
    """The dependency proxy of a group, at one server.

    `open_proxy`: whether this server may serve anonymous pulls. It is decided by its addresses and settings; the
    address of a client has no influence, because behind a reverse proxy all clients share one address.
    """

    group: Group
    open_proxy: bool


PULL_ONLY = "images of an upstream can only be pulled"

_ANONYMOUS_PULL = Decision(True, "the group allows anonymous pull")


def decide(principal: Principal, action: Action, target: DependencyProxyTarget, now: datetime) -> Decision:
    """Decide whether a principal may do something at a time, which matters where membership or a token expires.

    A principal that may not even pull learns only that, and not whether the action is supported.
    """
    group = target.group
    if principal.kind is PrincipalKind.ANONYMOUS and not group.anonymous_pull:
        return Decision(False, f"group {group.path!r} requires a login, which this server does not offer yet")
    if principal.kind is PrincipalKind.ANONYMOUS and not target.open_proxy:
        return Decision(
            False,
            f"group {group.path!r} allows anonymous pull, but this server is reached beyond its own machine: "
            "set allow_open_proxy = true if everybody who reaches it may pull",
        )
    if action is not Action.PULL:
        return Decision(False, PULL_ONLY, supported=False)
    return _ANONYMOUS_PULL
