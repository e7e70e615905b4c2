"""Permissions: whether a principal may do something. Pure; every decision has a reason that names its rule.

`decide` is given all that it needs: the principal as it is now, the target with the nodes on the way to it, and the
principal's memberships on that way. Nothing is remembered between two decisions, so that what changes in the tree, or
ends by the clock, counts from the next request on.
"""

from datetime import datetime

from cache.oci.errors import RefusalReason
from gateway.auth.decisions import (
    AbsentTarget,
    Decision,
    DependencyProxyTarget,
    ProjectTarget,
    Refusal,
    Standing,
    Target,
    deny,
    hide,
)
from gateway.auth.matrix import CREATE, JOB_ROLES, KNOWS, PULL, ROLES, SETTINGS, Action, Cell
from gateway.auth.people import Person, cell_words, everybody, person_at, role_words
from gateway.auth.principal import Principal, PrincipalKind, describe
from gateway.auth.protection import UNGUARDED, TagGuard, find_closed, push_refusal
from gateway.auth.proxy_permissions import decide_proxy
from gateway.auth.token_limits import (
    beyond_limits,
    decide_deploy_token,
    decide_knowledge,
    lapse_of,
    missing_scope,
    token_reaches,
)
from gateway.namespaces.credentials import Job
from gateway.namespaces.node import Way
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.protection import NO_LEVEL, ProtectionLevel


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
            return hide(principal, f"there is nothing at {name!r}")
        case ProjectTarget():
            decision = _decide_project(principal, action, target, now)
            if decision.allowed and action is Action.PUSH:
                decision = _unless_protected(decision, principal, target, now)
        case DependencyProxyTarget():
            decision = decide_proxy(principal, action, target, now)
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
    who, rule = describe(principal), f"{cell_words((CREATE,))}, here or above, may create a project by a push"
    if principal.kind not in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN):
        return Decision(False, f"{who} may create no project by a push: only people may", Refusal.DENIED)
    if not person_at(principal.user, way, standing.members, now).meets((CREATE,)):
        return deny(principal, f"{who} may not create what {name!r} lacks: {rule}")
    if too_narrow := missing_scope(principal, Action.PUSH):
        return Decision(False, too_narrow, Refusal.DENIED)
    if beyond := beyond_limits(principal, Action.PUSH, name, now):
        return Decision(False, beyond, Refusal.LOGIN)
    return Decision(True, f"{who}: {rule}")


def no_administrator(principal: Principal) -> str:
    """Why a principal may not administer a server; empty where it may, as far as its scopes let it."""
    is_person = principal.kind in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN)
    if is_person and principal.user is not None and principal.user.is_active_admin:
        return ""
    return f"{describe(principal)} is no administrator of this server"


def _decide_project(principal: Principal, action: Action, target: ProjectTarget, now: datetime) -> Decision:
    project = target.project
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        in_reach = token_reaches(principal, target.way)
        knows = in_reach or everybody(KNOWS[project.visibility])
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
        return hide(principal, refused.reason if refused else unlisted or reason)
    if action is Action.KNOW:
        return decide_knowledge(principal, f"project {project.path!r}", project.visibility)
    if action not in SETTINGS and project.registry is RegistryAccess.DISABLED:
        reason = f"the container registry of project {project.path!r} is disabled, for administrators too"
        return Decision(False, reason, Refusal.DENIED)
    cell = PULL[project.visibility, project.registry]
    if action is Action.PULL and everybody(cell):
        return Decision(True, f"project {project.path!r} is {project.visibility}: {cell_words(cell)} may pull")
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return decide_deploy_token(principal, action, f"project {project.path!r}", in_reach)
    if refused is not None:
        return refused
    return _decide_person(principal, action, target, person, now)


def _person_at_project(principal: Principal, target: ProjectTarget, now: datetime) -> Person:
    """The person behind a principal; for a job elsewhere without roles, unless the project's list names the job's."""
    person = person_at(principal.user, target.way, target.standing.members, now)
    if principal.kind is not PrincipalKind.JOB_TOKEN or _is_own_project(principal, target) or _is_listed(target):
        return person
    return Person(signed_in=person.signed_in)


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
    principal: Principal, action: Action, target: ProjectTarget, person: Person, now: datetime
) -> Decision:
    """Decide by the role of the person behind a principal, then by the scopes of the token."""
    project, who = target.project, describe(principal)
    place = f"project {project.path!r}"
    if action is Action.PULL:
        cell = PULL[project.visibility, project.registry]
    else:
        roles = JOB_ROLES if principal.kind is PrincipalKind.JOB_TOKEN else ROLES
        cell = (roles[action],)
    rule = f"{cell_words(cell)} may {action.value}"
    if not person.meets(cell):
        if action is Action.PULL:
            if unlisted := _list_hint(principal, target, cell, now):
                return deny(principal, unlisted)
            level = " with its registry private" if project.registry is RegistryAccess.PRIVATE else ""
            rule = f"in {project.visibility} {place}{level} {rule}"
        return deny(principal, f"{who} is {role_words(person)} of {place}: {rule}")
    if too_narrow := missing_scope(principal, action):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, f"{who} is {role_words(person)} of {place}: {rule}")


def _list_hint(principal: Principal, target: ProjectTarget, cell: Cell, now: datetime) -> str:
    """Why a job may not pull from another project, where its user may and only the list of allowed jobs is in the way;
    empty otherwise."""
    job = principal.kind is PrincipalKind.JOB_TOKEN
    if not job or _is_own_project(principal, target) or _is_listed(target):
        return ""
    if not person_at(principal.user, target.way, target.standing.members, now).meets(cell):
        return ""
    return (
        f"{describe(principal)} may not pull from project {target.project.path!r}, though its user may: the "
        "list of allowed jobs there names neither the project of the job nor a group above it"
    )
