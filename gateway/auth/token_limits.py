"""What narrows a principal beside its role: the end, the scopes, the reach and the list of its credential. Pure."""

from collections.abc import Iterable
from datetime import datetime

from gateway.auth.decisions import Decision, Refusal
from gateway.auth.matrix import CHANGING_SCOPES, DEPLOY_SCOPES, PERSONAL_SCOPES, READING_SCOPES, Action
from gateway.auth.principal import Principal, PrincipalKind, describe
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import DeployToken, JobDeployToken, PersonalToken
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.node import Visibility, Way


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


def token_reaches(principal: Principal, way: Way) -> bool:
    """Whether a deploy token belongs to a node on the way."""
    token = deploy_token_of(principal)
    return token is not None and token.node in way


def deploy_token_of(principal: Principal) -> DeployToken | None:
    """The deploy token that a principal presents, by its own secret or by that of a job."""
    match principal.credential:
        case DeployToken() as token:
            return token
        case JobDeployToken(token=token):
            return token
        case _:
            return None


def decide_deploy_token(principal: Principal, action: Action, place: str, in_reach: bool) -> Decision:
    """Decide by the scopes of a deploy token, which may know of the place."""
    token, who = deploy_token_of(principal), describe(principal)
    if not in_reach or token is None:
        return Decision(False, f"{who} belongs elsewhere than to {place}", Refusal.DENIED)
    needed = DEPLOY_SCOPES[action]
    if not needed:
        return Decision(False, f"{who} may not {action.value}: no deploy token may", Refusal.DENIED)
    if needed.isdisjoint(token.scopes):
        return Decision(False, scope_words(who, action.value, token.scopes, needed), Refusal.DENIED)
    return Decision(True, f"{who} belongs to {place} or above it, and its scopes allow {action.value}")


def decide_knowledge(principal: Principal, place: str, visibility: Visibility) -> Decision:
    """Decide about what the principal may know of, as far as its token is for that; no deploy token is."""
    if principal.kind is PrincipalKind.DEPLOY_TOKEN:
        return Decision(False, f"{describe(principal)} may not look at {place}: no deploy token may", Refusal.DENIED)
    if too_narrow := missing_scope(principal, Action.KNOW):
        return Decision(False, too_narrow, Refusal.DENIED)
    return Decision(True, f"{describe(principal)} may know of {place}, which is {visibility}")


def missing_scope(principal: Principal, action: Action) -> str:
    """Why the scopes of a personal token do not cover an action; empty for every other principal."""
    token = principal.credential
    if not isinstance(token, PersonalToken) or not PERSONAL_SCOPES[action].isdisjoint(token.scopes):
        return ""
    return scope_words(describe(principal), action.value, token.scopes, PERSONAL_SCOPES[action])


def missing_api_scope(principal: Principal, *, changes: bool) -> str:
    """Why the scopes of a personal token do not cover a request to the REST API, wherever it leads; empty where they do
    or where it has none. `changes`: whether anything is changed by it."""
    token, needed = principal.credential, CHANGING_SCOPES if changes else READING_SCOPES
    if not isinstance(token, PersonalToken) or not needed.isdisjoint(token.scopes):
        return ""
    return scope_words(describe(principal), "a change" if changes else "reading", token.scopes, needed)


def scope_words(who: str, what: str, scopes: Iterable[str], needed: Iterable[str]) -> str:
    return (
        f"{who} has the scopes {', '.join(sorted(scopes)) or 'none'}, and {what} needs "
        f"{' or '.join(sorted(needed))}: make a token with that scope"
    )
