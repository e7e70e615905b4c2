"""Projects, users, members and credentials in memory: a change in another process takes rights away at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import thread_time
from timeit import timeit
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.names import RepositoryName
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.auth.principal import Principal, PrincipalKind
from gateway.db import deploy_tokens, groups, jobs, members, personal_tokens, projects, users
from gateway.db.engine import Database
from gateway.directory.directory import Directory
from gateway.directory.places import ProjectPlace
from gateway.namespaces.credentials import CredentialRef, DeployToken, Job, PersonalToken, Scope, hash_secret
from gateway.namespaces.group import Group
from gateway.namespaces.locate import NativeLocation
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)
IMAGE = RepositoryName.parse("team/inner/app/image")
PROXIED = RepositoryName.parse("team/inner/dependency_proxy/containers/alpine")
PERSONAL, DEPLOY, JOB = (hash_secret(kind) for kind in ("personal", "deploy", "job"))


@dataclass(frozen=True)
class Tree:
    """What was stored: ann is a developer of a private project, and a guest of the group above it."""

    database: Database
    inner: Group
    project: Project
    other: Project
    ann: User

    @property
    def membership(self) -> Member:
        return Member(self.project.key, self.ann.id, Role.DEVELOPER, None, NOW)


@pytest.fixture
async def tree(database: Database) -> Tree:
    async with database.write() as connection:
        await users.create(connection, "root", NOW, admin=True)
        ann = await users.create(connection, "ann", NOW, email="ann@example.com")
        outer = await groups.create(connection, "team", NOW)
        inner = await groups.create(connection, "team/inner", NOW)
        project = await projects.create(connection, "team/inner/app", NOW)
        other = await projects.create(connection, "ann/tools", NOW)
        await members.add(connection, Member(NodeKey(NodeKind.GROUP, outer.id), ann.id, Role.GUEST, None, NOW))
        tree = Tree(database, inner, project, other, ann)
        await members.add(connection, tree.membership)
        token = PersonalToken(0, ann.id, "laptop", frozenset({Scope.WRITE_REGISTRY}), NOW, NOW + HOUR)
        await personal_tokens.create(connection, token, PERSONAL)
        deploy = DeployToken(0, project.key, "ci", "ci", frozenset({Scope.READ_REGISTRY}), NOW)
        await deploy_tokens.create(connection, deploy, DEPLOY)
        await jobs.create(connection, Job(0, other.id, ann.id, None, NOW, NOW + HOUR), JOB)
        await projects.set_allowed_jobs(connection, project, [other.key])
    return tree


@pytest.fixture
async def directory(tree: Tree) -> AsyncIterator[Directory]:
    """A directory of another process, which sees the database by its own connections."""
    async with Database.open(tree.database.address) as seen:
        yield Directory(seen, ["docker.io"])


@asynccontextmanager
async def changing(tree: Tree, directory: Directory) -> AsyncIterator[AsyncConnection]:
    """Change the database in the block; a PostgreSQL server tells the directory of it in the background."""
    async with tree.database.write() as connection:
        yield connection
    if not isinstance(tree.database.address, Path):
        await directory._database.changes.refresh()


async def principal(directory: Directory, kind: PrincipalKind) -> Principal:
    """The principal of a kind, made of what is stored now."""
    if kind is PrincipalKind.USER:
        return Principal(kind, "ann", await directory.find_user("ann"))
    secret = {PrincipalKind.PERSONAL_TOKEN: PERSONAL, PrincipalKind.DEPLOY_TOKEN: DEPLOY}.get(kind, JOB)
    found = await directory.credential_of_hash(secret)
    assert found is not None
    ref, credential = found
    assert await directory.credential(ref) == credential
    user = None if isinstance(credential, DeployToken) else await directory.find_user("ann")
    return Principal(kind, "ann", user, credential, ref)


async def may_pull(directory: Directory, kind: PrincipalKind, name: RepositoryName = IMAGE) -> bool:
    """Whether the kind of principal may pull, by everything that is stored now."""
    try:
        found = await principal(directory, kind)
    except AssertionError:
        return False
    located = await directory.locate(name)
    return (await Access(directory, True).decide(found, Action.PULL, located, NOW)).allowed


Change = Callable[[AsyncConnection, Tree], Awaitable[Any]]
USER, TOKEN, DEPLOYER, JOBS = (
    PrincipalKind.USER,
    PrincipalKind.PERSONAL_TOKEN,
    PrincipalKind.DEPLOY_TOKEN,
    PrincipalKind.JOB_TOKEN,
)
EVERYONE = {USER, TOKEN, DEPLOYER, JOBS}


async def delete_project(connection: AsyncConnection, tree: Tree) -> None:
    await projects.delete(connection, tree.project.path, NOW)


CHANGES: dict[str, tuple[Change, set[PrincipalKind]]] = {
    "a user is blocked": (
        lambda connection, tree: users.update(connection, replace(tree.ann, blocked=True)),
        {USER, TOKEN, JOBS},
    ),
    "a member is removed": (
        lambda connection, tree: members.remove(connection, tree.project.key, tree.ann.id),
        {USER, TOKEN, JOBS},
    ),
    "a member is given a weaker role": (
        lambda connection, tree: members.update(connection, replace(tree.membership, role=Role.GUEST), NOW),
        {USER, TOKEN, JOBS},
    ),
    "a membership is given an end": (
        lambda connection, tree: members.update(connection, replace(tree.membership, expires_at=NOW), NOW - HOUR),
        {USER, TOKEN, JOBS},
    ),
    "a personal token is revoked": (
        lambda connection, tree: personal_tokens.revoke(connection, 1, NOW),
        {TOKEN},
    ),
    "a deploy token is revoked": (lambda connection, tree: deploy_tokens.revoke(connection, 1, NOW), {DEPLOYER}),
    "a job is finished": (lambda connection, tree: jobs.finish(connection, 1, NOW), {JOBS}),
    "a registry is disabled": (
        lambda connection, tree: projects.update(connection, replace(tree.project, registry=RegistryAccess.DISABLED)),
        EVERYONE,
    ),
    "a list of allowed jobs is emptied": (
        lambda connection, tree: projects.set_allowed_jobs(connection, tree.project, []),
        {JOBS},
    ),
    "the project of the job is deleted": (
        lambda connection, tree: projects.delete(connection, "ann/tools", NOW),
        {JOBS},
    ),
    "the project is deleted": (delete_project, EVERYONE),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_elsewhere_counts_from_the_next_lookup_on(tree: Tree, directory: Directory, change: str) -> None:
    make, losers = CHANGES[change]
    assert {kind for kind in EVERYONE if await may_pull(directory, kind)} == EVERYONE
    async with changing(tree, directory) as connection:
        await make(connection, tree)
    assert {kind for kind in EVERYONE if not await may_pull(directory, kind)} == losers


async def test_a_closed_project_is_closed_to_strangers_at_once(tree: Tree, directory: Directory) -> None:
    async def strangers_may() -> bool:
        stranger = Principal(PrincipalKind.ANONYMOUS)
        located = await directory.locate(RepositoryName.parse("ann/tools"))
        return (await Access(directory, True).decide(stranger, Action.PULL, located, NOW)).allowed

    for visibility in (Visibility.PUBLIC, Visibility.PRIVATE, Visibility.PUBLIC, Visibility.INTERNAL):
        async with changing(tree, directory) as connection:
            await projects.update(connection, replace(tree.other, visibility=visibility))
        assert await strangers_may() is (visibility is Visibility.PUBLIC)


async def test_a_member_of_a_group_loses_its_dependency_proxy_at_once(tree: Tree, directory: Directory) -> None:
    outer = NodeKey(NodeKind.GROUP, 1)
    assert await may_pull(directory, USER, PROXIED)
    assert await may_pull(directory, DEPLOYER, PROXIED)
    async with changing(tree, directory) as connection:
        await members.remove(connection, outer, tree.ann.id)
    assert not await may_pull(directory, USER, PROXIED)
    assert await may_pull(directory, DEPLOYER, PROXIED)


def at_once(lookup: Coroutine[Any, Any, Any]) -> Any:
    """The result of a lookup that does not switch tasks."""
    with pytest.raises(StopIteration) as ended:
        lookup.send(None)
    return ended.value.value


@pytest.mark.parametrize("name", [IMAGE, PROXIED], ids=str)
@pytest.mark.parametrize("kind", sorted(EVERYONE, key=lambda kind: kind.value), ids=lambda kind: kind.value)
async def test_a_second_decision_reads_nothing(directory: Directory, kind: PrincipalKind, name: RepositoryName) -> None:
    first = await may_pull(directory, kind, name)
    assert at_once(may_pull(directory, kind, name)) is first


async def test_names_below_a_project_are_found_without_a_query_of_their_own(tree: Tree, directory: Directory) -> None:
    await directory.locate(IMAGE)
    for text in ("team/inner/app", "team/inner/app/invented", "team/inner/app/a/b/c"):
        located = at_once(directory.locate(RepositoryName.parse(text)))
        assert isinstance(located.place, ProjectPlace)
        assert located.place.project == tree.project
        assert located.location == NativeLocation(RepositoryName.parse(text))
        assert [key.kind for key in located.place.way] == [NodeKind.GROUP, NodeKind.GROUP, NodeKind.PROJECT]
        assert located.place.job_allowances == {tree.other.key}


async def test_the_projects_of_many_names_are_read_together(tree: Tree, directory: Directory) -> None:
    async with tree.database.write() as connection:
        for number in range(700):
            await projects.create(connection, f"team/p{number}", NOW)
    names = [IMAGE, *(RepositoryName(f"team/p{number}/image") for number in range(700))]
    apart = Directory(tree.database, ())
    assert await apart.locate(IMAGE)
    statements: list[str] = []
    event.listen(Engine, "before_cursor_execute", note := lambda *given: statements.append(given[2]))
    await directory.remember_projects_of([*names, RepositoryName("team/absent/image")])
    assert len([statement for statement in statements if statement.startswith("SELECT")]) <= 12
    for name in names:
        assert at_once(directory.locate(name)) == await apart.locate(name)
    statements.clear()
    await directory.remember_projects_of(names)
    assert statements == []
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("text", ["team", "team/inner", "team/inner/ap", "team/inner/apple/image", "ann", "x/y"])
async def test_a_name_in_no_project_leads_nowhere_until_one_is_made(
    tree: Tree, directory: Directory, text: str
) -> None:
    name = RepositoryName.parse(text)
    for _ in range(2):
        assert (await directory.locate(name)).place is None
    assert at_once(directory.locate(name)).location is None
    if text == "team/inner/apple/image":
        async with changing(tree, directory) as connection:
            await projects.create(connection, "team/inner/apple", NOW)
        assert (await directory.locate(name)).place is not None


async def test_invented_names_and_secrets_leave_what_exists_in_memory(directory: Directory) -> None:
    for kind in EVERYONE:
        assert await may_pull(directory, kind)
    for number in range(50):
        assert await directory.find_user(f"invented-{number}") is None
        assert await directory.credential_of_hash(hash_secret(f"{number}")) is None
        assert (await directory.locate(RepositoryName.parse(f"invented/{number}"))).place is None
        assert await directory.find_group(f"invented/{number}") is None
    memories = [value for value in vars(directory).values() if hasattr(value, "knows_absence")]
    assert sum(len(memory._absent) for memory in memories) == 200
    assert sum(len(memory._present) for memory in memories) < 30
    for kind in EVERYONE:
        assert at_once(may_pull(directory, kind))


async def test_a_user_is_found_by_the_address_that_is_current(tree: Tree, directory: Directory) -> None:
    assert await directory.find_user_by_email("ann@example.com") == tree.ann
    assert await directory.find_user_by_email("new@example.com") is None
    changed = replace(tree.ann, email="new@example.com")
    async with changing(tree, directory) as connection:
        await users.update(connection, changed)
    assert await directory.find_user_by_email("new@example.com") == changed
    assert await directory.find_user_by_email("ann@example.com") is None
    assert await directory.user(tree.ann.id) == changed


async def test_a_new_user_is_found_and_a_deleted_one_is_not(tree: Tree, directory: Directory) -> None:
    assert await directory.find_user("bob") is None
    async with changing(tree, directory) as connection:
        bob = await users.create(connection, "bob", NOW)
    assert await directory.find_user("bob") == bob
    async with changing(tree, directory) as connection:
        await users.delete(connection, "bob")
    assert await directory.find_user("bob") is None
    assert await directory.user(bob.id) is None


async def test_the_way_to_a_node_is_that_of_its_path(tree: Tree, directory: Directory) -> None:
    outer, inner = NodeKey(NodeKind.GROUP, 1), NodeKey(NodeKind.GROUP, tree.inner.id)
    for _ in range(2):
        assert await directory.way_to(tree.project.key) == (outer, inner, tree.project.key)
        assert await directory.way_to(inner) == (outer, inner)
        assert await directory.way_to(NodeKey(NodeKind.PROJECT, 99)) == ()
    async with changing(tree, directory) as connection:
        await projects.delete(connection, tree.project.path, NOW)
        again = await projects.create(connection, tree.project.path, NOW)
    assert await directory.way_to(tree.project.key) == ()
    assert await directory.way_to(again.key) == (outer, inner, again.key)


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Database]:
    """The database, once for each read from now on."""
    query, reads = Database.query, []
    monkeypatch.setattr(Database, "query", lambda database, work: reads.append(database) or query(database, work))
    return reads


async def test_many_who_want_a_credential_that_was_forgotten_share_one_read(
    tree: Tree, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = count_reads(monkeypatch)
    found = await asyncio.gather(*(directory.credential_of_hash(PERSONAL) for _ in range(50)))
    assert set(found) == {await directory.credential_of_hash(PERSONAL)}
    assert len(reads) == 2  # of the hash, and of the credential that it leads to


async def test_an_unknown_identity_is_no_credential(directory: Directory) -> None:
    assert await directory.credential(CredentialRef.parse("personal:99")) is None


async def test_a_permission_check_costs_less_than_a_tenth_of_a_millisecond(tree: Tree) -> None:
    async with Database.open(tree.database.address, look_every=0.005) as watched:
        directory = Directory(watched, ["docker.io"])
        access = Access(directory, True)
        for kind in EVERYONE:
            for name in (IMAGE, PROXIED):
                whoever = await principal(directory, kind)

                async def check(whoever: Principal = whoever, name: RepositoryName = name) -> None:
                    await access.decide(whoever, Action.PULL, await directory.locate(name), NOW)

                await check()

                def check_at_once(check: Callable[[], Coroutine[Any, Any, None]] = check) -> None:
                    with suppress(StopIteration):
                        check().send(None)

                took = min(timeit(check_at_once, number=50, timer=thread_time) for _ in range(50)) / 50
                assert took < 100e-6, (kind, name)  # 10 to 25 µs on an idle machine


async def test_a_user_is_found_by_address_whatever_was_looked_for_as_a_name(tree: Tree, directory: Directory) -> None:
    assert await directory.find_user("ann@example.com") is None
    assert await directory.find_user_by_email("ann@example.com") == tree.ann


@pytest.mark.parametrize(("known", "unknown"), [("ann", "nobody"), ("ann@example.com", "nobody@example.com")])
async def test_a_concealed_user_costs_the_query_of_one_that_does_not_exist(
    tree: Tree, directory: Directory, known: str, unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = directory.find_user_by_email if "@" in known else directory.find_user
    assert await find(known) == tree.ann
    assert await find(unknown) is None
    for memory in (directory._user_ids, directory._user_ids_by_email):
        memory.forget_absences()
    reads = count_reads(monkeypatch)
    counts = []
    for lookup in (find(known), directory.conceal_user(known), directory.conceal_user(known), find(unknown)):
        await lookup
        counts.append(len(reads))
    assert counts == [0, 1, 1, 2]
