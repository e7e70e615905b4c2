"""The database: migrations, transactions, and writers that take turns; real SQLite in a folder of the test's own."""

import asyncio
import contextlib
import fcntl
import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine, text

from cache.index import sql
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.sqlite import Watcher, alone, newest_revision
from gateway.db import blobs, collection_state, groups, manifests, projects, revisions, schema, tag_events, tags
from gateway.db.engine import Database, DatabaseUnusable, migrate
from gateway.db.manifests import Reference
from gateway.db.sqlite_engine import SqliteTransactions
from tests.gateway.db.native_rows import add_repository, new_manifest
from tests.parts.gateway import ROOT

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
COLLECTION = ("collection", "blob_removals", "manifest_reviews", "blob_reviews")
PURGES = ("cache_purges", "image_ttl_policies")
VIRTUAL = ("virtual_registry_upstreams", "virtual_upstreams", "virtual_registries")
CLEANUPS = ("repository_cleanups", "cleanup_policies")
SPAWN = multiprocessing.get_context("spawn")
pytestmark = pytest.mark.usefixtures("real_migrations")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    async with Database.open(tmp_path / "gateway.db") as database:
        yield database


async def create(database: Database, *paths: str) -> None:
    async with database.write() as connection:
        for path in paths:
            await groups.create(connection, path, NOW)


async def paths(database: Database) -> list[str]:
    async with database.read() as connection:
        return [group.path for group in await groups.list_all(connection)]


