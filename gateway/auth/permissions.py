"""Permissions: whether a principal may do something. Pure; every decision has a reason that names its rule.

`decide` is given all that it needs: the principal as it is now, the target with the nodes on the way to it, and the
principal's memberships on that way. Nothing is remembered between two decisions, so that what changes in the tree, or
ends by the clock, counts from the next request on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache

from cache.oci.errors import RefusalReason
from gateway.auth.matrix import (
    CHANGING_SCOPES,
    CREATE,
    DEPLOY_SCOPES,
    GROUP_PULL,
    GROUP_ROLES,
    JOB_ROLES,
    KNOWS,
    PERSONAL_SCOPES,
    PULL,
    READING_SCOPES,
    ROLES,
    SETTINGS,
    Action,
    Audience,
    Cell,
    Requirement,
)
from gateway.auth.principal import Principal, PrincipalKind, describe
from gateway.auth.protection import UNGUARDED, TagGuard, find_closed, push_refusal
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import DeployToken, Job, JobDeployToken, PersonalToken
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.group import Group
from gateway.namespaces.member import Member, strongest_role
from gateway.namespaces.node import NodeKey, NodeKind, Visibility, Way
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.protection import NO_LEVEL, UNPROTECTED, Protection, ProtectionLevel
from gateway.namespaces.role import Role
from gateway.namespaces.user import User


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

_GROUP_VERBS = {Action.ADMIN: "administer", Action.OWN: "administer", Action.TOKENS: "see its tokens"}

PULL_ONLY = "images of an upstream can only be pulled"


def decide(principal: Principal, action: Action, target: Target, now: datetime) -> Decision:
    """Decide whether a principal may do something at a time, which matters where membership or a token expires.

    A principal that may not know of the target learns only that, and not whether the action is supported. The list of a
    Bearer token is asked last: it takes away what is allowed without it, and gives nothing.
    """
    lapsed = lapse_of(principal, now)
    if lapsed:
        return Decision(False, lapsed, Refusal.LOGIN)
    match target:
        case AbsentTarget(name):
            return _hide(principal, f"there is nothing at {name!r}")
        case ProjectTarget():
            decision = _decide_project(principal, action, target, now)
            if decision.allowed and action is Action.PUSH:
                decision = _unless_protected(decision, principal, target, now)
        case DependencyProxyTarget():
            decision = _decide_proxy(principal, action, target, now)
    if decision.allowed and principal.limits is not None:
        beyond = beyond_limits(principal, action, target.name, now)
        if beyond:
            return Decision(False, beyond, Refusal.LOGIN)
    return decision


def guard_at(principal: Principal, target: ProjectTarget, now: datetime) -> TagGuard:
    """What the rules for tags keep a principal from doing in a project, beside its permissions."""
    if not target.protection.of_tags:
        return UNGUARDED
    return TagGuard(target.protection, level_at(principal, target, now))


def level_at(principal: Principal, target: ProjectTarget, now: datetime) -> int:
    """The level by which protection rules judge a principal: no deploy token has one."""
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return NO_LEVEL
    person = _person_at_project(principal, target, now)
    return ProtectionLevel.ADMIN if person.admin else person.role or NO_LEVEL


def _unless_protected(allowed: Decision, principal: Principal, target: ProjectTarget, now: datetime) -> Decision:
    """The decision about a push that permissions allow, by the rules for the repository."""
    if not target.protection.of_repositories:
        return allowed
    rule = find_closed(target.protection, target.below, level_at(principal, target, now))
    if rule is None or rule.push is None:
        return allowed
    reason = push_refusal(f"{target.project.path}{target.below}", rule, rule.push)
    return Decision(False, reason, Refusal.DENIED, RefusalReason.PROTECTED)


def decide_creation(principal: Principal, way: Way, standing: Standing, name: str, now: datetime) -> Decision:
    """Decide whether a push to a name may create the project that it lacks in a group or a user's namespace.

    `way`: the way to that. Only people do so, by a password or a personal token: jobs and deploy tokens belong to
    projects and groups that exist.
    """
    if lapsed := lapse_of(principal, now):
        return Decision(False, lapsed, Refusal.LOGIN)
    who, rule = describe(principal), f"{_words((CREATE,))}, here or above, may create a project by a push"
    if principal.kind not in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN):
        return Decision(False, f"{who} may create no project by a push: only people may", Refusal.DENIED)
    if not _person_at(principal.user, way, standing.members, now).meets((CREATE,)):
        return _deny(principal, f"{who} may not create what {name!r} lacks: {rule}")
    if too_narrow := _missing_scope(principal, Action.PUSH):
        return Decision(False, too_narrow, Refusal.DENIED)
    if beyond := beyond_limits(principal, Action.PUSH, name, now):
        return Decision(False, beyond, Refusal.LOGIN)
    return Decision(True, f"{who}: {rule}")


def lapse_of(principal: Principal, now: datetime) -> str:
    """Why a principal's credential is worth nothing any more; empty where it is valid."""
    person = principal.user or principal.starter
    if person is not None and person.blocked:
        return f"user {person.name!r} is blocked"
    ending = principal.credential and find_ending(principal.credential, now)
    return f"{describe(principal)} {ending}" if ending else ""


