"""Who takes turns: a person with all tokens, the node of deploy tokens, and the site of an anonymous client."""

from datetime import UTC, datetime

from gateway.auth.principal import ANONYMOUS, Principal, PrincipalKind, principal_of
from gateway.auth.requester import requester_of
from gateway.namespaces.credentials import CredentialKind, CredentialRef, DeployToken
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.user import User

NOW = datetime(2025, 3, 4, tzinfo=UTC)


def deploy_token(number: int, project: int) -> Principal:
    node = NodeKey(NodeKind.PROJECT, project)
    token = DeployToken(number, node, "ci", f"token-{number}", frozenset(), NOW)
    return principal_of(token.ref, token, None)


def test_all_credentials_of_a_person_take_turns_together() -> None:
    user = User(7, "alice", None, False, False, False, None, None, NOW)
    found = [
        requester_of(Principal(kind, "alice", user, None, CredentialRef(of, number)))
        for kind, of, number in (
            (PrincipalKind.USER, CredentialKind.PASSWORD, 7),
            (PrincipalKind.PERSONAL_TOKEN, CredentialKind.PERSONAL_TOKEN, 1),
            (PrincipalKind.PERSONAL_TOKEN, CredentialKind.PERSONAL_TOKEN, 2),
        )
    ]
    assert len({who.group for who in found}) == 1
    assert len({who.client for who in found}) == 3
    job = Principal(
        PrincipalKind.DEPLOY_TOKEN, "token", None, None, CredentialRef(CredentialKind.JOB_TOKEN, 3), starter=user
    )
    assert requester_of(job).group == found[0].group


def test_the_deploy_tokens_of_a_project_take_turns_together() -> None:
    first, second, other = (requester_of(deploy_token(*numbers)) for numbers in ((1, 5), (2, 5), (3, 7)))
    assert first.group == second.group != other.group
    assert first.client != second.client


def test_anonymous_clients_of_a_site_take_turns_together() -> None:
    first, second, other = (requester_of(ANONYMOUS, address) for address in ("2001:db8::1", "2001:db8:0:9::1", "::2"))
    assert first.group == second.group != other.group
    assert first.client != second.client
