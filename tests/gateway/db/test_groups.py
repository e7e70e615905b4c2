"""The groups and the database they live in: real SQLite in a folder of the test's own."""

import asyncio
import multiprocessing
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import IntegrityError

from gateway.db import groups, schema
from gateway.db.engine import Database, DatabaseUnusable, migrate
from gateway.db.groups import (
    AnonymousPullRefused,
    Group,
    GroupError,
    GroupExists,
    GroupNotEmpty,
    GroupPathInvalid,
    GroupUnknown,
    Login,
    LoginRefused,
    UpstreamNameInvalid,
    Visibility,
)
from gateway.keys.sealing import KEY_FILE, SealBroken, Sealer

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    async with Database.open(tmp_path / "gateway.db") as database:
        yield database


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


# The database


def definitions(path: Path) -> dict[str, list[str]]:
    """Each table with what defines it, whatever the order: a column that came later stands behind the constraints."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return {name: sorted(" ".join(part.split()) for part in clauses(sql)) for name, sql in found}


def clauses(sql: str) -> list[str]:
    """What stands between the outer parentheses, parted at its commas."""
    parts, depth = [""], 0
    for character in sql[sql.index("(") + 1 : sql.rindex(")")]:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def test_migrations_make_what_the_schema_says(tmp_path: Path) -> None:
    migrate(tmp_path / "gateway.db")
    engine = create_engine(URL.create("sqlite", database=str(tmp_path / "schema.db")))
    schema.metadata.create_all(engine)
    engine.dispose()
    migrated = definitions(tmp_path / "gateway.db")
    assert migrated.pop("alembic_version")
    assert migrated == definitions(tmp_path / "schema.db")


async def test_migrating_again_changes_nothing(tmp_path: Path, database: Database) -> None:
    await create(database, "ci")
    before = database.version()
    migrate(tmp_path / "gateway.db")
    assert database.version() == before
    assert await paths(database) == ["ci"]


async def test_the_database_is_durable_and_for_its_owner_alone(tmp_path: Path, database: Database) -> None:
    async with database.read() as connection:
        modes = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert modes == ["wal", 2, 1, 5000]
    assert (tmp_path / "gateway.db").stat().st_mode & 0o777 == 0o600


def test_eight_at_once_migrate_one_new_database(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(migrate, [tmp_path / "gateway.db"] * 8)) == [None] * 8


async def test_a_newer_database_is_left_alone(tmp_path: Path, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseUnusable, match="has revision 9999, which this version does not know: use the version"):
        migrate(tmp_path / "gateway.db")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text(
        "not a database, but long enough to be taken for the header of one, is it not?"
    )
    with pytest.raises(DatabaseUnusable, match=r"gateway\.db cannot be used \(file is not a database\): look at"):
        migrate(tmp_path / "gateway.db")


async def test_opening_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable, match="unable to open database file"):
        async with Database.open(tmp_path / "gateway.db"):
            pass
    assert not (tmp_path / "gateway.db").exists()


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(GroupExists):
        await create(database, "a", "b", "a")
    assert await paths(database) == []


async def test_a_writer_without_a_turn_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.sqlite.BUSY_TIMEOUT_MS", 1)
    async with database.write():
        with pytest.raises(DatabaseUnusable, match=r"gateway\.db cannot be used \(database is locked\): try again"):
            await create(database, "a")


async def test_what_a_writer_read_stays_true_until_it_commits(database: Database) -> None:
    async def create_next() -> None:
        async with database.write() as connection:
            count = len(await groups.list_all(connection))
            await groups.create(connection, f"g{count}", NOW)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(create_next())
    assert await paths(database) == [f"g{number}" for number in range(8)]


def commit_elsewhere(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE groups SET visibility = 'internal'")
    connection.close()


async def test_the_version_shows_commits_of_this_and_of_another_process(tmp_path: Path, database: Database) -> None:
    fresh = database.version()
    assert database.version() == fresh
    await create(database, "a")
    own = database.version()
    assert own != fresh
    other = SPAWN.Process(target=commit_elsewhere, args=(tmp_path / "gateway.db",))
    other.start()
    await asyncio.to_thread(other.join)
    foreign = database.version()
    assert foreign != own
    assert database.version() == foreign


# Paths and names


@pytest.mark.parametrize("path", ["ci", "a/b/c", "my-team/sub.group/x_y", "a/admin", "a/v2", "/".join("a" * 20)])
def test_a_path_of_registry_components_is_one_of_a_group(path: str) -> None:
    assert groups.parse_path(path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("Team/Images", "group path 'Team/Images' has capitals, which registry names must not: use 'team/images'"),
        ("", "no path of a group: '' must be lower-case letters"),
        ("/a", "no path of a group: '/a' must be"),
        ("a//b", "no path of a group: 'a//b' must be"),
        ("-", "no path of a group: '-' must be"),
        ("a b", "no path of a group: 'a b' must be"),
        ("a\n", r"no path of a group: 'a\\n' must be"),
        ("a/" + "b" * 254, "no path of a group: a repository name has at most 255 characters, this one has 256"),
        ("/".join("a" * 21), "has 21 levels: use at most 20"),
        ("a/dependency_proxy", "'a/dependency_proxy' holds the reserved word 'dependency_proxy': use another name"),
        ("virtual_registries/a", "holds the reserved word 'virtual_registries': use another name"),
        ("admin/a", "group path 'admin/a' holds the reserved word 'admin': use another name"),
        ("v2", "group path 'v2' holds the reserved word 'v2': use another name"),
    ],
)
def test_another_path_is_refused_with_a_reason(path: str, reason: str) -> None:
    with pytest.raises(GroupPathInvalid, match=reason):
        groups.parse_path(path)


@pytest.mark.parametrize("name", ["docker.io", "localhost", "registry.example.com"])
def test_a_host_name_is_one_of_an_upstream(name: str) -> None:
    assert groups.parse_upstream_name(name) == name


@pytest.mark.parametrize("name", ["", "hub", "Docker.io", "docker.io/x", "localhost:5000", "https://docker.io"])
def test_another_name_of_an_upstream_is_refused(name: str) -> None:
    with pytest.raises(UpstreamNameInvalid, match="is no name of an upstream: it is a lower-case host name with a dot"):
        groups.parse_upstream_name(name)


# Groups


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
        ("a", GroupExists, "group 'a' exists already: choose another path, or update it"),
        ("x/y", GroupUnknown, "group 'x/y' needs the group 'x' above it: create that first"),
        ("A", GroupPathInvalid, "has capitals"),
    ],
)
async def test_a_group_that_cannot_be_created_is_refused(
    database: Database, path: str, error: type[GroupError], reason: str
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
    with pytest.raises(
        GroupUnknown, match="there is no group 'b': list the groups to see those there are"
    ):
        await update(database, replace(group, path="b"))


@pytest.mark.parametrize("visibility", [Visibility.INTERNAL, Visibility.PRIVATE])
async def test_only_a_public_group_allows_anonymous_pull(database: Database, visibility: Visibility) -> None:
    group = replace(await create(database, "a"), visibility=visibility, anonymous_pull=True)
    reason = f"group 'a' cannot be {visibility} and allow anonymous pull: give --visibility public, or --no-anonymous-"
    with pytest.raises(AnonymousPullRefused, match=reason):
        await update(database, group)
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(text("UPDATE groups SET anonymous_pull = true"))


async def test_a_group_with_groups_inside_is_not_deleted(database: Database) -> None:
    await create(database, "a_b", "a_b/c", "a_b/d", "a_b/d/e", "a_b/f", "axb", "axb/c", "a_bc")
    async with database.write() as connection:
        with pytest.raises(GroupNotEmpty, match="'a_b' holds a_b/c, a_b/d, a_b/d/e and 1 more: delete or move what is"):
            await groups.delete(connection, "a_b")
        assert (await groups.delete(connection, "a_bc")).path == "a_bc"
        with pytest.raises(GroupUnknown, match="there is no group 'a_bc'"):
            await groups.delete(connection, "a_bc")


async def test_the_id_of_a_deleted_group_does_not_return(database: Database) -> None:
    first = await create(database, "a")
    async with database.write() as connection:
        await groups.delete(connection, "a")
    assert (await create(database, "a")).id > first.id


async def test_only_a_fresh_database_is_given_the_hub(database: Database) -> None:
    await groups.prepare(database, NOW)
    async with database.write() as connection:
        hub = await groups.delete(connection, "hub")
    assert hub == Group(1, "hub", Visibility.PUBLIC, True, True, "docker.io", None, None, NOW)
    await groups.prepare(database, NOW)
    assert await paths(database) == []


# The upstream login


async def test_a_login_rests_sealed_and_opens_for_its_group_alone(database: Database, tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    a, b = await create(database, "a"), await create(database, "b")
    stored = await update(database, a.with_login(Login("u", "s3cret"), sealer))
    assert stored.open_login(Sealer(tmp_path / "keys")) == Login("u", "s3cret")
    assert "s3cret" not in repr(stored) + repr(Login("u", "s3cret"))
    assert b"s3cret" not in content(tmp_path)
    stolen = replace(b, upstream_username="u", upstream_password_sealed=stored.upstream_password_sealed)
    with pytest.raises(SealBroken, match=r"a sealed password \(upstream login of group 2\) was altered: set the"):
        stolen.open_login(sealer)
    assert (await update(database, stored.without_login())).open_login(sealer) is None


async def test_a_login_is_not_shown_to_another_upstream(database: Database, tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    group = await create(database, "a")
    group = await update(database, group.with_login(Login("u", "p"), sealer))
    moved = replace(group, default_upstream="quay.io")
    with pytest.raises(LoginRefused, match=r"group 'a' has a login for docker\.io, which quay\.io must not see: give"):
        await update(database, moved)
    assert (await update(database, moved.with_login(Login("u", "p"), sealer))).default_upstream == "quay.io"
    back = replace(moved.without_login(), default_upstream="docker.io")
    assert (await update(database, back)).upstream_username is None


@pytest.mark.parametrize("login", [Login("", "p"), Login("u", "")])
async def test_half_a_login_is_refused(database: Database, tmp_path: Path, login: Login) -> None:
    with pytest.raises(LoginRefused, match="the upstream login of group 'a' needs both a user name and a password"):
        (await create(database, "a")).with_login(login, Sealer(tmp_path / "keys"))


# Sealing


def test_the_same_secret_is_sealed_differently_each_time(tmp_path: Path) -> None:
    sealer = Sealer(tmp_path / "keys")
    first, second = sealer.seal("päss", "c"), sealer.seal("päss", "c")
    assert first != second
    assert sealer.open(first, "c") == sealer.open(second, "c") == "päss"


def test_the_key_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path: Path) -> None:
    Sealer(tmp_path / "keys").seal("s", "c")
    assert [file.name for file in (tmp_path / "keys").iterdir()] == [KEY_FILE]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_sixteen_at_once_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        sealed = list(pool.map(lambda _: Sealer(tmp_path / "keys").seal("s", "c"), range(16)))
    assert {Sealer(tmp_path / "keys").open(text, "c") for text in sealed} == {"s"}
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_key_put_before_the_others_seals_and_the_others_still_open(tmp_path: Path) -> None:
    old = Sealer(tmp_path / "old").seal("s", "c")
    Sealer(tmp_path / "new").seal("s", "c")
    both = (tmp_path / "new" / KEY_FILE).read_text() + (tmp_path / "old" / KEY_FILE).read_text()
    (tmp_path / "old" / KEY_FILE).write_text(both)
    sealer = Sealer(tmp_path / "old")
    assert sealer.open(old, "c") == "s"
    assert Sealer(tmp_path / "new").open(sealer.seal("t", "c"), "c") == "t"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read .No such file or directory.: restore that file, or set the passwords again"),
        ("", "is empty: restore that file"),
        ("one-word", "is damaged: restore that file"),
        ("id c2hvcnQ=", "is damaged: restore that file"),
        ("id " + "A" * 43 + "=", "no key '[0-9a-f]{8}' in .*, with which a password was sealed: restore that file, or"),
    ],
)
def test_a_lost_key_is_named(tmp_path: Path, content: str | None, reason: str) -> None:
    sealed = Sealer(tmp_path).seal("s", "c")
    (tmp_path / KEY_FILE).unlink()
    if content is not None:
        (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(SealBroken, match=reason):
        Sealer(tmp_path).open(sealed, "c")


@pytest.mark.parametrize("damage", [lambda text: text[:-6] + "AAAAAA", lambda text: text[:20], lambda text: text[:-1]])
def test_an_altered_secret_does_not_open(tmp_path: Path, damage: Callable[[str], str]) -> None:
    sealer = Sealer(tmp_path)
    with pytest.raises(SealBroken, match=r"a sealed password \(c\) was altered: set the password again"):
        sealer.open(damage(sealer.seal("secret", "c")), "c")