def beyond_limits(principal: Principal, action: Action, name: str, now: datetime) -> str:
    """Why the list of the Bearer token does not cover an action; empty where it does."""
    limits = principal.limits
    if limits is None:
        return ""
    if limits.expires_at <= now:
        return f"the Bearer token expired at {format_moment(limits.expires_at)}"
    listed = limits.actions.get(name, frozenset())
    covered = action.value in listed or ("*" in listed and action in (Action.PULL, Action.PUSH, Action.DELETE))
    return "" if covered else f"the Bearer token does not list {action.value} of {name!r}"


# Projects


def _decide_project(principal: Principal, action: Action, target: ProjectTarget, now: datetime) -> Decision:
    project = target.project
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        in_reach = _token_reaches(principal, target.way)
        knows = in_reach or _everybody(KNOWS[project.visibility])
    else:
        person = _person_at_project(principal, target, now)
        knows = person.meets(KNOWS[project.visibility])
    refused = _refuse_job(principal, action, target) if principal.kind is PrincipalKind.JOB_TOKEN else None
    if principal.kind is PrincipalKind.ID_TOKEN and action in SETTINGS:
        reason = f"{describe(principal)} may not administer: no login by an ID token may"
        refused = Decision(False, reason, Refusal.DENIED)
    if not knows:
        reason = f"project {project.path!r} is {project.visibility}, and {describe(principal)} has no part in it"
        unlisted = _list_hint(principal, target, KNOWS[project.visibility], now)
        return _hide(principal, refused.reason if refused else unlisted or reason)
    if action is Action.KNOW:
        return _decide_knowledge(principal, f"project {project.path!r}", project.visibility)
    if action not in SETTINGS and project.registry is RegistryAccess.DISABLED:
        reason = f"the container registry of project {project.path!r} is disabled, for administrators too"
        return Decision(False, reason, Refusal.DENIED)
    cell = PULL[project.visibility, project.registry]
    if action is Action.PULL and _everybody(cell):
        return Decision(True, f"project {project.path!r} is {project.visibility}: {_words(cell)} may pull")
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return _decide_deploy_token(principal, action, f"project {project.path!r}", in_reach)
    if refused is not None:
        return refused
    return _decide_person(principal, action, target, person, now)


def _decide_knowledge(principal: Principal, place: str, visibility: Visibility) -> Decision:
    """Decide about what the principal may know of, as far as its token is for that; no deploy token is."""
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return Decision(False, f"{describe(principal)} may not look at {place}: no deploy token may", Refusal.DENIED)
    if too_narrow := _missing_scope(principal, Action.KNOW):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, f"{describe(principal)} may know of {place}, which is {visibility}")


@dataclass(frozen=True, slots=True)
class _Person:
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


def _person_at(user: User | None, way: Way, members: Iterable[Member], now: datetime) -> _Person:
    """A user as a member of the nodes of a way; who has the namespace at its top is the owner of everything below."""
    if user is None:
        return _Person()
    owns = way[:1] == (NodeKey(NodeKind.USER, user.id),)
    own = (member for member in members if member.user_id == user.id and member.node in way)
    return _Person(Role.OWNER if owns else strongest_role(own, now), user.admin, not user.external)