def definitions(path: Path) -> dict[str, list[str]]:
    """The clauses that define each table, sorted: a column that a migration added stands behind the constraints."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return {name: sorted(" ".join(part.split()) for part in clauses(sql)) for name, sql in found}


def clauses(sql: str) -> list[str]:
    """The text between the outer parentheses, split at its commas."""
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
    watcher = Watcher(tmp_path / "gateway.db")
    before = watcher.version()
    migrate(tmp_path / "gateway.db")
    assert watcher.version() == before
    watcher.close()
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


async def test_a_transaction_that_finds_no_connection_is_told_to_try_again(tmp_path: Path) -> None:
    migrate(path := tmp_path / "gateway.db")
    async with SqliteTransactions.open(path, 5.0, connection_seconds=0.01) as transactions, AsyncExitStack() as held:
        with pytest.raises(DatabaseUnusable, match=r"all connections to it are in use\): try again"):
            while True:
                await held.enter_async_context(transactions.read())
        await held.aclose()
        async with transactions.read() as connection:
            assert await groups.list_all(connection) == []


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
    with pytest.raises(DatabaseUnusable, match="No such file or directory"):
        async with Database.open(tmp_path / "gateway.db"):
            pass
    assert not (tmp_path / "gateway.db").exists()


async def test_a_writer_without_a_turn_says_so(tmp_path: Path, database: Database) -> None:
    async with Database.open(tmp_path / "gateway.db", turn_seconds=0.01) as impatient:
        async with database.write():
            with pytest.raises(DatabaseUnusable, match=r"gateway\.db cannot be used \(database is locked\): try again"):
                await create(impatient, "a")
        await create(database, "b")
        await create(impatient, "c")
    assert await paths(database) == ["b", "c"]


def write_in_vain(path: Path) -> None:
    """Work of another process that does not wait long for its turn."""

    async def write() -> None:
        async with Database.open(path, turn_seconds=0.01) as database:
            await create(database, "x")

    with contextlib.suppress(DatabaseUnusable):
        asyncio.run(write())


@pytest.mark.usefixtures("processes")
async def test_a_process_that_gave_up_waiting_ends_though_the_other_writer_does_not(
    tmp_path: Path, database: Database
) -> None:
    async with database.write():
        process = SPAWN.Process(target=write_in_vain, args=(tmp_path / "gateway.db",))
        process.start()
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode == 0


def test_a_migration_waits_only_so_long_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    refused = pytest.raises(DatabaseUnusable, match=r"x\.db cannot be used \(database is locked\)")
    with alone(path), refused, alone(path, 0.01):
        raise AssertionError("two were alone")


@pytest.mark.usefixtures("processes")
async def test_a_writer_waits_for_one_of_another_process(tmp_path: Path, database: Database) -> None:
    with (tmp_path / "gateway.db.lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        creating = asyncio.create_task(create(database, "a"))
        done, _ = await asyncio.wait([creating], timeout=0.05)
        assert not done
        assert await paths(database) == []
    await creating
    assert await paths(database) == ["a"]


async def test_a_data_folder_of_the_previous_version_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(path)
    async with Database.open(path) as database, database.write() as connection:
        await groups.prepare(connection, NOW)
        await groups.create(connection, "ci", NOW)
    before = groups_of(path)
    with closing(sqlite3.connect(path)) as file, file:
        store = (
            "old_paths",
            *COLLECTION,
            "user_identities",
            "web_sessions",
            "id_token_logins",
            "bots",
            *PURGES,
            *VIRTUAL,
            "bulk_deletions",
            "protection_rules",
            *CLEANUPS,
            "deleted_manifests",
            "pinned_tags",
            "tag_events",
            "uploads",
            "tags",
            "manifest_references",
            "manifests",
            "blob_links",
            "blobs",
            "repositories",
        )
        newer = ("paths", "job_allowances", "jobs", "deploy_tokens", "personal_tokens", "members", "projects", "users")
        latest = ("webhook_deliveries", "webhook_events", "webhooks")
        for table in (*latest, "changes", *store, *newer, "compatibility"):
            file.execute(f"DROP TABLE {table}")
        file.execute("ALTER TABLE groups DROP COLUMN quota")
        file.execute("ALTER TABLE groups DROP COLUMN stored_bytes")
        file.execute("ALTER TABLE groups DROP COLUMN as_of")
        file.execute("UPDATE alembic_version SET version_num = '0002'")
    migrate(path)
    assert groups_of(path) == before
    async with Database.open(path) as database:
        await create(database, "ci/new")
        assert await paths(database) == ["ci", "ci/new", "hub"]


async def test_a_group_with_a_quota_is_told_what_it_stores_by_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(path)
    async with Database.open(path) as database, database.write() as connection:
        for group in ("a", "a/b", "ab"):
            await groups.create(connection, group, NOW)
        for project in ("a/p", "a/b/p", "ab/p"):
            await projects.create(connection, project, NOW)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE projects SET stored_bytes = 10 + id")
        file.execute("UPDATE groups SET quota = 1000 WHERE path IN ('a', 'ab')")
        file.execute("ALTER TABLE groups DROP COLUMN stored_bytes")
        take_back_0009(file)
        file.execute("UPDATE alembic_version SET version_num = '0007'")
    migrate(path)
    with closing(sqlite3.connect(path)) as file:
        assert dict(file.execute("SELECT path, stored_bytes FROM groups")) == {"a": 23, "a/b": 0, "ab": 13}


async def test_what_nothing_needs_when_it_is_upgraded_is_reviewed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(path)
    needed, unneeded, nowhere = (Digest.of(text) for text in (b"needed", b"unneeded", b"nowhere"))
    async with Database.open(path) as database, database.write() as connection:
        repository = await add_repository(connection)
        for digest in (needed, unneeded):
            await blobs.link(connection, repository.id, digest, 1, NOW)
        await blobs.link(connection, repository.id, nowhere, 1, NOW)
        await blobs.unlink(connection, repository.id, nowhere, NOW)
        tagged = await manifests.put(connection, repository.id, new_manifest("a", Reference(needed, False)), NOW)
        await tags.point(connection, repository.id, Tag("v1"), tagged, NOW, "ada")
        untagged = await manifests.put(connection, repository.id, new_manifest("b"), NOW)
    with closing(sqlite3.connect(path)) as file, file:
        take_back_0009(file)
        file.execute("UPDATE alembic_version SET version_num = '0008'")
    migrate(path)
    with closing(sqlite3.connect(path)) as file:
        reviews = set(file.execute("SELECT digest, repository_id, event FROM blob_reviews"))
        assert reviews == {(str(unneeded), repository.id, "upgrade"), (str(nowhere), 0, "upgrade")}
        assert list(file.execute("SELECT manifest_id, event FROM manifest_reviews")) == [(untagged, "upgrade")]
    async with Database.open(path) as database, database.read() as connection:
        assert (await collection_state.waiting(connection)).first is not None


async def test_the_history_of_tags_begins_with_what_they_point_to_at_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    migrate(path)
    async with Database.open(path) as database, database.write() as connection:
        repository = await add_repository(connection)
        for number, text in enumerate(("a", "b")):
            moved = NOW + timedelta(hours=number)
            manifest = await manifests.put(connection, repository.id, new_manifest(text), moved)
            await tags.point(connection, repository.id, Tag("v1"), manifest, moved, "ada")
    with closing(sqlite3.connect(path)) as file, file:
        take_back_0010(file)
        file.execute("UPDATE alembic_version SET version_num = '0009'")
    migrate(path)
    async with Database.open(path) as database, database.read() as connection:
        [event] = await tag_events.list_page(connection, repository.id, Tag("v1"))
        assert (event.before, event.after, event.at) == (None, new_manifest("b").descriptor.digest, moved)
        assert await tag_events.list_at(connection, repository.id, NOW) == []


def take_back_0025(file: sqlite3.Connection) -> None:
    file.execute("DROP TABLE user_identities")
    file.execute("ALTER TABLE web_sessions DROP COLUMN identity_id")


def take_back_0024(file: sqlite3.Connection) -> None:
    take_back_0025(file)
    for table in ("webhook_deliveries", "webhook_events", "webhooks"):
        file.execute(f"DROP TABLE {table}")


def take_back_0022(file: sqlite3.Connection) -> None:
    take_back_0024(file)
    for table in (*VIRTUAL, *PURGES):
        file.execute(f"DROP TABLE {table}")


def take_back_0018(file: sqlite3.Connection) -> None:
    take_back_0022(file)
    for table in ("web_sessions", "id_token_logins", "bots"):
        file.execute(f"DROP TABLE {table}")
    file.execute("ALTER TABLE projects DROP COLUMN limits_jobs")
    for column in ("description", "family_id"):
        file.execute(f"ALTER TABLE personal_tokens DROP COLUMN {column}")


def take_back_0015(file: sqlite3.Connection) -> None:
    take_back_0018(file)
    for table in ("bulk_deletions", "protection_rules", "deleted_manifests"):
        file.execute(f"DROP TABLE {table}")


def take_back_0014(file: sqlite3.Connection) -> None:
    take_back_0015(file)
    for table in CLEANUPS:
        file.execute(f"DROP TABLE {table}")
    file.execute("DROP INDEX ix_tags_repository_id_moved_at_name")


def take_back_0013(file: sqlite3.Connection) -> None:
    take_back_0014(file)
    for table, place in (("blob_reviews", "since_digest_repository_id"), ("manifest_reviews", "since_manifest_id")):
        file.execute(f"CREATE INDEX ix_{table}_since ON {table} (since)")
        file.execute(f"DROP INDEX ix_{table}_{place}")


def take_back_0012(file: sqlite3.Connection) -> None:
    take_back_0013(file)
    file.execute("DROP TABLE pinned_tags")
    for table, column in (("groups", "as_of"), ("projects", "as_of"), ("projects", "pinned_at")):
        file.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def take_back_0010(file: sqlite3.Connection) -> None:
    take_back_0012(file)
    for table in ("old_paths", "tag_events"):
        file.execute(f"DROP TABLE {table}")
    file.execute("DROP INDEX ix_repositories_deleted_at")
    for column in ("deleted_at", "deleted_name", "deleted_by"):
        file.execute(f"ALTER TABLE repositories DROP COLUMN {column}")


def take_back_0009(file: sqlite3.Connection) -> None:
    take_back_0010(file)
    for table in COLLECTION:
        file.execute(f"DROP TABLE {table}")
    file.execute("DROP INDEX ix_manifest_references_repository_id_digest")
    file.execute("ALTER TABLE manifest_references DROP COLUMN repository_id")


def groups_of(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM groups ORDER BY id").fetchall()


@pytest.mark.parametrize("location", [revisions.MIGRATIONS, sql.MIGRATIONS])
def test_the_newest_revision_is_told_by_the_names_of_files(location: str) -> None:
    config = Config()
    config.set_main_option("script_location", location)
    assert newest_revision(location) == ScriptDirectory.from_config(config).get_current_head()


@pytest.mark.usefixtures("processes")
def test_a_command_loads_no_migrations_where_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "gateway", "group", "list", "--data", str(tmp_path)]
    migrate(tmp_path / "gateway.db")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "sqlalchemy" in done.stderr
    assert "alembic" not in done.stderr
