"""Decisions about permissions, and the targets that they are about, as one principal stands to them."""

from dataclasses import dataclass
from enum import Enum

from cache.oci.errors import RefusalReason
from gateway.auth.principal import Principal
from gateway.namespaces.group import Group
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, Way
from gateway.namespaces.project import Project
from gateway.namespaces.protection import UNPROTECTED, Protection


class Refusal(Enum):
    """Form in which a client sees a refusal."""

    HIDDEN = "hidden"
    """As a name that does not exist: 404."""
    LOGIN = "login"
    """As a challenge, since another credential or token may help: 401. To an anonymous principal a name that does not
    exist shows the same."""
    DENIED = "denied"
    """With its reason, to a principal that may know of the target: 403."""
    UNSUPPORTED = "unsupported"
    """With its reason, because nobody may do it whatever their permissions: 405."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a permission check.

    `reason`: a sentence for the log and for people that names the rule; only a DENIED or UNSUPPORTED one is for the
    client too. `refusal`: None exactly where it is allowed. `counted_as`: of a DENIED one.
    """

    allowed: bool
    reason: str
    refusal: Refusal | None = None
    counted_as: RefusalReason = RefusalReason.DENIED


@dataclass(frozen=True, slots=True)
class Standing:
    """All that the tree says about one principal at one target.

    `members`: the memberships of the principal's user on `way`, and for a job on `origin` too. `origin`: the way to the
    node to which a deploy token or a job belongs; empty for other principals, and where that node is gone.
    """

    members: tuple[Member, ...] = ()
    origin: Way = ()


@dataclass(frozen=True, slots=True)
class ProjectTarget:
    """A project, or a repository in it, as one principal stands to it.

    `name`: the canonical name by which the list of a Bearer token names it. `job_allowances`: projects, and groups with
    everything below them, whose jobs may pull from it. `below`: what follows the path of the project in that of the
    repository, by which `protection` knows it.
    """

    name: str
    project: Project
    way: Way
    standing: Standing = Standing()
    job_allowances: frozenset[NodeKey] = frozenset()
    protection: Protection = UNPROTECTED
    below: str = ""


@dataclass(frozen=True, slots=True)
class DependencyProxyTarget:
    """The dependency proxy of a group at one server, or an image below it, as one principal stands to it.

    `open_proxy`: whether this server may serve anonymous pulls. It is decided by its addresses and settings; the
    address of a client has no influence, because behind a reverse proxy all clients share one address. `name`: as in
    ProjectTarget.
    """

    name: str
    group: Group
    way: Way
    open_proxy: bool
    standing: Standing = Standing()


@dataclass(frozen=True, slots=True)
class AbsentTarget:
    """A name that leads to no project and no group; refused in exactly the way in which a hidden one is."""

    name: str


Target = ProjectTarget | DependencyProxyTarget | AbsentTarget


def hide(principal: Principal, reason: str) -> Decision:
    """Refuse what the principal may not know of."""
    return Decision(False, reason, Refusal.LOGIN if principal.is_anonymous else Refusal.HIDDEN)


def deny(principal: Principal, reason: str) -> Decision:
    """Refuse what the principal may know of; an anonymous one is asked for a login, which may help."""
    return Decision(False, reason, Refusal.LOGIN if principal.is_anonymous else Refusal.DENIED)