def role_at(principal: Principal, way: Way, members: Iterable[Member], now: datetime) -> Role | None:
    """The role of the person behind a principal at the end of a way; an administrator is an owner everywhere."""
    person = _person_at(principal.user, way, members, now)
    return Role.OWNER if person.admin else person.role


def _person_at_project(principal: Principal, target: ProjectTarget, now: datetime) -> _Person:
    """The person behind a principal; for a job elsewhere without roles, unless the project's list names the job's."""
    person = _person_at(principal.user, target.way, target.standing.members, now)
    if principal.kind is not PrincipalKind.JOB_TOKEN or _is_own_project(principal, target) or _is_listed(target):
        return person
    return _Person(signed_in=person.signed_in)


def _is_own_project(principal: Principal, target: ProjectTarget) -> bool:
    return isinstance(principal.credential, Job) and principal.credential.project_id == target.project.id


def _is_listed(target: ProjectTarget) -> bool:
    """Whether the project allows jobs of the principal's origin, or of every one."""
    return not target.project.limits_jobs or not target.job_allowances.isdisjoint(target.standing.origin)


def _refuse_job(principal: Principal, action: Action, target: ProjectTarget) -> Decision | None:
    """Refuse what no job may do, whoever its user is; None where its user's role decides."""
    path = target.project.path
    if action in SETTINGS:
        return Decision(False, f"{describe(principal)} may not administer: no job may", Refusal.DENIED)
    if _is_own_project(principal, target):
        return None
    if action not in (Action.PULL, Action.KNOW):
        rule = "a job does so in its own project alone, so use a deploy token of that project"
        reason = f"{describe(principal)} may not {action.value} in project {path!r}: {rule}"
        return Decision(False, reason, Refusal.DENIED)
    return None


def _decide_person(
    principal: Principal, action: Action, target: ProjectTarget, person: _Person, now: datetime
) -> Decision:
    """Decide by the role of the person behind a principal, then by the scopes of the token."""
    project, who = target.project, describe(principal)
    place = f"project {project.path!r}"
    if action is Action.PULL:
        cell = PULL[project.visibility, project.registry]
    else:
        roles = JOB_ROLES if principal.kind is PrincipalKind.JOB_TOKEN else ROLES
        cell = (roles[action],)
    rule = f"{_words(cell)} may {action.value}"
    if not person.meets(cell):
        if action is Action.PULL:
            if unlisted := _list_hint(principal, target, cell, now):
                return _deny(principal, unlisted)
            level = " with its registry private" if project.registry is RegistryAccess.PRIVATE else ""
            rule = f"in {project.visibility} {place}{level} {rule}"
        return _deny(principal, f"{who} is {_role_words(person)} of {place}: {rule}")
    if too_narrow := _missing_scope(principal, action):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, f"{who} is {_role_words(person)} of {place}: {rule}")


def _list_hint(principal: Principal, target: ProjectTarget, cell: Cell, now: datetime) -> str:
    """Why a job may not pull from another project, where its user may and only the list of allowed jobs is in the way;
    empty otherwise."""
    job = principal.kind is PrincipalKind.JOB_TOKEN
    if not job or _is_own_project(principal, target) or _is_listed(target):
        return ""
    if not _person_at(principal.user, target.way, target.standing.members, now).meets(cell):
        return ""
    return (
        f"{describe(principal)} may not pull from project {target.project.path!r}, though its user may: the "
        "list of allowed jobs there names neither the project of the job nor a group above it"
    )


# Dependency proxies


def _decide_proxy(principal: Principal, action: Action, target: DependencyProxyTarget, now: datetime) -> Decision:
    if action in SETTINGS:
        return _decide_group_admin(principal, action, target, now)
    if action is Action.KNOW:
        return _decide_group_knowledge(principal, target, now)
    decision = _decide_proxy_pull(principal, target, now)
    if decision.allowed and action is not Action.PULL:
        return Decision(False, PULL_ONLY, Refusal.UNSUPPORTED)
    return decision


