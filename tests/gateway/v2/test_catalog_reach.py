"""The list of repositories shows to every kind of principal exactly what decisions about each repository allow."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from cache.oci.names import RepositoryName
from gateway.auth.principal import ANONYMOUS, Principal, principal_of
from gateway.db import groups, members, projects, repositories, users
from gateway.namespaces.credentials import CredentialKind, CredentialRef, DeployToken, Job, JobDeployToken, Scope
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User
from gateway.v2 import catalog
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from tests.gateway.v2.pushing import LATER, NOW, PushSurface, open_surface
from tests.gateway.v2.test_catalog import pages

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Tree:
    """A surface whose groups `wide` and `wide-far` hold a project of each visibility and access level."""

    surface: PushSurface
    names: list[str]
    ids: dict[str, int]
    groups: dict[str, int]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tree(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tree]:
    async with open_surface(tmp_path_factory.mktemp("reach") / "data") as surface:
        names, ids, made = list[str](), dict[str, int](), dict[str, int]()
        async with surface.services.directory._database.write() as connection:
            for name in ("guest", "external"):
                user = await users.create(connection, name, NOW, external=name == "external")
                surface.people[name] = user
            for path in ("wide", "wide-far"):
                group = await groups.create(connection, path, NOW)
                await groups.update(connection, replace(group, visibility=Visibility.PUBLIC))
                made[path] = group.id
            for above in (*made, "stranger"):
                for visibility in Visibility:
                    for access in RegistryAccess:
                        path = f"{above}/{visibility.value}-{access.value}"
                        project = await projects.create(connection, path, NOW, visibility=visibility)
                        await projects.update(connection, replace(project, registry=access))
                        ids[path] = project.id
                        for name in (path, f"{path}/a"):
                            await repositories.find_or_create(connection, project.id, RepositoryName(name), NOW)
                            names.append(name)
            wide = NodeKey(NodeKind.GROUP, made["wide"])
            for name, role in (("guest", Role.GUEST), ("reporter", Role.REPORTER)):
                await members.add(connection, Member(wide, surface.people[name].id, role, None, NOW))
            far = NodeKey(NodeKind.PROJECT, ids["wide-far/private-enabled"])
            await members.add(connection, Member(far, surface.people["guest"].id, Role.REPORTER, None, NOW))
            allowing = await projects.get(connection, "wide-far/private-private")
            await projects.set_allowed_jobs(connection, allowing, [wide])
        await surface.services.directory._database.changes.refresh()
        yield Tree(surface, sorted(names), ids, made)


def principals(tree: Tree) -> dict[str, Principal]:
    people = tree.surface.people

    def deploy_token(node: NodeKey) -> DeployToken:
        return DeployToken(1, node, "t", "t", frozenset({Scope.READ_REGISTRY}), NOW)

    def job(user: User) -> Principal:
        stored = Job(1, tree.ids["wide/private-enabled"], user.id, None, NOW, LATER)
        return principal_of(CredentialRef(CredentialKind.JOB_TOKEN, 1), stored, user)

    of_project = deploy_token(NodeKey(NodeKind.PROJECT, tree.ids["wide-far/private-private"]))
    of_group = deploy_token(NodeKey(NodeKind.GROUP, tree.groups["wide"]))
    ref = CredentialRef(CredentialKind.DEPLOY_TOKEN, 1)
    started = JobDeployToken(Job(1, 1, people["stranger"].id, None, NOW, LATER), of_group)
    return {
        "nobody": ANONYMOUS,
        **{name: tree.surface.person(name) for name in people},
        "deploy token of a project": principal_of(ref, of_project, None),
        "deploy token of a group": principal_of(ref, of_group, None),
        "deploy token of a job": principal_of(ref, started, people["stranger"]),
        **{f"job of {name}": job(people[name]) for name in ("root", "guest", "reporter", "stranger", "external")},
    }


@pytest.mark.parametrize("at_once", [1, 100])
async def test_every_principal_sees_exactly_what_it_may_pull(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(catalog, "PROJECTS_AT_ONCE", at_once)
    opener = RepositoryOpener(tree.surface.services, RegistryOptions(open_proxy=True))
    counts = set[int]()
    for title, principal in principals(tree).items():
        expected = [name for name in tree.names if await opener.may_pull(principal, name)]
        found, _ = await pages(tree.surface, principal, "_catalog?n=7")
        assert [name for page in found for name in page] == expected, title
        assert all(len(page) == 7 for page in found[:-1]), title
        counts.add(len(expected))
    assert len(counts) > 5
