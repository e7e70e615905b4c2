"""Decisions about virtual registries, whose rights are those of their groups; pure."""

from dataclasses import dataclass
from datetime import datetime

from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import VIRTUAL_SCOPES, Action
from gateway.auth.principal import Principal, PrincipalKind, describe
from gateway.auth.token_limits import beyond_limits, lapse_of, scope_words
from gateway.namespaces.credentials import DeployToken, JobDeployToken, PersonalToken, Scope
from gateway.namespaces.node import NodeKey, Way

_PULL = "pull from a virtual registry"


@dataclass(frozen=True, slots=True)
class VirtualTarget:
    """All that a decision about a virtual registry depends on.

    `name`: as a Bearer token lists it. `group`: that has the registry. `is_member`: whether the principal's person has
    a role in the group, or in anything in it. `origin`: the way to the node to which the principal's token belongs.
    """

    name: str
    group: NodeKey
    is_member: bool
    origin: Way = ()


def decide_virtual(principal: Principal, target: VirtualTarget, now: datetime) -> Decision:
    """Decide whether a principal may pull from a virtual registry. Nobody does without a login: it may have an account
    at an upstream, and would be an open proxy."""
    if lapsed := lapse_of(principal, now):
        return Decision(False, lapsed, Refusal.LOGIN)
    decision = _decide(principal, target)
    if decision.allowed and (beyond := beyond_limits(principal, Action.PULL, target.name, now)):
        return Decision(False, beyond, Refusal.LOGIN)
    return decision


def _decide(principal: Principal, target: VirtualTarget) -> Decision:
    who = describe(principal)
    if principal.is_anonymous:
        return Decision(False, "a virtual registry needs a login", Refusal.LOGIN)
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return _decide_deploy_token(principal, target)
    admin = principal.user is not None and principal.user.is_active_admin
    if not target.is_member and not admin:
        return Decision(False, f"{who} has no role in the group of the virtual registry, or in it", Refusal.HIDDEN)
    if principal.kind is PrincipalKind.JOB_TOKEN and target.group not in target.origin:
        return Decision(False, f"{who} belongs to no project in the group of the virtual registry", Refusal.HIDDEN)
    token = principal.credential
    if isinstance(token, PersonalToken) and VIRTUAL_SCOPES.isdisjoint(token.scopes):
        return Decision(False, scope_words(who, _PULL, token.scopes, VIRTUAL_SCOPES), Refusal.DENIED)
    return Decision(True, f"{who} has a role in the group of the virtual registry, or in it")


def _decide_deploy_token(principal: Principal, target: VirtualTarget) -> Decision:
    credential, who = principal.credential, describe(principal)
    token = credential.token if isinstance(credential, JobDeployToken) else credential
    if not isinstance(token, DeployToken) or token.node != target.group:
        return Decision(False, f"{who} is not of the group of the virtual registry", Refusal.HIDDEN)
    if Scope.READ_VIRTUAL_REGISTRY not in token.scopes:
        needed = [Scope.READ_VIRTUAL_REGISTRY]
        return Decision(False, scope_words(who, _PULL, token.scopes, needed), Refusal.DENIED)
    return Decision(True, f"{who} is of the group of the virtual registry")