def _decide_proxy_pull(principal: Principal, target: DependencyProxyTarget, now: datetime) -> Decision:
    group = target.group
    place = f"group {group.path!r}"
    if group.anonymous_pull:
        if principal.kind is PrincipalKind.ANONYMOUS and not target.open_proxy:
            reason = (
                f"{place} allows anonymous pull, but this server is reached beyond its own machine: "
                "set allow_open_proxy = true if everybody who reaches it may pull"
            )
            return Decision(False, reason, Refusal.DENIED, RefusalReason.OPEN_PROXY)
        return Decision(True, f"{place} allows anonymous pull")
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return _decide_deploy_token_at_proxy(principal, target)
    if principal.kind is PrincipalKind.JOB_TOKEN:
        return _decide_job_at_proxy(principal, target, now)
    person = _person_at(principal.user, target.way, target.standing.members, now)
    who, rule = describe(principal), f"{_words((GROUP_PULL,))}, here or above, may pull"
    reason = f"{who} is {_role_words(person)} of {place}: {rule}"
    known = person.meets(KNOWS[group.visibility])
    return _decide_by_role(principal, Action.PULL, person.meets((GROUP_PULL,)), known, reason)


def _decide_by_role(principal: Principal, action: Action, may: bool, known: bool, reason: str) -> Decision:
    """Decide about a person: `may` by role, within the scopes of a token; `known`: whether the group may be known."""
    if not may:
        return _deny(principal, reason) if known else _hide(principal, reason)
    if too_narrow := _missing_scope(principal, action):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, reason)


def _decide_job_at_proxy(principal: Principal, target: DependencyProxyTarget, now: datetime) -> Decision:
    """Decide about a job: those of projects below the group may pull, as long as the user has a role in the project."""
    group, who = target.group, describe(principal)
    person = _person_at(principal.user, target.standing.origin, target.standing.members, now)
    if _is_below(target) and person.meets((GROUP_PULL,)):
        return Decision(True, f"{who} belongs to a project below group {group.path!r}: its jobs may pull")
    reason = (
        f"{who} has no role in the project of the job any more"
        if _is_below(target)
        else f"{who} belongs to no project below group {group.path!r}: only the jobs of those may pull"
    )
    stranger = _Person(signed_in=person.signed_in)
    return _deny(principal, reason) if stranger.meets(KNOWS[group.visibility]) else _hide(principal, reason)


def _decide_deploy_token_at_proxy(principal: Principal, target: DependencyProxyTarget) -> Decision:
    """Decide about a deploy token: of the group, of a group above it, or of a project below it."""
    token = _deploy_token(principal)
    of_project_below = token is not None and token.node.kind is NodeKind.PROJECT and _is_below(target)
    in_reach = of_project_below or _token_reaches(principal, target.way)
    if not in_reach and not _everybody(KNOWS[target.group.visibility]):
        return _hide(principal, f"{describe(principal)} belongs elsewhere than to group {target.group.path!r}")
    return _decide_deploy_token(principal, Action.PULL, f"group {target.group.path!r}", in_reach)


def _decide_group_admin(principal: Principal, action: Action, target: DependencyProxyTarget, now: datetime) -> Decision:
    group = target.group
    has_person = principal.kind in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN)
    person = _person_at(principal.user if has_person else None, target.way, target.standing.members, now)
    cell: Cell = (GROUP_ROLES[action],)
    rule = f"{_words(cell)}, here or above, may {_GROUP_VERBS[action]}"
    reason = f"{describe(principal)} is {_role_words(person)} of group {group.path!r}: {rule}"
    known = person.meets(KNOWS[group.visibility])
    return _decide_by_role(principal, action, person.meets(cell), known, reason)


def _decide_group_knowledge(principal: Principal, target: DependencyProxyTarget, now: datetime) -> Decision:
    group, place = target.group, f"group {target.group.path!r}"
    has_person = principal.kind is not PrincipalKind.DEPLOY_TOKEN
    person = _person_at(principal.user if has_person else None, target.way, target.standing.members, now)
    if not person.meets(KNOWS[group.visibility]):
        return _hide(principal, f"{place} is {group.visibility}, and {describe(principal)} has no part in it")
    return _decide_knowledge(principal, place, group.visibility)


