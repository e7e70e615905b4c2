"""Who may pull from a virtual registry, decided without a database."""

from dataclasses import replace

import pytest

from gateway.auth.decisions import Refusal
from gateway.auth.principal import ANONYMOUS, AccessList, Principal, PrincipalKind
from gateway.auth.virtual import VirtualTarget, decide_virtual
from gateway.namespaces.credentials import CredentialKind, CredentialRef, DeployToken, Job, PersonalToken, Scope
from gateway.namespaces.node import NodeKey, NodeKind

from .samples import ANN, NOW

GROUP, PROJECT = NodeKey(NodeKind.GROUP, 1), NodeKey(NodeKind.PROJECT, 2)
NAME = "virtual_registries/container/7/library/alpine"
MEMBER, STRANGER = VirtualTarget(NAME, GROUP, True), VirtualTarget(NAME, GROUP, False)


def person(*, admin: bool = False, blocked: bool = False) -> Principal:
    user = replace(ANN, admin=admin, blocked=blocked)
    return Principal(PrincipalKind.USER, "ann", user, None, CredentialRef(CredentialKind.PASSWORD, user.id))


def with_token(*scopes: Scope) -> Principal:
    token = PersonalToken(1, ANN.id, "t", frozenset(scopes), NOW)
    return Principal(PrincipalKind.PERSONAL_TOKEN, "ann", ANN, token, token.ref)


def deploy(node: NodeKey, *scopes: Scope) -> Principal:
    token = DeployToken(1, node, "t", "t", frozenset(scopes), NOW)
    return Principal(PrincipalKind.DEPLOY_TOKEN, "t", None, token, token.ref)


def job() -> Principal:
    token = Job(1, PROJECT.id, ANN.id, None, NOW, NOW.replace(year=NOW.year + 1))
    return Principal(PrincipalKind.JOB_TOKEN, "ann", ANN, token, CredentialRef(CredentialKind.JOB_TOKEN, 1))


@pytest.mark.parametrize(
    ("principal", "target", "refusal"),
    [
        (person(), MEMBER, None),
        (person(admin=True), STRANGER, None),
        (person(), STRANGER, Refusal.HIDDEN),
        (person(blocked=True), MEMBER, Refusal.LOGIN),
        (ANONYMOUS, STRANGER, Refusal.LOGIN),
        (with_token(Scope.API), MEMBER, None),
        (with_token(Scope.READ_VIRTUAL_REGISTRY), MEMBER, None),
        (with_token(Scope.READ_REGISTRY, Scope.WRITE_REGISTRY, Scope.READ_API), MEMBER, Refusal.DENIED),
        (with_token(Scope.API), STRANGER, Refusal.HIDDEN),
        (deploy(GROUP, Scope.READ_VIRTUAL_REGISTRY), STRANGER, None),
        (deploy(GROUP, Scope.READ_REGISTRY), STRANGER, Refusal.DENIED),
        (deploy(PROJECT, Scope.READ_VIRTUAL_REGISTRY), STRANGER, Refusal.HIDDEN),
        (job(), replace(MEMBER, origin=(GROUP, PROJECT)), None),
        (job(), replace(STRANGER, origin=(GROUP, PROJECT)), Refusal.HIDDEN),
        (job(), replace(MEMBER, origin=(NodeKey(NodeKind.GROUP, 9), PROJECT)), Refusal.HIDDEN),
    ],
)
def test_members_of_the_group_and_its_tokens_may_pull(
    principal: Principal, target: VirtualTarget, refusal: Refusal | None
) -> None:
    decision = decide_virtual(principal, target, NOW)
    assert (decision.allowed, decision.refusal) == (refusal is None, refusal), decision.reason


def test_a_bearer_token_must_list_the_image() -> None:
    later = NOW.replace(year=NOW.year + 1)
    listed = AccessList({NAME: frozenset({"pull"})}, later)
    other = AccessList({f"{NAME}-else": frozenset({"pull"})}, later)
    assert decide_virtual(replace(person(), limits=listed), MEMBER, NOW).allowed
    assert decide_virtual(replace(person(), limits=other), MEMBER, NOW).refusal is Refusal.LOGIN
