"""gateway.db on PostgreSQL: set-up, the order of changes, and what is said when the server cannot be used."""

import asyncio
import os
import signal as signals
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.sqlite import DatabaseOutdated
from gateway.db import groups, paths, postgresql_changes, schema
from gateway.db.address import PostgresqlAddress
from gateway.db.changes import ChangeSignal, Concern, announce
from gateway.db.engine import Database, DatabaseUnusable
from gateway.db.postgresql import make_engine
from gateway.db.revisions import needed_revision
from gateway.db.schema import changes
from gateway.db.setup import read_revision, set_up, upgrade
from tests.parts.ports import free_port
from tests.parts.postgresql import PASSWORD, Databases

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
async def address(databases: Databases) -> AsyncIterator[PostgresqlAddress]:
    async with databases.made() as address:
        yield address


@pytest.fixture
async def empty(databases: Databases) -> AsyncIterator[PostgresqlAddress]:
    async with databases.made(empty=True) as address:
        yield address


@pytest.fixture
async def database(address: PostgresqlAddress) -> AsyncIterator[Database]:
    async with Database.open(address) as database:
        yield database


@pytest.fixture
async def signal(address: PostgresqlAddress) -> AsyncIterator[ChangeSignal]:
    """The signal of another process, as it were."""
    async with Database.open(address) as other:
        yield other.changes


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is read moves on in the loop
            await asyncio.sleep(0.02)


def drops(signal: ChangeSignal) -> list[str | None]:
    dropped: list[str | None] = []
    signal.subscribe(Concern.GROUP, dropped.append)
    return dropped


async def scalars(address: PostgresqlAddress, statement: str) -> list[object]:
    """Run a statement beside everything else and return its first column."""
    engine = make_engine(address)
    async with engine.begin() as connection:
        result = await connection.execute(text(statement))
        found = list(result.scalars()) if result.returns_rows else []
    await engine.dispose()
    return found


# Set-up and upgrades

DEFINITIONS = """
SELECT table_name || '.' || column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', '')
       || ' ' || is_nullable || coalesce(' ' || column_default, '') || coalesce(' ' || collation_name, '')
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
ORDER BY 1
"""


async def test_migrations_make_what_the_schema_says(address: PostgresqlAddress, empty: PostgresqlAddress) -> None:
    engine = make_engine(empty)
    async with engine.begin() as connection:
        await connection.run_sync(schema.metadata.create_all)
    await engine.dispose()
    assert await scalars(address, DEFINITIONS) == await scalars(empty, DEFINITIONS)


async def test_several_set_up_one_empty_database_at_once(empty: PostgresqlAddress) -> None:
    assert (await read_revision(empty)).number is None
    await asyncio.gather(*(set_up(empty) for _ in range(4)))
    found = await read_revision(empty)
    assert found.number == needed_revision()
    assert found.oldest_program is not None


async def test_an_older_database_is_upgraded_on_request_alone(address: PostgresqlAddress) -> None:
    store = "uploads, tags, manifest_references, manifests, blob_links, blobs, repositories"
    reviews = "collection, blob_removals, manifest_reviews, blob_reviews"
    newest = "virtual_registry_upstreams, virtual_upstreams, virtual_registries"
    await scalars(address, f"DROP TABLE {newest}")
    newest = "bulk_deletions, protection_rules, deleted_manifests, repository_cleanups, cleanup_policies"
    await scalars(address, "DROP TABLE webhook_deliveries, webhook_events, webhooks")
    await scalars(address, "DROP TABLE user_identities, web_sessions, cache_purges, image_ttl_policies")
    await scalars(address, f"DROP TABLE id_token_logins, bots, {newest}")
    await scalars(address, f"DROP TABLE pinned_tags, old_paths, tag_events, {reviews}, {store}, compatibility")
    await scalars(address, "ALTER TABLE groups DROP COLUMN quota, DROP COLUMN stored_bytes, DROP COLUMN as_of")
    await scalars(
        address,
        "ALTER TABLE projects DROP COLUMN quota, DROP COLUMN stored_bytes, DROP COLUMN as_of, DROP COLUMN pinned_at, "
        "DROP COLUMN limits_jobs",
    )
    await scalars(address, "ALTER TABLE personal_tokens DROP COLUMN description, DROP COLUMN family_id")
    await scalars(address, "UPDATE alembic_version SET version_num = '0004'")
    with pytest.raises(DatabaseOutdated, match="has revision 0004, and this version needs"):
        await set_up(address)
    await asyncio.gather(upgrade(address), upgrade(address))
    await set_up(address)
    assert (await read_revision(address)).number == needed_revision()


