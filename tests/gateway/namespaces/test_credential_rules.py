"""Rules of tokens and jobs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.namespaces.credential_rules import (
    AHEAD,
    direct_group,
    find_ending,
    new_deploy_token,
    new_job,
    new_personal_token,
)
from gateway.namespaces.credentials import Credential, DeployToken, Job, JobDeployToken, PersonalToken, Scope
from gateway.namespaces.errors import CredentialInvalid, ExpiryInvalid, JobRefused
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
ANN = User(7, "ann", None, False, False, False, None, None, NOW)
GROUP, PROJECT = NodeKey(NodeKind.GROUP, 1), NodeKey(NodeKind.PROJECT, 2)
APP = Project(2, "team/app", Visibility.PRIVATE, RegistryAccess.ENABLED, NOW)
WAY = [PathEntry("team", GROUP), PathEntry("team/app", PROJECT)]
OWN_WAY = [PathEntry("ann", NodeKey(NodeKind.USER, 7)), PathEntry("ann/app", PROJECT)]
READ = frozenset({Scope.READ_REGISTRY})


# Personal access tokens


def test_a_personal_token_lasts_a_year_at_most_and_by_default() -> None:
    made = new_personal_token(ANN, "ci", list(Scope), None, NOW)
    assert made == PersonalToken(0, 7, "ci", frozenset(Scope), NOW, NOW + 365 * DAY)
    assert new_personal_token(ANN, "ci", READ, NOW + DAY, NOW).expires_at == NOW + DAY
    for wrong in (NOW, NOW + 366 * DAY):
        with pytest.raises(ExpiryInvalid, match="a personal access token cannot "):
            new_personal_token(ANN, "ci", READ, wrong, NOW)


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "a\nb", "\x1b[31m", "\udcff"])
def test_a_name_of_a_token_is_printable_and_not_empty(name: str) -> None:
    with pytest.raises(CredentialInvalid, match="is not a name for a token"):
        new_personal_token(ANN, name, READ, None, NOW)
    with pytest.raises(CredentialInvalid, match="is not a name for a token"):
        new_deploy_token(PROJECT, name, None, READ, None, NOW)


def test_a_token_needs_a_scope_that_its_kind_has() -> None:
    with pytest.raises(
        CredentialInvalid, match="needs a scope: use any of api, read_api, read_registry, write_registry"
    ):
        new_personal_token(ANN, "ci", [], None, NOW)
    with pytest.raises(
        CredentialInvalid, match="a deploy token needs a scope: use any of read_registry, write_registry"
    ):
        new_deploy_token(PROJECT, "ci", None, [], None, NOW)
    for scope in (Scope.API, Scope.READ_API):
        with pytest.raises(CredentialInvalid, match=f"a deploy token cannot have the scope {scope}: use any of read_"):
            new_deploy_token(PROJECT, "ci", None, [Scope.READ_REGISTRY, scope], None, NOW)


def test_a_blocked_user_is_given_no_token() -> None:
    with pytest.raises(CredentialInvalid, match=r"user 'ann' is blocked.*unblock the user first"):
        new_personal_token(replace(ANN, blocked=True), "ci", READ, None, NOW)


# Deploy tokens


def test_a_deploy_token_may_last_for_ever() -> None:
    made = new_deploy_token(GROUP, "cluster", None, READ, None, NOW)
    assert made == DeployToken(0, GROUP, "cluster", "", READ, NOW)
    assert new_deploy_token(GROUP, "cluster", "u", READ, NOW + 9999 * DAY, NOW).expires_at == NOW + 9999 * DAY
    with pytest.raises(ExpiryInvalid, match="a deploy token cannot expire at"):
        new_deploy_token(GROUP, "cluster", "u", READ, NOW, NOW)


@pytest.mark.parametrize("username", ["u", "gitlab+deploy-token-1", "A.b_c-9", "x" * 255])
def test_a_user_name_of_a_deploy_token_is_what_gitlab_allows(username: str) -> None:
    assert new_deploy_token(PROJECT, "ci", username, READ, None, NOW).username == username


@pytest.mark.parametrize("username", ["", "a b", "a:b", "a/b", "é", "x" * 256, "u\n", "٣"])
def test_other_user_names_of_deploy_tokens_are_refused(username: str) -> None:
    with pytest.raises(CredentialInvalid, match="is not a user name for a deploy token"):
        new_deploy_token(PROJECT, "ci", username, READ, None, NOW)


def test_a_namespace_of_a_user_has_no_deploy_tokens() -> None:
    with pytest.raises(CredentialInvalid, match="a user's namespace has no deploy tokens"):
        new_deploy_token(NodeKey(NodeKind.USER, 7), "ci", None, READ, None, NOW)


# Jobs


def member(role: Role, expires_at: datetime | None = None) -> Member:
    return Member(GROUP, 7, role, expires_at, NOW)


@pytest.mark.parametrize("role", [Role.DEVELOPER, Role.MAINTAINER, Role.OWNER])
def test_developers_and_above_start_jobs(role: Role) -> None:
    made = new_job(APP, WAY, ANN, [member(role, NOW + SECOND)], "main", None, NOW)
    assert made == Job(0, 2, 7, "main", NOW, NOW + timedelta(hours=1))


@pytest.mark.parametrize(
    ("members", "has"),
    [
        ([], "has no role"),
        ([member(Role.GUEST)], "is guest"),
        ([member(Role.GUEST), member(Role.REPORTER)], "is reporter"),
        ([member(Role.OWNER, NOW), member(Role.REPORTER)], "is reporter"),
    ],
)
def test_whoever_is_no_developer_now_starts_no_job(members: list[Member], has: str) -> None:
    with pytest.raises(JobRefused, match=f"^user 'ann' {has} in project 'team/app': jobs need a developer at least$"):
        new_job(APP, WAY, ANN, members, None, None, NOW)


def test_administrators_and_owners_of_a_namespace_need_no_membership() -> None:
    assert new_job(APP, WAY, replace(ANN, admin=True), [], None, None, NOW).user_id == 7
    assert new_job(APP, OWN_WAY, ANN, [], None, None, NOW).user_id == 7
    with pytest.raises(JobRefused):
        new_job(APP, OWN_WAY, replace(ANN, id=8), [], None, None, NOW)


@pytest.mark.parametrize("admin", [False, True])
def test_a_blocked_user_starts_no_job(admin: bool) -> None:
    with pytest.raises(JobRefused, match=r"user 'ann' is blocked.*unblock the user first"):
        new_job(APP, WAY, replace(ANN, blocked=True, admin=admin), [member(Role.OWNER)], None, None, NOW)


def test_a_job_lasts_a_month_at_most() -> None:
    assert new_job(APP, OWN_WAY, ANN, [], None, NOW + 30 * DAY, NOW).expires_at == NOW + 30 * DAY
    for wrong in (NOW, NOW + 30 * DAY + SECOND):
        with pytest.raises(ExpiryInvalid, match="a job cannot "):
            new_job(APP, OWN_WAY, ANN, [], None, wrong, NOW)


@pytest.mark.parametrize("ref", ["", "x" * 256, "a\nb", "\udcff", "a\x00"])
def test_a_ref_is_printable_and_not_empty(ref: str) -> None:
    with pytest.raises(CredentialInvalid, match="is not the name of a branch or tag"):
        new_job(APP, OWN_WAY, ANN, [], ref, None, NOW)


def test_the_direct_group_is_the_one_right_above() -> None:
    assert direct_group(WAY) == WAY[0]
    assert direct_group(OWN_WAY) is None
    assert direct_group(WAY[:1]) is None


# Ends

PERSONAL = PersonalToken(1, 7, "p", READ, NOW, NOW + 2 * DAY)
DEPLOY = DeployToken(1, GROUP, "d", "u", READ, NOW)
JOB = Job(1, 2, 7, None, NOW, NOW + 2 * DAY)


@pytest.mark.parametrize(
    ("credential", "days", "ending"),
    [
        (PERSONAL, 1, None),
        (PERSONAL, 2, "expired at 2025-03-06T05:06:07Z"),
        (replace(PERSONAL, revoked_at=NOW + DAY), 5, "was revoked at 2025-03-05T05:06:07Z"),
        (replace(PERSONAL, revoked_at=NOW + 3 * DAY), 5, "expired at 2025-03-06T05:06:07Z"),
        (DEPLOY, 9999, None),
        (replace(DEPLOY, revoked_at=NOW), 0, "was revoked at 2025-03-04T05:06:07Z"),
        (replace(PERSONAL, revoked_at=NOW + 400 * DAY), 1, "was revoked at 2026-04-08T05:06:07Z"),
        (replace(DEPLOY, revoked_at=NOW + 400 * DAY), 1, "was revoked at 2026-04-08T05:06:07Z"),
        (replace(JOB, finished_at=NOW + 400 * DAY), 1, "was finished at 2026-04-08T05:06:07Z"),
        (JobDeployToken(JOB, replace(DEPLOY, revoked_at=NOW + 400 * DAY)), 1, "was revoked at 2026-04-08T05:06:07Z"),
        (JOB, -400, "was begun by a clock that was wrong, at 2025-03-04T05:06:07Z"),
        (replace(JOB, created_at=NOW + AHEAD), 0, None),
        (PERSONAL, -400, None),
        (JOB, 1, None),
        (JOB, 2, "expired at 2025-03-06T05:06:07Z"),
        (replace(JOB, finished_at=NOW + DAY), 5, "was finished at 2025-03-05T05:06:07Z"),
        (JobDeployToken(JOB, DEPLOY), 1, None),
        (JobDeployToken(JOB, DEPLOY), 2, "expired at 2025-03-06T05:06:07Z"),
        (JobDeployToken(JOB, replace(DEPLOY, revoked_at=NOW)), 1, "was revoked at 2025-03-04T05:06:07Z"),
    ],
)
def test_a_credential_ends_in_the_way_that_came_first(credential: Credential, days: int, ending: str | None) -> None:
    found = find_ending(credential, NOW + days * DAY)
    assert (found and str(found)) == ending
