"""Who may pull through a group: the whole table."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.auth.permissions import Action, Decision, DependencyProxyTarget, decide
from gateway.auth.principal import ANONYMOUS
from gateway.namespaces.group import Group
from gateway.namespaces.node import Visibility

GROUP = Group(
    id=1,
    path="team/images",
    visibility=Visibility.PUBLIC,
    proxy_enabled=True,
    anonymous_pull=True,
    default_upstream="docker.io",
    upstream_username=None,
    upstream_password_sealed=None,
    created_at=datetime(2025, 1, 2, tzinfo=UTC),
)


NOW = datetime(2025, 3, 4, tzinfo=UTC)


def decide_pull(group: Group, open_proxy: bool) -> Decision:
    return decide(ANONYMOUS, Action.PULL, DependencyProxyTarget(group, open_proxy), NOW)


@pytest.mark.parametrize(
    ("anonymous_pull", "open_proxy", "allowed", "says"),
    [
        (True, True, True, "anonymous pull"),
        (True, False, False, "allow_open_proxy = true"),
        (False, True, False, "requires a login"),
        (False, False, False, "requires a login"),
    ],
)
def test_a_stranger_may_pull(anonymous_pull: bool, open_proxy: bool, allowed: bool, says: str) -> None:
    group = replace(GROUP, anonymous_pull=anonymous_pull)
    decision = decide_pull(group, open_proxy)
    assert decision.allowed is allowed
    assert says in decision.reason


@pytest.mark.parametrize("visibility", Visibility)
@pytest.mark.parametrize("anonymous_pull", [True, False])
def test_what_counts_is_anonymous_pull_and_not_what_may_be_seen(visibility: Visibility, anonymous_pull: bool) -> None:
    group = replace(GROUP, visibility=visibility, anonymous_pull=anonymous_pull)
    assert decide_pull(group, True).allowed is anonymous_pull


@pytest.mark.parametrize("anonymous_pull", [True, False])
def test_a_refusal_names_the_group(anonymous_pull: bool) -> None:
    decision = decide_pull(replace(GROUP, anonymous_pull=anonymous_pull), False)
    assert not decision.allowed
    assert "'team/images'" in decision.reason


@pytest.mark.parametrize("action", [Action.PUSH, Action.DELETE])
def test_nobody_writes_through_a_dependency_proxy(action: Action) -> None:
    decision = decide(ANONYMOUS, action, DependencyProxyTarget(GROUP, open_proxy=True), NOW)
    assert not decision.allowed
    assert not decision.supported
    assert "can only be pulled" in decision.reason


@pytest.mark.parametrize("action", list(Action))
def test_who_may_not_pull_is_told_that_whatever_the_action(action: Action) -> None:
    target = DependencyProxyTarget(replace(GROUP, anonymous_pull=False), open_proxy=True)
    decision = decide(ANONYMOUS, action, target, NOW)
    assert (decision.allowed, decision.supported) == (False, True)