@pytest.mark.parametrize(("oldest", "usable"), [("0001", True), ("9998", False)])
async def test_a_newer_database_is_used_if_it_names_this_version_as_able(
    address: PostgresqlAddress, oldest: str, usable: bool
) -> None:
    await scalars(address, "UPDATE alembic_version SET version_num = '9999'")
    await scalars(address, f"UPDATE compatibility SET oldest_program = '{oldest}'")
    if usable:
        await set_up(address)
        return
    with pytest.raises(DatabaseUnusable, match="has revision 9999, which this version cannot use: use the version"):
        await set_up(address)
    with pytest.raises(DatabaseUnusable, match="has revision 9999, which this version does not know"):
        await upgrade(address)


async def test_a_database_that_holds_something_else_is_left_alone(empty: PostgresqlAddress) -> None:
    await scalars(empty, "CREATE TABLE users (name text)")
    with pytest.raises(DatabaseUnusable, match="it holds tables of something else: name an empty database"):
        await set_up(empty)
    assert await scalars(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == ["users"]


# Writers, and the order of changes


async def test_a_number_is_never_seen_before_a_lower_one(database: Database, signal: ChangeSignal) -> None:
    """The number of a row is drawn when it is inserted, and others see it when its transaction commits."""
    dropped = drops(signal)

    async def tell(key: str) -> None:
        async with database.write() as connection:
            await announce(connection, Concern.GROUP, key)

    async with database.write() as connection:
        await announce(connection, Concern.GROUP, "first")
        second = asyncio.create_task(tell("second"))
        await asyncio.wait([second], timeout=0.5)
        await signal.refresh()
    await second
    await signal.refresh()
    assert dropped == ["first", "second"]


async def test_a_writer_without_a_turn_says_so(address: PostgresqlAddress, database: Database) -> None:
    async with Database.open(address, turn_seconds=0.01) as impatient:
        async with database.write():
            with pytest.raises(DatabaseUnusable, match="another process is writing: try again"):
                async with impatient.write():
                    raise AssertionError("two wrote at once")
        async with impatient.write() as connection:
            await groups.create(connection, "a", NOW)


async def test_a_reader_changes_nothing(database: Database) -> None:
    with pytest.raises(Exception, match="read-only"):
        async with database.read() as connection:
            await groups.create(connection, "a", NOW)


async def test_an_error_of_the_code_in_a_transaction_is_not_one_of_the_database(database: Database) -> None:
    with pytest.raises(FileNotFoundError):
        async with database.write():
            os.stat("/nowhere/at/all")


# Order and prefixes of names


async def test_names_sort_byte_by_byte_in_a_database_of_a_language(database: Database) -> None:
    names = ["g", "g/a-b", "g/a_b", "g/ab", "g-a", "g0"]
    async with database.write() as connection:
        for name in names:
            await groups.create(connection, name, NOW)
        linguistic = await connection.scalar(text("SELECT 'a_b' < 'a-b'"))
        assert linguistic, "the database does not sort as a language does"
        assert [entry.path for entry in await paths.find_inside(connection, "g", 10)] == ["g/a-b", "g/a_b", "g/ab"]


async def test_an_index_serves_the_prefix_of_a_path(database: Database) -> None:
    async with database.read() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        statement = text("EXPLAIN SELECT * FROM paths WHERE path > 'g/' AND path < 'g0' ORDER BY path")
        plan = "\n".join((await connection.execute(statement)).scalars())
    assert "Index Scan" in plan or "Bitmap Index Scan" in plan
    assert "Index Cond: (((path)::text > 'g/'::text) AND ((path)::text < 'g0'::text))" in plan


# How a process learns of changes


async def insert_silently(connection: AsyncConnection, key: str) -> None:
    await connection.execute(insert(changes).values(concern="group", key=key))


async def test_a_notification_tells_of_a_change(
    address: PostgresqlAddress, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_changes, "POLL_SECONDS", 600.0)
    async with Database.open(address) as other:
        await other.changes.refresh()
        dropped = drops(other.changes)
        async with database.write() as connection:
            await announce(connection, Concern.GROUP, "a")
        await until(lambda: dropped == ["a"])


async def test_a_change_is_seen_without_a_notification(database: Database, signal: ChangeSignal) -> None:
    dropped = drops(signal)
    async with database.write() as connection:
        await insert_silently(connection, "a")
    await until(lambda: dropped == ["a"])


async def test_everything_is_dropped_when_the_database_was_set_back(database: Database, signal: ChangeSignal) -> None:
    async with database.write() as connection:
        for key in "abc":
            await announce(connection, Concern.GROUP, key)
    await signal.refresh()
    dropped = drops(signal)
    await scalars(database.address, "DELETE FROM changes WHERE seq = 3")  # type: ignore[arg-type]
    await signal.refresh()
    assert dropped == [None]


# A process that is cut off


async def is_current(signal: ChangeSignal) -> bool:
    try:
        await signal.require_current()
    except DatabaseUnusable:
        return False
    return True


async def until_current(signal: ChangeSignal, wanted: bool) -> None:
    async with asyncio.timeout(30):
        while await is_current(signal) is not wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_process_that_is_cut_off_says_so_and_catches_up_later(
    databases: Databases, address: PostgresqlAddress, signal: ChangeSignal
) -> None:
    assert await is_current(signal)
    dropped = drops(signal)
    await databases.server.allow_connections(address.name, False)
    await until_current(signal, False)
    signal.catch_up()
    assert dropped == []
    with pytest.raises(DatabaseUnusable, match=r"cannot be used \(database .* is not currently accepting connections"):
        await signal.require_current()
    with pytest.raises(DatabaseUnusable, match="is not currently accepting connections"):
        await signal.require_newest()
    await databases.server.allow_connections(address.name, True)
    async with Database.open(address) as database, database.write() as connection:
        await announce(connection, Concern.GROUP, "meanwhile")
    await until_current(signal, True)
    await signal.require_newest()
    assert dropped == ["meanwhile"]


async def test_a_server_that_does_not_answer_is_as_one_that_is_not_there(
    address: PostgresqlAddress, signal: ChangeSignal
) -> None:
    asked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    pids = [int(str(pid)) for pid in await scalars(address, asked)]
    for pid in pids:
        os.kill(pid, signals.SIGSTOP)
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        failure = ""
        while not failure and loop.time() - began < 30:
            try:
                async with asyncio.timeout(30):
                    await signal.require_current()
                await asyncio.sleep(0.02)
            except DatabaseUnusable as error:
                failure = str(error)
        assert "cannot be used" in failure
    finally:
        for pid in pids:
            os.kill(pid, signals.SIGCONT)
    await until_current(signal, True)


# What cannot be reached


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"user": "nobody"}, 'authentication failed for user "nobody".*check its user, the password in'),
        ({"name": "none"}, 'database "none" does not exist.*create it, owned by that user'),
        ({"host": "localhost", "port": 0}, "check that the server runs and can be reached"),
        ({"password_file": None}, "password"),
        ({"password_file": Path("/nowhere")}, r"database\.password_file, cannot be read \(No such file"),
    ],
)
async def test_what_cannot_be_opened_is_named_with_a_remedy_and_without_the_password(
    address: PostgresqlAddress, change: dict[str, object], said: str
) -> None:
    if change.get("port") == 0:
        change = {**change, "port": free_port()}
    wrong = replace(address, **change)  # type: ignore[arg-type]
    with pytest.raises(DatabaseUnusable, match=said) as raised:
        await set_up(wrong)
    with pytest.raises(DatabaseUnusable, match=said):
        async with Database.open(wrong):
            raise AssertionError("it was opened")
    assert PASSWORD not in str(raised.value)
    assert PASSWORD not in repr(wrong)


async def test_the_password_is_read_again_for_each_connection(
    databases: Databases, address: PostgresqlAddress, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    changing = replace(address, password_file=file)
    with pytest.raises(DatabaseUnusable):
        await read_revision(changing)
    file.write_text(PASSWORD)
    async with Database.open(changing) as database, database.read() as connection:
        assert await groups.list_all(connection) == []


async def test_a_server_that_was_started_again_is_used_again(database: Database, address: PostgresqlAddress) -> None:
    async with database.read() as connection:
        await groups.list_all(connection)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    await scalars(address, f"{others} AND pid <> pg_backend_pid()")
    async with database.read() as connection:
        assert await groups.list_all(connection) == []


async def test_a_connection_that_breaks_in_a_transaction_is_an_error_of_the_database(
    database: Database, address: PostgresqlAddress
) -> None:
    with pytest.raises(DatabaseUnusable, match="cannot be used"):
        async with database.write() as connection:
            pid = await connection.scalar(text("SELECT pg_backend_pid()"))
            await scalars(address, f"SELECT pg_terminate_backend({pid})")
            await groups.create(connection, "a", NOW)
