"""Groups as they are stored, on each engine."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import CooldownAction, Gate, Pin
from gateway.db import groups
from gateway.db.engine import Database
from gateway.keys.sealing import SealBroken, Sealer
from gateway.keys.upstream_login import open_login, seal_login
from gateway.namespaces.errors import (
    AnonymousPullRefused,
    GroupUnknown,
    LoginIncomplete,
    LoginMisdirected,
    NodeNotEmpty,
    ParentUnknown,
    PathInvalid,
    PathTaken,
    TreeError,
)
from gateway.namespaces.group import Group, Login
from gateway.namespaces.node import Visibility

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


async def create(database: Database, *paths: str) -> Group:
    async with database.write() as connection:
        return [await groups.create(connection, path, NOW) for path in paths][-1]


async def update(database: Database, group: Group) -> Group:
    async with database.write() as connection:
        await groups.update(connection, group)
    async with database.read() as connection:
        return await groups.get(connection, group.path)


async def paths(database: Database) -> list[str]:
    async with database.read() as connection:
        return [group.path for group in await groups.list_all(connection)]


def content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_a_new_group_is_private_with_its_proxy_on(database: Database) -> None:
    group = await create(database, "ci")
    assert group == Group(1, "ci", Visibility.PRIVATE, True, False, "docker.io", None, None, NOW)
    async with database.read() as connection:
        assert await groups.find(connection, "ci") == group
        assert await groups.find(connection, "cd") is None


async def test_groups_are_listed_after_the_ones_above_them(database: Database) -> None:
    await create(database, "b", "a-b", "a", "a/c", "a/b")
    assert await paths(database) == ["a", "a/b", "a/c", "a-b", "b"]


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("a", PathTaken, "group 'a' exists already: choose another path, or update it"),
        ("x/y", ParentUnknown, "group 'x/y' needs the group 'x' above it: create that first"),
        ("A", PathInvalid, "has the capital 'A'"),
    ],
)
async def test_a_group_that_cannot_be_created_is_refused(
    database: Database, path: str, error: type[TreeError], reason: str
) -> None:
    await create(database, "a")
    with pytest.raises(error, match=reason):
        await create(database, path)
    assert await paths(database) == ["a"]


async def test_an_update_stores_everything_but_the_path(database: Database) -> None:
    group = await create(database, "a")
    changed = replace(
        group,
        visibility=Visibility.PUBLIC,
        proxy_enabled=False,
        anonymous_pull=True,
        default_upstream="quay.io",
        upstream_username="u",
        upstream_password_sealed="s",
    )
    assert await update(database, changed) == changed
    with pytest.raises(GroupUnknown, match="there is no group 'b'"):
        await update(database, replace(group, path="b"))


@pytest.mark.parametrize("visibility", [Visibility.INTERNAL, Visibility.PRIVATE])
async def test_only_a_public_group_allows_anonymous_pull(database: Database, visibility: Visibility) -> None:
    group = replace(await create(database, "a"), visibility=visibility, anonymous_pull=True)
    reason = f"^group 'a' cannot be {visibility} and allow anonymous pull$"
    with pytest.raises(AnonymousPullRefused, match=reason):
        await update(database, group)
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(text("UPDATE groups SET anonymous_pull = true"))


async def test_a_group_with_groups_inside_is_not_deleted(database: Database) -> None:
    await create(database, "a_b", "a_b/c", "a_b/d", "a_b/d/e", "a_b/f", "axb", "axb/c", "a_bc")
    async with database.write() as connection:
        with pytest.raises(NodeNotEmpty, match="'a_b' holds a_b/c, a_b/d, a_b/d/e and more: delete what is"):
            await groups.delete(connection, "a_b")
        assert (await groups.delete(connection, "a_bc")).path == "a_bc"
        with pytest.raises(GroupUnknown, match="there is no group 'a_bc'"):
            await groups.delete(connection, "a_bc")


async def test_the_id_of_a_deleted_group_does_not_return(database: Database) -> None:
    first = await create(database, "a")
    async with database.write() as connection:
        await groups.delete(connection, "a")
    assert (await create(database, "a")).id > first.id


async def prepare(database: Database) -> None:
    async with database.write() as connection:
        await groups.prepare(connection, NOW)


async def test_only_a_fresh_database_is_given_the_hub(database: Database) -> None:
    await prepare(database)
    async with database.write() as connection:
        hub = await groups.delete(connection, "hub")
    assert hub == Group(1, "hub", Visibility.PUBLIC, True, True, "docker.io", None, None, NOW)
    await prepare(database)
    assert await paths(database) == []


# The upstream login


async def test_a_login_rests_sealed_and_opens_for_its_group_alone(database: Database, tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    a, b = await create(database, "a"), await create(database, "b")
    stored = await update(database, seal_login(a, Login("u", "s3cret"), sealer))
    assert open_login(stored, Sealer(tmp_path / "keys")) == Login("u", "s3cret")
    assert "s3cret" not in repr(stored) + repr(Login("u", "s3cret"))
    assert b"s3cret" not in content(tmp_path)
    stolen = replace(b, upstream_username="u", upstream_password_sealed=stored.upstream_password_sealed)
    with pytest.raises(SealBroken, match=r"a sealed password \(upstream login of group 2\) was altered: set the"):
        open_login(stolen, sealer)
    assert open_login(await update(database, stored.without_login()), sealer) is None


async def test_a_login_is_not_shown_to_another_upstream(database: Database, tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    group = await create(database, "a")
    group = await update(database, seal_login(group, Login("u", "p"), sealer))
    moved = replace(group, default_upstream="quay.io")
    with pytest.raises(LoginMisdirected, match=r"^group 'a' has a login for docker\.io, which quay\.io must not see$"):
        await update(database, moved)
    assert (await update(database, seal_login(moved, Login("u", "p"), sealer))).default_upstream == "quay.io"
    back = replace(moved.without_login(), default_upstream="docker.io")
    assert (await update(database, back)).upstream_username is None


@pytest.mark.parametrize("login", [Login("", "p"), Login("u", "")])
async def test_half_a_login_is_refused(database: Database, tmp_path: Path, login: Login) -> None:
    with pytest.raises(LoginIncomplete, match="the upstream login of group 'a' needs both a user name and a password"):
        seal_login(await create(database, "a"), login, Sealer(tmp_path / "keys"))


# The gate


async def test_a_gate_is_stored_as_it_was(database: Database) -> None:
    pin = Pin("docker.io", RepositoryName("library/x"), Tag("v1"), Digest.of(b"x"))
    gate = Gate(("library/*",), ("*/secret",), timedelta(days=3), CooldownAction.REFUSE, True, (pin,))
    group = await create(database, "a")
    assert (await update(database, replace(group, gate=gate))).gate == gate
    assert (await update(database, replace(group, gate=None))).gate is None


async def test_only_groups_that_may_lend_an_account_are_read(database: Database) -> None:
    """A start need not read 10,000 groups to learn which of them show everybody what an account reads."""
    login = {"upstream_username": "us", "upstream_password_sealed": "sealed"}
    is_open = {"visibility": Visibility.PUBLIC, "anonymous_pull": True}
    for path, changes in {
        "closed": login,
        "closed-listed": {},
        "off": {**is_open, **login, "proxy_enabled": False},
        "open": is_open,
        "open-listed": is_open,
        "own": {**is_open, **login},
    }.items():
        await update(database, replace(await create(database, path), **changes))
    async with database.read() as connection:
        found = await groups.list_lending(connection, {"open-listed", "closed-listed", "absent"})
        assert [group.path for group in found] == ["open-listed", "own"]
        assert [group.path for group in await groups.list_lending(connection, set())] == ["own"]
