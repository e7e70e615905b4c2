"""Who may do what: every cell of the tables, as the user guide has them, and what a refusal shows."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.auth.decisions import AbsentTarget, Decision, Refusal
from gateway.auth.matrix import Action
from gateway.auth.permissions import decide, no_administrator
from gateway.auth.principal import ANONYMOUS, AccessList, Principal
from gateway.auth.token_limits import missing_api_scope
from gateway.namespaces.credentials import Scope
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User
from tests.gateway.auth.samples import (
    ANN,
    ELSEWHERE,
    HOUR,
    INNER,
    NOW,
    OTHER_PROJECT,
    OTHER_WAY,
    OUTER,
    PROJECT,
    WAY,
    deployer,
    holder,
    job,
    member,
    person,
    project_target,
    proxy_target,
)

NEEDS_A_ROLE = [action for action in Action if action is not Action.KNOW]
OUTCOMES = {None: "yes", Refusal.HIDDEN: "404", Refusal.LOGIN: "401", Refusal.DENIED: "403", Refusal.UNSUPPORTED: "405"}
EXTERNAL = replace(ANN, external=True)
ADMIN = replace(ANN, admin=True)


def outcome(decision: Decision) -> str:
    """The outcome in the words of the tables below."""
    assert decision.allowed is (decision.refusal is None)
    assert len(decision.reason.split()) > 2
    return OUTCOMES[decision.refusal]


def shows(principal: Principal, action: Action, target: Any) -> str:
    return outcome(decide(principal, action, target, NOW))


# Columns: nobody, external user, other user, guest, external guest, reporter, developer, maintainer, owner,
# administrator
PULLS = """
public   enabled   yes yes yes yes yes yes yes yes yes yes
public   private   401 403 403 403 403 yes yes yes yes yes
public   disabled  403 403 403 403 403 403 403 403 403 403
internal enabled   401 404 yes yes 403 yes yes yes yes yes
internal private   401 404 403 403 403 yes yes yes yes yes
internal disabled  401 404 403 403 403 403 403 403 403 403
private  enabled   401 404 404 403 403 yes yes yes yes yes
private  private   401 404 404 403 403 yes yes yes yes yes
private  disabled  401 404 404 403 403 403 403 403 403 403
"""
PUSHES = """
public   enabled   401 403 403 403 403 403 yes yes yes yes
public   private   401 403 403 403 403 403 yes yes yes yes
public   disabled  403 403 403 403 403 403 403 403 403 403
internal enabled   401 404 403 403 403 403 yes yes yes yes
internal private   401 404 403 403 403 403 yes yes yes yes
internal disabled  401 404 403 403 403 403 403 403 403 403
private  enabled   401 404 404 403 403 403 yes yes yes yes
private  private   401 404 404 403 403 403 yes yes yes yes
private  disabled  401 404 404 403 403 403 403 403 403 403
"""
DELETIONS = """
public   enabled   401 403 403 403 403 403 403 yes yes yes
public   private   401 403 403 403 403 403 403 yes yes yes
public   disabled  403 403 403 403 403 403 403 403 403 403
internal enabled   401 404 403 403 403 403 403 yes yes yes
internal private   401 404 403 403 403 403 403 yes yes yes
internal disabled  401 404 403 403 403 403 403 403 403 403
private  enabled   401 404 404 403 403 403 403 yes yes yes
private  private   401 404 404 403 403 403 403 yes yes yes
private  disabled  401 404 404 403 403 403 403 403 403 403
"""
ADMINISTRATION = """
public   enabled   401 403 403 403 403 403 403 yes yes yes
public   disabled  401 403 403 403 403 403 403 yes yes yes
internal private   401 404 403 403 403 403 403 yes yes yes
internal disabled  401 404 403 403 403 403 403 yes yes yes
private  enabled   401 404 404 403 403 403 403 yes yes yes
private  disabled  401 404 404 403 403 403 403 yes yes yes
"""
COLUMNS: list[tuple[str, Principal, Role | None]] = [
    ("nobody", ANONYMOUS, None),
    ("external", person(EXTERNAL), None),
    ("user", person(), None),
    ("guest", person(), Role.GUEST),
    ("external guest", person(EXTERNAL), Role.GUEST),
    ("reporter", person(), Role.REPORTER),
    ("developer", person(), Role.DEVELOPER),
    ("maintainer", person(), Role.MAINTAINER),
    ("owner", person(), Role.OWNER),
    ("administrator", person(ADMIN), None),
]
KNOWLEDGE = """
public   enabled   yes yes yes yes yes yes yes yes yes yes
public   disabled  yes yes yes yes yes yes yes yes yes yes
internal private   401 404 yes yes yes yes yes yes yes yes
internal disabled  401 404 yes yes yes yes yes yes yes yes
private  enabled   401 404 404 yes yes yes yes yes yes yes
private  disabled  401 404 404 yes yes yes yes yes yes yes
"""
TABLES = {
    Action.PULL: PULLS,
    Action.PUSH: PUSHES,
    Action.DELETE: DELETIONS,
    Action.ADMIN: ADMINISTRATION,
    Action.KNOW: KNOWLEDGE,
    Action.DELETE_TAG: PUSHES,
    Action.MANAGE: DELETIONS,
    Action.TOKENS: ADMINISTRATION,
}


def cells() -> list[Any]:
    found = []
    for action, table in TABLES.items():
        for line in table.strip().splitlines():
            visibility, registry, *expected = line.split()
            for (title, principal, role), wanted in zip(COLUMNS, expected, strict=True):
                name = f"{action.value} {visibility} {registry} {title}"
                found.append(
                    pytest.param(
                        action, Visibility(visibility), RegistryAccess(registry), principal, role, wanted, id=name
                    )
                )
    return found


@pytest.mark.parametrize("node", [OUTER, INNER, PROJECT], ids=str)
@pytest.mark.parametrize(("action", "visibility", "registry", "principal", "role", "wanted"), cells())
def test_every_cell_of_a_project(
    action: Action,
    visibility: Visibility,
    registry: RegistryAccess,
    principal: Principal,
    role: Role | None,
    wanted: str,
    node: NodeKey,
) -> None:
    """A role in a group above counts like one in the project itself."""
    members = [member(node, role)] if role else []
    assert shows(principal, action, project_target(visibility, registry, *members)) == wanted


@pytest.mark.parametrize("action", NEEDS_A_ROLE)
def test_a_reason_names_the_role_and_the_rule(action: Action) -> None:
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(OUTER, Role.DEVELOPER))
    reason = decide(person(), action, target, NOW).reason
    assert "user 'ann' is developer of project 'team/inner/app'" in reason
    assert f"s and above may {action.value}" in reason


def test_a_weaker_role_further_down_takes_nothing_away() -> None:
    members = [member(OUTER, Role.MAINTAINER), member(PROJECT, Role.GUEST)]
    assert shows(person(), Action.DELETE, project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, *members)) == "yes"


@pytest.mark.parametrize("node", [ELSEWHERE, OTHER_PROJECT])
def test_a_role_elsewhere_means_nothing(node: NodeKey) -> None:
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(node, Role.OWNER))
    assert shows(person(), Action.PULL, target) == "404"


def test_a_role_of_somebody_else_means_nothing() -> None:
    others = member(PROJECT, Role.OWNER, user=replace(ANN, id=4))
    assert shows(person(), Action.PULL, project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, others)) == "404"


@pytest.mark.parametrize(("expires_at", "wanted"), [(NOW + HOUR, "yes"), (NOW, "404"), (NOW - HOUR, "404")])
def test_a_membership_ends_by_the_clock(expires_at: Any, wanted: str) -> None:
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(OUTER, Role.OWNER, expires_at))
    assert shows(person(), Action.PULL, target) == wanted


@pytest.mark.parametrize("action", Action)
def test_a_user_is_owner_of_the_own_namespace(action: Action) -> None:
    own, others = (NodeKey(NodeKind.USER, ANN.id), PROJECT), (NodeKey(NodeKind.USER, 4), PROJECT)
    assert shows(person(), action, project_target(way=own)) == "yes"
    assert shows(person(), action, project_target(way=others)) == "404"


def test_a_group_with_the_number_of_a_user_is_no_namespace_of_the_user() -> None:
    assert shows(person(), Action.PULL, project_target(way=(NodeKey(NodeKind.GROUP, ANN.id), PROJECT))) == "404"


# Absent names, and credentials that have ended


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(
    "principal",
    [ANONYMOUS, person(), holder(Scope.API), deployer(ELSEWHERE, Scope.READ_REGISTRY), job(OTHER_PROJECT)],
    ids=lambda principal: principal.kind.value,
)
def test_what_is_hidden_shows_like_what_is_absent(principal: Principal, action: Action) -> None:
    hidden = decide(principal, action, project_target(origin=OTHER_WAY), NOW)
    group = decide(principal, action, proxy_target(origin=OTHER_WAY), NOW)
    absent = decide(principal, action, AbsentTarget("team/inner/app/image"), NOW)
    assert hidden.refusal is group.refusal is absent.refusal
    assert outcome(absent) == ("401" if principal.is_anonymous else "404")


@pytest.mark.parametrize("action", Action)
def test_a_blocked_user_may_nothing_with_any_credential(action: Action) -> None:
    blocked = replace(ADMIN, blocked=True)
    for principal in (person(blocked), holder(*Scope, user=blocked), job(user=blocked)):
        for target in (project_target(Visibility.PUBLIC), proxy_target(anonymous_pull=True), AbsentTarget("x")):
            decision = decide(principal, action, target, NOW)
            assert (outcome(decision), decision.reason) == ("401", "user 'ann' is blocked")


ENDED = [
    (holder(Scope.API), {"expires_at": NOW}, "expired"),
    (holder(Scope.API), {"revoked_at": NOW - HOUR}, "revoked"),
    (deployer(PROJECT, Scope.READ_REGISTRY), {"expires_at": NOW - HOUR}, "expired"),
    (deployer(PROJECT, Scope.READ_REGISTRY), {"revoked_at": NOW}, "revoked"),
    (job(), {"expires_at": NOW}, "expired"),
    (job(), {"finished_at": NOW - HOUR}, "finished"),
]


@pytest.mark.parametrize(("principal", "change", "word"), ENDED)
def test_a_credential_that_has_ended_opens_nothing(principal: Principal, change: dict[str, Any], word: str) -> None:
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(OUTER, Role.OWNER), origin=WAY)
    assert shows(principal, Action.PULL, target) == "yes"
    assert principal.credential is not None
    ended = replace(principal, credential=replace(principal.credential, **change))
    decision = decide(ended, Action.PULL, target, NOW)
    assert outcome(decision) == "401"
    assert word in decision.reason


# Personal tokens

PERSONAL = """
api             yes yes yes yes yes yes yes yes yes
read_api        yes 403 403 403 yes 403 403 403 yes
read_registry   yes 403 403 403 403 403 403 403 403
write_registry  yes yes yes 403 403 403 403 403 403
"""


@pytest.mark.parametrize("line", PERSONAL.strip().splitlines())
def test_every_scope_of_a_personal_token(line: str) -> None:
    scope, *expected = line.split()
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(OUTER, Role.OWNER))
    for action, wanted in zip(Action, expected, strict=True):
        decision = decide(holder(Scope(scope)), action, target, NOW)
        assert outcome(decision) == wanted, action
        assert wanted == "yes" or ("personal token 11 (laptop) of user 'ann' has the scopes" in decision.reason)
    assert shows(holder(Scope(scope)), Action.PULL, proxy_target(member(OUTER, Role.GUEST))) == "yes"


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("action", Action)
def test_a_personal_token_never_does_more_than_its_user(scope: Scope, action: Action) -> None:
    for role in (None, *Role):
        members = [member(OUTER, role)] if role else []
        target = project_target(Visibility.INTERNAL, RegistryAccess.ENABLED, *members)
        if shows(person(), action, target) != "yes":
            assert shows(holder(scope), action, target) == shows(person(), action, target)


# Deploy tokens

DEPLOY = """
read_registry   yes 403 403 403 403 403 403 403 403
write_registry  yes yes 403 403 403 403 403 403 403
"""


@pytest.mark.parametrize("line", DEPLOY.strip().splitlines())
@pytest.mark.parametrize("node", WAY, ids=str)
@pytest.mark.parametrize("visibility", Visibility)
@pytest.mark.parametrize("registry", [RegistryAccess.ENABLED, RegistryAccess.PRIVATE])
def test_every_scope_of_a_deploy_token(
    line: str, node: NodeKey, visibility: Visibility, registry: RegistryAccess
) -> None:
    scope, *expected = line.split()
    target = project_target(visibility, registry)
    assert [shows(deployer(node, Scope(scope)), action, target) for action in Action] == expected


@pytest.mark.parametrize("action", [Action.PULL, Action.PUSH, Action.DELETE])
@pytest.mark.parametrize("visibility", Visibility)
def test_no_deploy_token_opens_a_disabled_registry(action: Action, visibility: Visibility) -> None:
    target = project_target(visibility, RegistryAccess.DISABLED)
    assert shows(deployer(PROJECT, Scope.READ_REGISTRY, Scope.WRITE_REGISTRY), action, target) == "403"


@pytest.mark.parametrize(
    ("visibility", "registry", "expected"),
    [
        (Visibility.PUBLIC, RegistryAccess.ENABLED, ["yes", "403", "403"]),
        (Visibility.PUBLIC, RegistryAccess.PRIVATE, ["403", "403", "403"]),
        (Visibility.INTERNAL, RegistryAccess.ENABLED, ["404", "404", "404"]),
        (Visibility.PRIVATE, RegistryAccess.ENABLED, ["404", "404", "404"]),
    ],
)
def test_a_deploy_token_of_another_node_is_a_stranger(
    visibility: Visibility, registry: RegistryAccess, expected: list[str]
) -> None:
    token = deployer(OTHER_PROJECT, Scope.READ_REGISTRY, Scope.WRITE_REGISTRY)
    target = project_target(visibility, registry, origin=OTHER_WAY)
    assert [shows(token, action, target) for action in (Action.PULL, Action.PUSH, Action.DELETE)] == expected


# Jobs


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (None, ["404"] * 9),
        (Role.GUEST, ["403", "403", "403", "403", "yes", "403", "403", "403", "403"]),
        (Role.REPORTER, ["yes", "403", "403", "403", "yes", "403", "403", "403", "403"]),
        (Role.DEVELOPER, ["yes", "yes", "yes", "403", "yes", "yes", "403", "403", "403"]),
        (Role.OWNER, ["yes", "yes", "yes", "403", "yes", "yes", "yes", "403", "403"]),
    ],
)
def test_a_job_deletes_in_its_own_project_where_its_user_is_a_developer(role: Role | None, expected: list[str]) -> None:
    members = [member(INNER, role)] if role else []
    target = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, *members, origin=WAY)
    assert [shows(job(), action, target) for action in Action] == expected


@pytest.mark.parametrize("visibility", Visibility)
def test_no_job_opens_a_disabled_registry(visibility: Visibility) -> None:
    target = project_target(visibility, RegistryAccess.DISABLED, member(INNER, Role.OWNER), origin=WAY)
    for user in (ANN, ADMIN):
        assert {shows(job(user=user), action, target) for action in NEEDS_A_ROLE} == {"403"}


# Columns: not on the list of the project; on it, the user is no member; on it, guest; on it, reporter
JOBS_ELSEWHERE = """
public   enabled   yes yes yes yes
public   private   403 403 403 yes
internal enabled   yes yes yes yes
internal private   403 403 403 yes
private  enabled   404 404 403 yes
private  private   404 404 403 yes
"""


@pytest.mark.parametrize("line", JOBS_ELSEWHERE.strip().splitlines())
@pytest.mark.parametrize("allowed", OTHER_WAY, ids=str)
def test_every_cell_of_a_job_elsewhere(line: str, allowed: NodeKey) -> None:
    visibility, registry, *expected = line.split()
    on_list = frozenset({allowed})
    columns = [(frozenset(), Role.OWNER), (on_list, None), (on_list, Role.GUEST), (on_list, Role.REPORTER)]
    for (allowances, role), wanted in zip(columns, expected, strict=True):
        target = project_target(
            Visibility(visibility),
            RegistryAccess(registry),
            *([member(OUTER, role)] if role else []),
            origin=OTHER_WAY,
            allowances=frozenset(allowances),
        )
        assert shows(job(OTHER_PROJECT), Action.PULL, target) == wanted
        for action in (Action.PUSH, Action.DELETE, Action.ADMIN):
            assert shows(job(OTHER_PROJECT), action, target) in ("403", "404")


NOT_ON_LIST = "the list of allowed jobs there names neither the project of the job nor a group above it"


@pytest.mark.parametrize("user", [ANN, ADMIN], ids=["member", "administrator"])
@pytest.mark.parametrize("line", JOBS_ELSEWHERE.strip().splitlines())
def test_a_job_that_no_list_names_is_refused_because_of_the_list(line: str, user: User) -> None:
    visibility, registry, without_list, *_ = line.split()
    at = (Visibility(visibility), RegistryAccess(registry))
    decision = decide(
        job(OTHER_PROJECT, user),
        Action.PULL,
        project_target(*at, member(OUTER, Role.REPORTER, user=user), origin=OTHER_WAY),
        NOW,
    )
    assert decision.allowed is (without_list == "yes")
    if not decision.allowed:
        assert decision.reason.endswith(NOT_ON_LIST)
        assert "though its user may" in decision.reason
    if user is ANN and visibility == "private":
        decision = decide(job(OTHER_PROJECT), Action.PULL, project_target(*at, origin=OTHER_WAY), NOW)
        assert "has no part in it" in decision.reason and NOT_ON_LIST not in decision.reason


@pytest.mark.parametrize("visibility", Visibility)
@pytest.mark.parametrize("action", [Action.PUSH, Action.DELETE])
def test_a_job_is_told_that_it_changes_its_own_project_alone(visibility: Visibility, action: Action) -> None:
    target = project_target(visibility, RegistryAccess.ENABLED, member(OUTER, Role.OWNER), origin=OTHER_WAY)
    decision = decide(job(OTHER_PROJECT), action, target, NOW)
    assert not decision.allowed
    assert decision.reason.endswith("a job does so in its own project alone, so use a deploy token of that project")


def test_a_job_of_an_external_user_sees_of_internal_projects_nothing() -> None:
    target = project_target(Visibility.INTERNAL, RegistryAccess.ENABLED, origin=OTHER_WAY)
    assert shows(job(OTHER_PROJECT, EXTERNAL), Action.PULL, target) == "404"


def test_the_job_of_an_administrator_needs_the_list_like_every_other() -> None:
    assert shows(job(OTHER_PROJECT, ADMIN), Action.PULL, project_target(origin=OTHER_WAY)) == "404"
    allowed = project_target(origin=OTHER_WAY, allowances=frozenset({OTHER_PROJECT}))
    assert shows(job(OTHER_PROJECT, ADMIN), Action.PULL, allowed) == "yes"
    assert shows(job(OTHER_PROJECT, ADMIN), Action.PUSH, allowed) == "403"


# Dependency proxies


@pytest.mark.parametrize(
    ("anonymous_pull", "open_proxy", "wanted", "says"),
    [
        (True, True, "yes", "anonymous pull"),
        (True, False, "403", "allow_open_proxy = true"),
        (False, True, "401", "guests and above"),
        (False, False, "401", "guests and above"),
    ],
)
def test_a_stranger_may_pull(anonymous_pull: bool, open_proxy: bool, wanted: str, says: str) -> None:
    target = proxy_target(visibility=Visibility.PUBLIC, anonymous_pull=anonymous_pull, open_proxy=open_proxy)
    decision = decide(ANONYMOUS, Action.PULL, target, NOW)
    assert outcome(decision) == wanted
    assert says in decision.reason
    assert "'team/inner'" in decision.reason


@pytest.mark.parametrize("open_proxy", [True, False])
@pytest.mark.parametrize(
    "principal",
    [person(), person(EXTERNAL), holder(Scope.READ_REGISTRY), deployer(ELSEWHERE, Scope.READ_REGISTRY), job()],
    ids=lambda principal: principal.kind.value,
)
def test_whoever_has_a_login_pulls_where_strangers_might(principal: Principal, open_proxy: bool) -> None:
    target = proxy_target(visibility=Visibility.PUBLIC, anonymous_pull=True, open_proxy=open_proxy)
    assert shows(principal, Action.PULL, target) == "yes"


@pytest.mark.parametrize("open_proxy", [True, False])
def test_images_of_public_projects_are_no_matter_of_the_open_proxy_guard(open_proxy: bool) -> None:
    assert shows(ANONYMOUS, Action.PULL, project_target(Visibility.PUBLIC)) == "yes"


# Columns: nobody, external user, other user, guest, owner, administrator
GROUP_PULLS = """
public    401 403 403 yes yes yes
internal  401 404 403 yes yes yes
private   401 404 404 yes yes yes
"""
GROUP_ADMINISTRATION = """
public    401 403 403 403 yes yes
internal  401 404 403 403 yes yes
private   401 404 404 403 yes yes
"""


GROUP_TABLES = [
    (Action.PULL, GROUP_PULLS),
    (Action.ADMIN, GROUP_ADMINISTRATION),
    (Action.TOKENS, GROUP_ADMINISTRATION),
]


@pytest.mark.parametrize(("action", "table"), GROUP_TABLES)
@pytest.mark.parametrize("node", [OUTER, INNER], ids=str)
def test_every_cell_of_a_closed_group(action: Action, table: str, node: NodeKey) -> None:
    columns: list[tuple[Principal, Role | None]] = [
        (ANONYMOUS, None),
        (person(EXTERNAL), None),
        (person(), None),
        (person(), Role.GUEST),
        (person(), Role.OWNER),
        (person(ADMIN), None),
    ]
    for line in table.strip().splitlines():
        visibility, *expected = line.split()
        for (principal, role), wanted in zip(columns, expected, strict=True):
            target = proxy_target(*([member(node, role)] if role else []), visibility=Visibility(visibility))
            assert shows(principal, action, target) == wanted, (line, role)


def test_a_maintainer_sees_the_tokens_of_a_group_and_makes_none() -> None:
    for role, expected in ((Role.DEVELOPER, ["403", "403"]), (Role.MAINTAINER, ["yes", "403"])):
        target = proxy_target(member(OUTER, role))
        assert [shows(person(), action, target) for action in (Action.TOKENS, Action.ADMIN)] == expected


@pytest.mark.parametrize(
    ("principal", "words"),
    [
        (person(ADMIN), ""),
        (holder(Scope.API), "is no administrator"),
        (person(replace(ADMIN, blocked=True)), "is no administrator"),
        (replace(job(), user=ADMIN), "is no administrator"),
        (ANONYMOUS, "is no administrator"),
        (deployer(OUTER, Scope.WRITE_REGISTRY), "is no administrator"),
    ],
)
def test_a_server_is_administered_by_administrators_themselves(principal: Principal, words: str) -> None:
    refusal = no_administrator(principal)
    assert words in refusal and bool(refusal) is bool(words)


def test_a_member_of_something_below_a_group_is_no_member_of_it() -> None:
    assert shows(person(), Action.PULL, proxy_target(member(PROJECT, Role.OWNER))) == "404"


@pytest.mark.parametrize("scope", [Scope.READ_REGISTRY, Scope.WRITE_REGISTRY])
@pytest.mark.parametrize(
    ("node", "origin", "wanted"),
    [
        (OUTER, (OUTER,), "yes"),
        (INNER, (OUTER, INNER), "yes"),
        (PROJECT, WAY, "yes"),
        (OTHER_PROJECT, OTHER_WAY, "404"),
        (ELSEWHERE, (ELSEWHERE,), "404"),
        (NodeKey(NodeKind.GROUP, 7), (OUTER, INNER, NodeKey(NodeKind.GROUP, 7)), "404"),
        (PROJECT, (), "404"),
    ],
)
def test_deploy_tokens_of_a_group_of_those_above_and_of_its_projects(
    scope: Scope, node: NodeKey, origin: tuple[NodeKey, ...], wanted: str
) -> None:
    token = deployer(node, scope)
    assert shows(token, Action.PULL, proxy_target(origin=origin)) == wanted
    assert shows(token, Action.PUSH, proxy_target(origin=origin)) == ("405" if wanted == "yes" else "404")
    assert shows(token, Action.ADMIN, proxy_target(origin=origin)) == "404"


@pytest.mark.parametrize(
    ("project", "origin", "members", "wanted"),
    [
        (PROJECT, WAY, [member(PROJECT, Role.DEVELOPER)], "yes"),
        (PROJECT, WAY, [member(OUTER, Role.DEVELOPER)], "yes"),
        (PROJECT, WAY, [], "404"),
        (PROJECT, WAY, [member(PROJECT, Role.DEVELOPER, NOW)], "404"),
        (OTHER_PROJECT, OTHER_WAY, [member(OTHER_PROJECT, Role.OWNER), member(OUTER, Role.OWNER)], "404"),
        (PROJECT, (), [member(OUTER, Role.OWNER)], "404"),
    ],
)
def test_jobs_of_projects_below_a_group_pull_while_their_user_has_a_role_there(
    project: NodeKey, origin: tuple[NodeKey, ...], members: list[Any], wanted: str
) -> None:
    assert shows(job(project), Action.PULL, proxy_target(*members, origin=origin)) == wanted


@pytest.mark.parametrize("action", [Action.PUSH, Action.DELETE])
def test_nobody_writes_through_a_dependency_proxy(action: Action) -> None:
    for principal, target in (
        (ANONYMOUS, proxy_target(visibility=Visibility.PUBLIC, anonymous_pull=True)),
        (person(ADMIN), proxy_target()),
        (person(), proxy_target(member(OUTER, Role.OWNER))),
    ):
        decision = decide(principal, action, target, NOW)
        assert outcome(decision) == "405"
        assert "can only be pulled" in decision.reason


@pytest.mark.parametrize("action", [Action.PULL, Action.PUSH, Action.DELETE])
def test_who_may_not_pull_is_told_that_whatever_the_action(action: Action) -> None:
    assert shows(ANONYMOUS, action, proxy_target()) == "401"
    assert shows(person(), action, proxy_target()) == "404"


# Lists of Bearer tokens

NAME = project_target().name
OWNED = project_target(Visibility.PRIVATE, RegistryAccess.ENABLED, member(OUTER, Role.OWNER))


def bearer(principal: Principal, *words: str, name: str = NAME, hours: int = 1) -> Principal:
    return replace(principal, limits=AccessList({name: frozenset(words)}, NOW + hours * HOUR))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["401", "401", "401", "401"]),
        (("pull",), ["yes", "401", "401", "401"]),
        (("pull", "push"), ["yes", "yes", "401", "401"]),
        (("delete",), ["401", "401", "yes", "401"]),
        (("*",), ["yes", "yes", "yes", "401"]),
    ],
)
def test_a_bearer_token_does_what_its_list_names(words: tuple[str, ...], expected: list[str]) -> None:
    assert [shows(bearer(person(), *words), action, OWNED) for action in Action] == [*expected, *["401"] * 5]


@pytest.mark.parametrize("action", NEEDS_A_ROLE)
def test_a_bearer_tokens_list_gives_no_right(action: Action) -> None:
    everything = ("pull", "push", "delete", "*", "admin")
    for principal in (ANONYMOUS, person(), deployer(ELSEWHERE, Scope.READ_REGISTRY), job(OTHER_PROJECT)):
        for target in (project_target(), project_target(Visibility.PUBLIC, RegistryAccess.DISABLED), proxy_target()):
            without = shows(principal, action, target)
            assert without != "yes"
            assert shows(bearer(principal, *everything, name=target.name), action, target) == without


def test_a_list_that_names_another_repository_is_worth_nothing() -> None:
    assert shows(bearer(person(), "pull", "*", name="team/inner/app/other"), Action.PULL, OWNED) == "401"


def test_an_expired_bearer_token_is_worth_nothing() -> None:
    assert shows(bearer(person(), "pull", hours=0), Action.PULL, OWNED) == "401"


def test_an_image_below_a_group_is_listed_by_its_canonical_name() -> None:
    target = proxy_target(member(OUTER, Role.GUEST))
    assert shows(bearer(person(), "pull", name=target.name), Action.PULL, target) == "yes"
    assert (
        shows(bearer(person(), "pull", name="team/inner/dependency_proxy/containers/alpine"), Action.PULL, target)
        == "401"
    )


# The REST API


@pytest.mark.parametrize(
    ("scope", "reads", "changes"),
    [
        (Scope.API, True, True),
        (Scope.READ_API, True, False),
        (Scope.READ_REGISTRY, False, False),
        (Scope.WRITE_REGISTRY, False, False),
    ],
)
def test_the_api_has_scopes_of_its_own(scope: Scope, reads: bool, changes: bool) -> None:
    assert (missing_api_scope(holder(scope), changes=False) == "") is reads
    assert (missing_api_scope(holder(scope), changes=True) == "") is changes
    for principal in (ANONYMOUS, person(), job()):
        assert missing_api_scope(principal, changes=True) == ""


def test_a_group_is_known_to_its_audience() -> None:
    for visibility, anonymous, user, external in (
        (Visibility.PUBLIC, "yes", "yes", "yes"),
        (Visibility.INTERNAL, "401", "yes", "404"),
        (Visibility.PRIVATE, "401", "404", "404"),
    ):
        target = proxy_target(visibility=visibility)
        parties = (ANONYMOUS, person(), person(EXTERNAL))
        assert [shows(party, Action.KNOW, target) for party in parties] == [anonymous, user, external]
        assert shows(person(), Action.KNOW, proxy_target(member(OUTER, Role.GUEST), visibility=visibility)) == "yes"
