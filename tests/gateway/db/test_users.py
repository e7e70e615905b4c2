"""Users as they are stored: one suite for every database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.db import groups, paths, projects, users
from gateway.db.changes import Concern
from gateway.db.engine import Database
from gateway.namespaces.errors import (
    EmailInvalid,
    EmailTaken,
    LastAdministrator,
    NodeNotEmpty,
    PathInvalid,
    PathTaken,
    TreeError,
    UserUnknown,
)
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.namespaces.user import User
from tests.gateway.db.announced import Announced

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


async def create(database: Database, name: str, **properties: Any) -> User:
    async with database.write() as connection:
        return await users.create(connection, name, NOW, **properties)


async def update(database: Database, user: User) -> User:
    async with database.write() as connection:
        await users.update(connection, user)
    async with database.read() as connection:
        return await users.get(connection, user.name)


async def delete(database: Database, name: str) -> User:
    async with database.write() as connection:
        return await users.delete(connection, name)


async def test_a_new_user_is_active_and_has_a_namespace(database: Database) -> None:
    user = await create(database, "alice")
    assert user == User(1, "alice", None, False, False, False, None, None, NOW)
    assert user.state == "active"
    async with database.read() as connection:
        assert await users.find(connection, "alice") == await users.find_by_id(connection, 1) == user
        assert await paths.find(connection, "alice") == PathEntry("alice", NodeKey(NodeKind.USER, 1))
        assert await users.find(connection, "bob") is None
        assert await users.find_by_id(connection, 2) is None
        with pytest.raises(UserUnknown, match="there is no user 'bob'"):
            await users.get(connection, "bob")


async def test_a_user_is_stored_with_every_property(database: Database) -> None:
    properties: dict[str, Any] = {"email": "A@Example.com", "admin": True, "external": True, "password_hash": "h"}
    user = await create(database, "alice", **properties)
    assert user == User(1, "alice", "a@example.com", True, True, False, "h", NOW, NOW)
    assert "password_hash" not in repr(user)
    async with database.read() as connection:
        assert await users.find_by_email(connection, "a@EXAMPLE.com") == user
        assert await users.find_by_email(connection, "b@example.com") is None


async def test_an_update_stores_everything_but_the_name(database: Database) -> None:
    user = await create(database, "alice")
    changed = replace(user, email="b@example.com", admin=True, external=True, blocked=True).with_password("h", LATER)
    assert await update(database, changed) == changed
    assert (changed.state, changed.password_changed_at) == ("blocked", LATER)
    assert await update(database, replace(changed, email="C@example.com")) == replace(changed, email="c@example.com")
    with pytest.raises(UserUnknown, match="there is no user 'bob'"):
        await update(database, replace(user, name="bob"))


@pytest.mark.parametrize(
    ("name", "email", "error", "reason"),
    [
        ("alice", None, PathTaken, "user 'alice' exists already"),
        ("team", None, PathTaken, "group 'team' exists already"),
        ("Bob", None, PathInvalid, "use a name such as 'bob'"),
        ("bob", "A@EXAMPLE.COM", EmailTaken, "user 'alice' has the e-mail address 'a@example.com': use another one"),
        ("bob", "bob", EmailInvalid, "'bob' is not an e-mail address: write it as NAME@HOST"),
    ],
)
async def test_a_user_that_cannot_be_created_is_refused(
    database: Database, name: str, email: str | None, error: type[TreeError], reason: str
) -> None:
    await create(database, "alice", email="a@example.com")
    async with database.write() as connection:
        await groups.create(connection, "team", NOW)
    with pytest.raises(error, match=reason):
        await create(database, name, email=email)
    async with database.read() as connection:
        assert [user.name for user in await users.list_all(connection)] == ["alice"]


async def test_a_group_does_not_take_the_name_of_a_user(database: Database) -> None:
    await create(database, "alice")
    with pytest.raises(PathTaken, match="user 'alice' exists already"):
        async with database.write() as connection:
            await groups.create(connection, "alice", NOW)


async def test_an_address_of_another_user_is_not_taken_over(database: Database) -> None:
    await create(database, "alice", email="a@example.com")
    bob = await create(database, "bob")
    with pytest.raises(EmailTaken, match="user 'alice' has"):
        await update(database, replace(bob, email="A@example.com"))
    with pytest.raises(EmailInvalid):
        await update(database, replace(bob, email="@example.com"))


async def test_users_are_listed_in_pages_by_name(database: Database) -> None:
    ids = {name: (await create(database, name)).id for name in ["c", "a-b", "a.b", "a", "b"]}
    async with database.read() as connection:
        assert [user.name for user in await users.list_all(connection)] == ["a", "a-b", "a.b", "b", "c"]
        assert [user.name for user in await users.list_all(connection, after="a-b", limit=2)] == ["a.b", "b"]
        assert await users.names_of(connection, [ids["a"], ids["c"], 99]) == {ids["a"]: "a", ids["c"]: "c"}


async def test_names_and_paths_of_any_number_of_users_are_found(database: Database) -> None:
    async with database.write() as connection:
        ann, bob = [await users.create(connection, name, NOW) for name in ("ann", "bob")]
        many = range(40_000)  # more than a statement may have values
        assert await users.names_of(connection, many) == {ann.id: "ann", bob.id: "bob"}
        found = await paths.find_of(connection, [NodeKey(NodeKind.USER, number) for number in many])
        assert [place.path for place in found] == ["ann", "bob"]


async def test_whether_there_is_an_active_administrator_is_known(database: Database) -> None:
    async def has_admin() -> bool:
        async with database.read() as connection:
            return await users.has_admin(connection)

    await create(database, "alice")
    assert not await has_admin()
    root = await create(database, "root", admin=True)
    assert await has_admin()
    await create(database, "second", admin=True)
    await update(database, replace(root, blocked=True))
    assert await has_admin()


@pytest.mark.parametrize("change", [{"blocked": True}, {"admin": False}, None])
async def test_the_last_active_administrator_stays(database: Database, change: dict[str, Any] | None) -> None:
    async def try_it(user: User) -> None:
        await (delete(database, user.name) if change is None else update(database, replace(user, **change)))

    root, second = await create(database, "root", admin=True), await create(database, "second", admin=True)
    second = await update(database, replace(second, blocked=True))
    with pytest.raises(LastAdministrator, match="user 'root' is the last active administrator: make another user an"):
        await try_it(root)
    assert (await update(database, replace(root, external=True))).admin
    await update(database, replace(second, blocked=False))
    await try_it(root)


async def test_a_user_with_projects_is_not_deleted(database: Database) -> None:
    await create(database, "alice")
    async with database.write() as connection:
        await projects.create(connection, "alice/b", NOW)
        await projects.create(connection, "alice/a", NOW)
    with pytest.raises(NodeNotEmpty, match="the namespace of user 'alice' holds alice/a, alice/b: delete what is"):
        await delete(database, "alice")
    async with database.write() as connection:
        await projects.delete(connection, "alice/a", NOW)
        await projects.delete(connection, "alice/b", NOW)
    assert (await delete(database, "alice")).name == "alice"
    with pytest.raises(UserUnknown):
        await delete(database, "alice")
    assert (await create(database, "alice")).id == 2


async def test_every_change_of_a_user_is_announced(database: Database) -> None:
    announced = Announced(database)
    await create(database, "alice")
    arrival = {(Concern.USER, "1"), (Concern.USER, "alice")}
    assert announced.take() == arrival
    async with database.read() as connection:
        user = await users.get(connection, "alice")
    await update(database, replace(user, blocked=True))
    assert announced.take() == {(Concern.USER, "1")}
    await delete(database, "alice")
    assert announced.take() == arrival | {(Concern.MEMBER, "1")}
