"""Permissions at the dependency proxy of a group. Pure."""

from datetime import datetime

from cache.oci.errors import RefusalReason
from gateway.auth.decisions import Decision, DependencyProxyTarget, Refusal, deny, hide
from gateway.auth.matrix import GROUP_PULL, GROUP_ROLES, KNOWS, SETTINGS, Action, Cell
from gateway.auth.people import Person, cell_words, everybody, person_at, role_words
from gateway.auth.principal import Principal, PrincipalKind, describe
from gateway.auth.token_limits import (
    decide_deploy_token,
    decide_knowledge,
    deploy_token_of,
    missing_scope,
    token_reaches,
)
from gateway.namespaces.node import NodeKind

_GROUP_VERBS = {Action.ADMIN: "administer", Action.OWN: "administer", Action.TOKENS: "see its tokens"}

PULL_ONLY = "images of an upstream can only be pulled"


def decide_proxy(principal: Principal, action: Action, target: DependencyProxyTarget, now: datetime) -> Decision:
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
    person = person_at(principal.user, target.way, target.standing.members, now)
    who, rule = describe(principal), f"{cell_words((GROUP_PULL,))}, here or above, may pull"
    reason = f"{who} is {role_words(person)} of {place}: {rule}"
    known = person.meets(KNOWS[group.visibility])
    return _decide_by_role(principal, Action.PULL, person.meets((GROUP_PULL,)), known, reason)


def _decide_by_role(principal: Principal, action: Action, may: bool, known: bool, reason: str) -> Decision:
    """Decide about a person: `may` by role, within the scopes of a token; `known`: whether the group may be known."""
    if not may:
        return deny(principal, reason) if known else hide(principal, reason)
    if too_narrow := missing_scope(principal, action):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, reason)


def _decide_job_at_proxy(principal: Principal, target: DependencyProxyTarget, now: datetime) -> Decision:
    """Decide about a job: those of projects below the group may pull, as long as the user has a role in the project."""
    group, who = target.group, describe(principal)
    person = person_at(principal.user, target.standing.origin, target.standing.members, now)
    if _is_below(target) and person.meets((GROUP_PULL,)):
        return Decision(True, f"{who} belongs to a project below group {group.path!r}: its jobs may pull")
    reason = (
        f"{who} has no role in the project of the job any more"
        if _is_below(target)
        else f"{who} belongs to no project below group {group.path!r}: only the jobs of those may pull"
    )
    stranger = Person(signed_in=person.signed_in)
    return deny(principal, reason) if stranger.meets(KNOWS[group.visibility]) else hide(principal, reason)


def _decide_deploy_token_at_proxy(principal: Principal, target: DependencyProxyTarget) -> Decision:
    """Decide about a deploy token: of the group, of a group above it, or of a project below it."""
    token = deploy_token_of(principal)
    of_project_below = token is not None and token.node.kind is NodeKind.PROJECT and _is_below(target)
    in_reach = of_project_below or token_reaches(principal, target.way)
    if not in_reach and not everybody(KNOWS[target.group.visibility]):
        return hide(principal, f"{describe(principal)} belongs elsewhere than to group {target.group.path!r}")
    return decide_deploy_token(principal, Action.PULL, f"group {target.group.path!r}", in_reach)


def _decide_group_admin(principal: Principal, action: Action, target: DependencyProxyTarget, now: datetime) -> Decision:
    group = target.group
    has_person = principal.kind in (PrincipalKind.USER, PrincipalKind.PERSONAL_TOKEN)
    person = person_at(principal.user if has_person else None, target.way, target.standing.members, now)
    cell: Cell = (GROUP_ROLES[action],)
    rule = f"{cell_words(cell)}, here or above, may {_GROUP_VERBS[action]}"
    reason = f"{describe(principal)} is {role_words(person)} of group {group.path!r}: {rule}"
    known = person.meets(KNOWS[group.visibility])
    return _decide_by_role(principal, action, person.meets(cell), known, reason)


def _decide_group_knowledge(principal: Principal, target: DependencyProxyTarget, now: datetime) -> Decision:
    group, place = target.group, f"group {target.group.path!r}"
    has_person = principal.kind is not PrincipalKind.DEPLOY_TOKEN
    person = person_at(principal.user if has_person else None, target.way, target.standing.members, now)
    if not person.meets(KNOWS[group.visibility]):
        return hide(principal, f"{place} is {group.visibility}, and {describe(principal)} has no part in it")
    return decide_knowledge(principal, place, group.visibility)


def _is_below(target: DependencyProxyTarget) -> bool:
    """Whether the node to which the credential belongs is below the group, or is the group."""
    return bool(target.way) and target.way[-1] in target.standing.origin
