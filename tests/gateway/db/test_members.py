"""Members as they are stored: one suite for every database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.db import groups, members, projects, users
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.namespaces.errors import MembershipRefused, MemberUnknown, NodeUnknown, UserUnknown
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.role import Role
from tests.gateway.db.announced import Announced

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ALICE, BOB = 1, 2
A, B = NodeKey(NodeKind.GROUP, 1), NodeKey(NodeKind.GROUP, 2)
PROJECT, OWN = NodeKey(NodeKind.PROJECT, 1), NodeKey(NodeKind.PROJECT, 2)


@pytest.fixture(autouse=True)
async def tree(database: Database) -> None:
    """The users alice and bob, and the groups and projects of the keys above: a, a/b, a/b/p, alice/own."""
    async with database.write() as connection:
        for name in ("alice", "bob"):
            await users.create(connection, name, NOW)
        for path in ("a", "a/b"):
            await groups.create(connection, path, NOW)
        for path in ("a/b/p", "alice/own"):
            await projects.create(connection, path, NOW)


async def add(
    database: Database, node: NodeKey, user: int, role: Role, expires_at: datetime | None = None, now: datetime = NOW
) -> Member:
    member = Member(node, user, role, expires_at, now)
    async with database.write() as connection:
        await members.add(connection, member)
    return member


async def listed(database: Database, *nodes: NodeKey) -> list[Member]:
    async with database.read() as connection:
        return await members.list_of(connection, nodes)


async def test_members_are_listed_by_node_and_by_user(database: Database) -> None:
    one = await add(database, A, BOB, Role.REPORTER)
    two = await add(database, PROJECT, ALICE, Role.OWNER, LATER)
    three = await add(database, PROJECT, BOB, Role.DEVELOPER)
    assert await listed(database, A, B, PROJECT, NodeKey(NodeKind.USER, 1)) == [one, two, three]
    assert await listed(database, PROJECT) == [two, three]
    assert await listed(database, B) == await listed(database) == []
    async with database.read() as connection:
        assert await members.of_user(connection, BOB) == [one, three]
        assert await members.find(connection, PROJECT, ALICE) == two
        assert await members.find(connection, A, ALICE) is None


async def test_a_member_is_changed_and_removed(database: Database) -> None:
    announced = Announced(database)
    member = await add(database, A, BOB, Role.GUEST)
    assert announced.take() == {(Concern.MEMBER, "2")}
    changed = replace(member, role=Role.OWNER, expires_at=LATER)
    async with database.write() as connection:
        await members.update(connection, changed, NOW)
    assert announced.take() == {(Concern.MEMBER, "2")}
    assert await listed(database, A) == [changed]
    async with database.write() as connection:
        assert await members.remove(connection, A, BOB) == changed
    assert announced.take() == {(Concern.MEMBER, "2")}
    assert await listed(database, A) == []


async def test_nobody_is_a_member_twice(database: Database) -> None:
    member = await add(database, A, BOB, Role.GUEST)
    with pytest.raises(MembershipRefused, match="user 'bob' is a member of 'a' already: change the role there"):
        await add(database, A, BOB, Role.OWNER)
    assert await listed(database, A) == [member]


async def test_a_role_below_an_inherited_one_is_refused(database: Database) -> None:
    await add(database, A, BOB, Role.MAINTAINER, LATER)
    reason = (
        "user 'bob' is maintainer of 'a', which holds in 'a/b/p' too: developer would take nothing away; "
        "choose at least maintainer, or change the role in 'a'"
    )
    with pytest.raises(MembershipRefused, match=reason):
        await add(database, PROJECT, BOB, Role.DEVELOPER)
    member = await add(database, PROJECT, BOB, Role.MAINTAINER)
    async with database.write() as connection:
        with pytest.raises(MembershipRefused, match="guest would take nothing away"):
            await members.update(connection, replace(member, role=Role.GUEST), NOW)
        await members.update(connection, replace(member, role=Role.GUEST), LATER)
    await add(database, B, BOB, Role.REPORTER, now=LATER)


async def test_the_owner_of_a_namespace_is_owner_of_its_projects(database: Database) -> None:
    with pytest.raises(MembershipRefused, match="user 'alice' is owner of 'alice', which holds in 'alice/own' too"):
        await add(database, OWN, ALICE, Role.MAINTAINER)
    await add(database, OWN, BOB, Role.DEVELOPER)
    with pytest.raises(MembershipRefused, match="the namespace of user 'alice' has no members: add them to a project"):
        await add(database, NodeKey(NodeKind.USER, ALICE), BOB, Role.DEVELOPER)


async def test_who_is_not_a_member_is_not_removed_or_changed(database: Database) -> None:
    await add(database, A, BOB, Role.MAINTAINER)
    async with database.write() as connection:
        with pytest.raises(MemberUnknown, match="user 'bob' is a member of 'a/b/p' only by way of 'a': change the"):
            await members.remove(connection, PROJECT, BOB)
        with pytest.raises(MemberUnknown, match="user 'alice' is a member of 'alice/own' only by way of 'alice'"):
            await members.remove(connection, OWN, ALICE)
        with pytest.raises(MemberUnknown, match=r"^user 'alice' is not a member of 'a/b/p'$"):
            await members.remove(connection, PROJECT, ALICE)
        with pytest.raises(MemberUnknown, match=r"^user 'alice' is not a member of 'a'$"):
            await members.update(connection, Member(A, ALICE, Role.GUEST, None, NOW), NOW)


async def test_a_membership_needs_a_node_and_a_user(database: Database) -> None:
    with pytest.raises(NodeUnknown, match="there is no group with the id 9"):
        await add(database, NodeKey(NodeKind.GROUP, 9), BOB, Role.GUEST)
    with pytest.raises(UserUnknown, match="there is no user with the id 9"):
        await add(database, A, 9, Role.GUEST)


async def test_memberships_end_with_their_node_and_their_user(database: Database) -> None:
    await add(database, PROJECT, BOB, Role.GUEST)
    await add(database, OWN, BOB, Role.GUEST)
    async with database.write() as connection:
        await projects.delete(connection, "a/b/p", NOW)
        assert [member.node for member in await members.of_user(connection, BOB)] == [OWN]
        await users.delete(connection, "bob")
    assert await listed(database, OWN) == []
