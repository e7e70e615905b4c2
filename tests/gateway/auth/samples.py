"""Values of the tree for tests of decisions: one user, one project in a group in a group, and targets made of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.auth.decisions import DependencyProxyTarget, ProjectTarget, Standing
from gateway.auth.principal import Principal, PrincipalKind
from gateway.namespaces.credentials import (
    CredentialKind,
    CredentialRef,
    DeployToken,
    Job,
    PersonalToken,
    Scope,
)
from gateway.namespaces.group import Group
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility, Way
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

NOW = datetime(2025, 3, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)

OUTER = NodeKey(NodeKind.GROUP, 1)
INNER = NodeKey(NodeKind.GROUP, 2)
PROJECT = NodeKey(NodeKind.PROJECT, 5)
OTHER_PROJECT = NodeKey(NodeKind.PROJECT, 6)
ELSEWHERE = NodeKey(NodeKind.GROUP, 9)
WAY: Way = (OUTER, INNER, PROJECT)
OTHER_WAY: Way = (ELSEWHERE, OTHER_PROJECT)

ANN = User(3, "ann", None, False, False, False, None, None, NOW)
STORED = Project(5, "team/inner/app", Visibility.PRIVATE, RegistryAccess.ENABLED, NOW)
GROUP = Group(
    id=2,
    path="team/inner",
    visibility=Visibility.PRIVATE,
    proxy_enabled=True,
    anonymous_pull=False,
    default_upstream="docker.io",
    upstream_username=None,
    upstream_password_sealed=None,
    created_at=NOW,
)


def member(node: NodeKey, role: Role, expires_at: datetime | None = None, user: User = ANN) -> Member:
    return Member(node, user.id, role, expires_at, NOW)


def project_target(
    visibility: Visibility = Visibility.PRIVATE,
    registry: RegistryAccess = RegistryAccess.ENABLED,
    *members: Member,
    way: Way = WAY,
    origin: Way = (),
    allowances: frozenset[NodeKey] = frozenset(),
) -> ProjectTarget:
    project = replace(STORED, visibility=visibility, registry=registry)
    return ProjectTarget("team/inner/app/image", project, way, Standing(members, origin), allowances)


def proxy_target(
    *members: Member,
    visibility: Visibility = Visibility.PRIVATE,
    anonymous_pull: bool = False,
    open_proxy: bool = True,
    origin: Way = (),
) -> DependencyProxyTarget:
    group = replace(GROUP, visibility=visibility, anonymous_pull=anonymous_pull)
    name = "team/inner/dependency_proxy/containers/library/alpine"
    return DependencyProxyTarget(name, group, (OUTER, INNER), open_proxy, Standing(members, origin))


def person(user: User = ANN) -> Principal:
    return Principal(PrincipalKind.USER, user.name, user, None, CredentialRef(CredentialKind.PASSWORD, user.id))


def holder(*scopes: Scope, user: User = ANN, expires_at: datetime | None = None) -> Principal:
    token = PersonalToken(11, user.id, "laptop", frozenset(scopes), NOW - HOUR, expires_at)
    return Principal(PrincipalKind.PERSONAL_TOKEN, user.name, user, token, token.ref)


def deployer(node: NodeKey, *scopes: Scope) -> Principal:
    token = DeployToken(12, node, "ci", "ci", frozenset(scopes), NOW - HOUR)
    return Principal(PrincipalKind.DEPLOY_TOKEN, "ci", None, token, token.ref)


def job(project: NodeKey = PROJECT, user: User = ANN) -> Principal:
    running = Job(13, project.id, user.id, None, NOW - HOUR, NOW + HOUR)
    ref = CredentialRef(CredentialKind.JOB_TOKEN, 13)
    return Principal(PrincipalKind.JOB_TOKEN, "gitlab-ci-token", user, running, ref)