def _is_below(target: DependencyProxyTarget) -> bool:
    """Whether the node to which the credential belongs is below the group, or is the group."""
    return bool(target.way) and target.way[-1] in target.standing.origin


# Deploy tokens, scopes and words


def _token_reaches(principal: Principal, way: Way) -> bool:
    """Whether a deploy token belongs to a node on the way."""
    token = _deploy_token(principal)
    return token is not None and token.node in way


def _deploy_token(principal: Principal) -> DeployToken | None:
    """The deploy token that a principal presents, by its own secret or by that of a job."""
    match principal.credential:
        case DeployToken() as token:
            return token
        case JobDeployToken(token=token):
            return token
        case _:
            return None


def _decide_deploy_token(principal: Principal, action: Action, place: str, in_reach: bool) -> Decision:
    """Decide by the scopes of a deploy token, which may know of the place."""
    token, who = _deploy_token(principal), describe(principal)
    if not in_reach or token is None:
        return Decision(False, f"{who} belongs elsewhere than to {place}", Refusal.DENIED)
    needed = DEPLOY_SCOPES[action]
    if not needed:
        return Decision(False, f"{who} may not {action.value}: no deploy token may", Refusal.DENIED)
    if needed.isdisjoint(token.scopes):
        return Decision(False, scope_words(who, action.value, token.scopes, needed), Refusal.DENIED)
    return Decision(True, f"{who} belongs to {place} or above it, and its scopes allow {action.value}")


def _missing_scope(principal: Principal, action: Action) -> str:
    """Why the scopes of a personal token do not cover an action; empty for every other principal."""
    token = principal.credential
    if not isinstance(token, PersonalToken) or not PERSONAL_SCOPES[action].isdisjoint(token.scopes):
        return ""
    return scope_words(describe(principal), action.value, token.scopes, PERSONAL_SCOPES[action])


def scope_words(who: str, what: str, scopes: Iterable[str], needed: Iterable[str]) -> str:
    return (
        f"{who} has the scopes {', '.join(sorted(scopes)) or 'none'}, and {what} needs "
        f"{' or '.join(sorted(needed))}: make a token with that scope"
    )


def missing_api_scope(principal: Principal, *, changes: bool) -> str:
    """Why the scopes of a personal token do not cover a request to the REST API, wherever it leads; empty where they do
    or where it has none. `changes`: whether anything is changed by it."""
    token, needed = principal.credential, CHANGING_SCOPES if changes else READING_SCOPES
    if not isinstance(token, PersonalToken) or not needed.isdisjoint(token.scopes):
        return ""
    return scope_words(describe(principal), "a change" if changes else "reading", token.scopes, needed)


def no_administrator(principal: Principal) -> str:
    """Why a principal may not administer a server; empty where it may, as far as its scopes let it."""
    is_person = principal.kind in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN)
    if is_person and principal.user is not None and principal.user.is_active_admin:
        return ""
    return f"{describe(principal)} is no administrator of this server"


def _everybody(cell: Cell) -> bool:
    return Audience.EVERYBODY in cell


@lru_cache(100)
def _words(cell: Cell) -> str:
    """The requirements of a cell, as the subject of a sentence."""
    return " and ".join(
        f"{requirement.word}s and above" if isinstance(requirement, Role) else requirement.value for requirement in cell
    )


def _role_words(person: _Person) -> str:
    if person.admin:
        return "administrator"
    return f"{person.role.word}" if person.role is not None else "no member"


def _hide(principal: Principal, reason: str) -> Decision:
    """Refuse what the principal may not know of."""
    return Decision(False, reason, Refusal.LOGIN if principal.is_anonymous else Refusal.HIDDEN)


def _deny(principal: Principal, reason: str) -> Decision:
    """Refuse what the principal may know of; an anonymous one is asked for a login, which may help."""
    return Decision(False, reason, Refusal.LOGIN if principal.is_anonymous else Refusal.DENIED)


__all__ = ["PULL_ONLY", "AbsentTarget", "Action", "Decision", "DependencyProxyTarget", "ProjectTarget", "Refusal"]
