"""The first administrator: made once, with a password that only its file and its user know."""

import asyncio
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.auth.passwords import hash_password, matches
from gateway.db import groups, users
from gateway.db.engine import Database
from gateway.keys import root_password
from gateway.maintenance.first_administrator import (
    AdministratorStart,
    drop_changed_password,
    prepare_administrator,
)
from gateway.namespaces.node import NodeKind
from gateway.namespaces.user import ROOT, User

NOW = datetime(2026, 11, 26, tzinfo=UTC)
CREATED = AdministratorStart(created=True, generated=True)


async def prepare(database: Database, keys: Path, password: str | None = None) -> AdministratorStart:
    return await prepare_administrator(database, keys, NOW, lambda: password)


async def stored(database: Database) -> list[User]:
    async with database.read() as connection:
        return await users.list_all(connection)


def never() -> str | None:
    raise AssertionError("a password was asked for")


async def test_a_generated_password_is_in_a_file_for_its_owner(database: Database, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    assert await prepare(database, keys) == CREATED
    [root] = await stored(database)
    assert (root.name, root.is_active_admin) == (ROOT, True)
    password = root_password.find(keys)
    assert password is not None and len(password) >= 20
    assert root.password_hash is not None and matches(root.password_hash, password)
    assert [path.name for path in keys.iterdir()] == ["root-password"]
    assert stat.S_IMODE((keys / "root-password").stat().st_mode) == 0o600


async def test_a_chosen_password_is_in_no_file(database: Database, tmp_path: Path) -> None:
    assert await prepare(database, tmp_path / "keys", "chosen-password") == AdministratorStart(created=True)
    [root] = await stored(database)
    assert root.password_hash is not None and matches(root.password_hash, "chosen-password")
    assert not (tmp_path / "keys").exists()


async def test_a_second_start_changes_nothing(database: Database, tmp_path: Path) -> None:
    await prepare(database, tmp_path)
    before = await stored(database), root_password.find(tmp_path)
    assert await prepare_administrator(database, tmp_path, NOW, never) == AdministratorStart()
    await drop_changed_password(database, tmp_path)
    assert (await stored(database), root_password.find(tmp_path)) == before


async def test_another_administrator_is_enough(database: Database, tmp_path: Path) -> None:
    async with database.write() as connection:
        await users.create(connection, "ada", NOW, admin=True)
    assert await prepare_administrator(database, tmp_path, NOW, never) == AdministratorStart()
    assert [user.name for user in await stored(database)] == ["ada"]


async def test_of_many_starts_at_once_one_makes_root(database: Database, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(5)]
    found = await asyncio.gather(*(prepare(database, folder) for folder in folders))
    [maker] = [folder for folder, start in zip(folders, found, strict=True) if start.created]
    assert [start.obstacle for start in found] == [""] * 5
    assert [folder for folder in folders if folder.exists()] == [maker]
    [root] = await stored(database)
    assert root.password_hash is not None and matches(root.password_hash, root_password.find(maker) or "")


async def test_a_group_of_the_name_is_an_obstacle_and_stays(database: Database, tmp_path: Path) -> None:
    async with database.write() as connection:
        group = await groups.create(connection, ROOT, NOW)
    start = await prepare_administrator(database, tmp_path, NOW, never)
    assert start == AdministratorStart(
        obstacle="there is no administrator, and 'root' is the path of a group", holder=NodeKind.GROUP
    )
    async with database.read() as connection:
        assert await groups.get(connection, ROOT) == group
    assert (await stored(database), root_password.find(tmp_path)) == ([], None)


async def test_a_regular_user_of_the_name_is_an_obstacle_and_stays(database: Database, tmp_path: Path) -> None:
    async with database.write() as connection:
        root = await users.create(connection, ROOT, NOW)
    start = await prepare_administrator(database, tmp_path, NOW, never)
    assert (start.obstacle, start.holder) == (
        "there is no administrator, and 'root' is a regular user",
        NodeKind.USER,
    )
    assert await stored(database) == [root]


async def test_no_root_is_made_whose_password_cannot_be_kept(database: Database, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where the folder should be")
    start = await prepare(database, tmp_path / "keys")
    assert start.obstacle == f"the password cannot be written to {tmp_path / 'keys'} (File exists)"
    assert await stored(database) == []


async def test_a_start_that_ends_between_file_and_user_is_made_up_for_by_the_next(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(keys: Path, password: str) -> None:
        write(keys, password)
        raise KeyboardInterrupt

    write = root_password.write
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(root_password, "write", fail)
        await prepare(database, tmp_path)
    assert await stored(database) == []
    assert await prepare(database, tmp_path) == CREATED
    [root] = await stored(database)
    assert root.password_hash is not None and matches(root.password_hash, root_password.find(tmp_path) or "")


@pytest.mark.parametrize("change", ["password", "none", "deleted"])
async def test_the_file_of_a_changed_password_is_deleted(database: Database, tmp_path: Path, change: str) -> None:
    await prepare(database, tmp_path)
    async with database.write() as connection:
        root = await users.get(connection, ROOT)
        await users.create(connection, "ada", NOW, admin=True)
        if change == "deleted":
            await users.delete(connection, ROOT)
        elif change == "password":
            await users.update(connection, root.with_password(hash_password("another password"), NOW))
        else:
            await users.update(connection, replace(root, password_hash=None, password_changed_at=None))
    await drop_changed_password(database, tmp_path)
    assert root_password.find(tmp_path) is None
