"""SqlIndex: the contract, its memory, and several processes at one file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.engine import Engine

from cache.index.maintenance import CacheMaintenance
from cache.index.queries import READERS
from cache.index.sightings import KEPT
from cache.index.sql import MIGRATIONS, SqlIndex
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.sqlite import DatabaseUnusable, alone, migrate
from cache.values import BlobInfo, Link, Registry, Sighting, TagPointer
from tests.cache.index.contract import DIGEST, LINK, MANIFEST, POINTER, HistoryContract, IndexContract
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON, ORIGIN, WEB, manifest_of, open_descriptors

MOVED = replace(POINTER, target=manifest_of("two").descriptor, checked_at=NOON + timedelta(hours=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
async def index(path: Path) -> AsyncIterator[SqlIndex]:
    index = SqlIndex(path)
    yield index
    index.close()


@pytest.fixture
async def other(path: Path, index: SqlIndex) -> AsyncIterator[SqlIndex]:
    """An index over the file of `index`, as another process has it."""
    other = SqlIndex(path)
    yield other
    other.close()


@pytest.fixture
async def forgetful(path: Path) -> AsyncIterator[SqlIndex]:
    """An index that keeps, and reads at once, ten rows of the log of changes."""
    index = SqlIndex(path, changes_kept=10)
    yield index
    index.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements sent to any database within the block."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


class Held:
    """Stops the next transaction of an index when it is done with the file and the loop has not heard of it."""

    def __init__(self, index: SqlIndex) -> None:
        self._index = index
        self._reached = threading.Event()
        self._release = threading.Event()

    def __enter__(self) -> "Held":
        transact = self._index._transact

        def held(work: Any, engine: Any) -> Any:
            self._index._transact = transact  # type: ignore[method-assign]
            result = transact(work, engine)
            self._reached.set()
            self._release.wait(30)
            return result

        self._index._transact = held  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._release.set()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 30)

    def release(self) -> None:
        self._release.set()


def execute(path: Path, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


class TestSqlIndex(IndexContract, HistoryContract):
    pass


# Memory.


async def test_what_was_recorded_is_answered_without_a_statement(index: SqlIndex) -> None:
    await index.record(POINTER, LINK, MANIFEST)
    await index.linked(LINK)  # sees its own commit
    with statements() as seen:
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
        assert await index.find_manifest(DIGEST) == MANIFEST
        assert await index.linked(LINK)
    assert seen == []


async def test_what_was_read_once_is_answered_without_a_statement(index: SqlIndex, path: Path) -> None:
    await index.record(POINTER, LINK, MANIFEST)
    fresh = SqlIndex(path)
    for expected in (True, False):
        with statements() as seen:
            assert await fresh.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
            assert await fresh.find_manifest(DIGEST) == MANIFEST
            assert await fresh.linked(LINK)
        assert bool(seen) is expected
    fresh.close()


async def test_that_something_is_not_there_is_asked_of_the_file_each_time(index: SqlIndex, other: SqlIndex) -> None:
    assert not await index.linked(LINK)
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
    await other.record(LINK, POINTER)
    assert await index.linked(LINK)
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER


async def test_facts_outlive_the_process(index: SqlIndex, path: Path) -> None:
    await index.record(POINTER, LINK, MANIFEST)
    index.close()
    again = SqlIndex(path)
    assert await again.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
    assert await again.find_manifest(DIGEST) == MANIFEST
    assert await again.known_at(Registry(ORIGIN), DIGEST)
    again.close()


async def test_facts_are_recorded_all_or_none(index: SqlIndex, path: Path) -> None:
    with pytest.raises(OverflowError):
        await index.record(POINTER, LINK, MANIFEST, BlobInfo(DIGEST, 2**70))
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
    assert await index.find_manifest(DIGEST) is None
    assert not await index.linked(LINK)
    assert execute(path, "SELECT count(*) FROM images") == [(0,)]


# Races within one process.


async def test_a_read_that_began_before_a_forget_does_not_bring_the_link_back(index: SqlIndex, path: Path) -> None:
    await index.record(LINK)
    fresh = SqlIndex(path)
    with Held(fresh) as held:
        asking = asyncio.ensure_future(fresh.linked(LINK))
        await held.reached()
        await fresh.forget(ANONYMOUS, APP)
        held.release()
        assert await asking  # it was so when it was asked
    assert not await fresh.linked(LINK)
    fresh.close()


async def test_a_read_that_began_before_a_newer_pointer_does_not_bring_the_older_back(
    index: SqlIndex, path: Path
) -> None:
    await index.record(POINTER)
    fresh = SqlIndex(path)
    with Held(fresh) as held:
        asking = asyncio.ensure_future(fresh.find_pointer(ANONYMOUS, APP, LATEST))
        await held.reached()
        await fresh.record(MOVED)
        held.release()
        await asking
    assert await fresh.find_pointer(ANONYMOUS, APP, LATEST) == MOVED
    fresh.close()


async def test_a_forget_that_nobody_waits_for_any_more_is_carried_through(index: SqlIndex) -> None:
    await index.record(LINK, POINTER)
    with Held(index) as held:
        forgetting = asyncio.ensure_future(index.forget(ANONYMOUS, APP))
        await held.reached()
        forgetting.cancel()
        await asyncio.gather(forgetting, return_exceptions=True)
        held.release()
    await index.record()  # the writer is done with what came before
    assert not await index.linked(LINK)
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None


async def test_many_readers_and_writers_agree_in_the_end(index: SqlIndex, other: SqlIndex) -> None:
    tags = [Tag(f"v{number}") for number in range(8)]
    newest: dict[Tag, TagPointer] = {}

    async def move(tag: Tag) -> None:
        for step in range(5):
            newest[tag] = replace(MOVED, tag=tag, checked_at=NOON + timedelta(minutes=step))
            await (index if step % 2 else other).record(newest[tag])

    async def ask(tag: Tag) -> None:
        for _ in range(20):
            await index.find_pointer(ANONYMOUS, APP, tag)
            await other.find_pointer(ANONYMOUS, APP, tag)

    await asyncio.gather(*[work(tag) for tag in tags for work in (move, ask)])
    for view in (index, other):
        assert {tag: await view.find_pointer(ANONYMOUS, APP, tag) for tag in tags} == newest


# Two processes.


async def test_a_pointer_moved_by_another_process_is_seen_at_the_next_question(
    index: SqlIndex, other: SqlIndex
) -> None:
    await index.record(POINTER)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
    await index.record(MOVED)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) == MOVED


async def test_an_image_forgotten_by_another_process_is_seen_at_the_next_question(
    index: SqlIndex, other: SqlIndex
) -> None:
    kept = Link(ANONYMOUS, WEB, DIGEST)
    await index.record(POINTER, LINK, kept, MANIFEST)
    assert await other.linked(LINK)
    assert await other.linked(kept)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST)
    await index.forget(ANONYMOUS, APP)
    assert not await other.linked(LINK)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) is None
    with statements() as seen:
        assert await other.linked(kept)
    assert seen == []


async def test_what_was_evicted_leaves_the_memory_of_every_process(
    index: SqlIndex, other: SqlIndex, path: Path, tmp_path: Path
) -> None:
    blob = BlobInfo(DIGEST, 3)
    await index.record(POINTER, LINK, MANIFEST, blob)
    for view in (index, other):
        assert await view.linked(LINK) and await view.find_pointer(ANONYMOUS, APP, LATEST)
    maintenance = CacheMaintenance(path, UsageFile(tmp_path / "usage.db"))
    maintenance.remove([DIGEST, POINTER.target.digest])
    maintenance.close()
    await index.record(blob, Link(ANONYMOUS, WEB, DIGEST))  # another image has it fetched anew
    await index.forget(ANONYMOUS, APP, DIGEST)  # and what this one had is refused: nothing of that is recorded
    for view in (index, other):
        assert not await view.linked(LINK)
        assert await view.find_pointer(ANONYMOUS, APP, LATEST) is None
        assert await view.linked(Link(ANONYMOUS, WEB, DIGEST))


async def test_what_one_process_found_missing_leaves_the_memory_of_every_process(
    index: SqlIndex, other: SqlIndex
) -> None:
    await index.record(LINK, BlobInfo(DIGEST, 3))
    assert await index.linked(LINK) and await other.linked(LINK)
    await index.drop(DIGEST, lambda: False)
    assert not await index.linked(LINK)
    assert not await other.linked(LINK)


async def test_a_tag_forgotten_by_another_process_is_seen_at_the_next_question(
    index: SqlIndex, other: SqlIndex
) -> None:
    await index.record(POINTER)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST)
    await index.forget(ANONYMOUS, APP, LATEST)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) is None


async def test_a_forget_elsewhere_during_a_read_is_not_undone_by_it(index: SqlIndex, other: SqlIndex) -> None:
    await index.record(LINK)
    with Held(other) as held:
        asking = asyncio.ensure_future(other.linked(LINK))
        await held.reached()
        await index.forget(ANONYMOUS, APP)
        held.release()
        await asking
    assert not await other.linked(LINK)


async def test_a_change_elsewhere_right_after_our_commit_is_not_covered_by_it(index: SqlIndex, other: SqlIndex) -> None:
    """Our facts come into memory after they came into the file; meanwhile others may have spoken, and been heard."""
    with Held(index) as held:
        recording = asyncio.ensure_future(index.record(POINTER, LINK))
        await held.reached()
        execute(index.path, "DELETE FROM links")
        row = execute(index.path, "SELECT origin, credential, name FROM images")[0]
        insert = "INSERT INTO changes (writer, origin, credential, name) VALUES ('another', ?, ?, ?)"
        execute(index.path, insert, *row)
        execute(index.path, "UPDATE pointers SET checked_at = checked_at + 3600")
        assert await index.find_pointer(ANONYMOUS, WEB, LATEST) is None  # hears of the change
        held.release()
        await recording
    assert not await index.linked(LINK)
    found = await index.find_pointer(ANONYMOUS, APP, LATEST)
    assert found is not None
    assert found.checked_at == NOON + timedelta(hours=1)


async def test_a_gap_in_the_log_of_changes_drops_everything(forgetful: SqlIndex, other: SqlIndex, path: Path) -> None:
    await forgetful.record(POINTER)
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
    execute(path, "UPDATE sqlite_sequence SET seq = 950 WHERE name = 'changes'")  # every thousandth change prunes
    await forgetful.record(MOVED, *[replace(POINTER, tag=Tag(f"v{number}")) for number in range(54)])
    assert execute(path, "SELECT count(*) FROM changes")[0][0] <= 20
    assert await other.find_pointer(ANONYMOUS, APP, LATEST) == MOVED


async def test_more_changes_than_are_read_at_once_drop_everything(index: SqlIndex, forgetful: SqlIndex) -> None:
    await index.record(POINTER)
    assert await forgetful.find_pointer(ANONYMOUS, APP, LATEST) == POINTER
    await index.record(*[replace(POINTER, tag=Tag(f"v{number}")) for number in range(12)], MOVED)
    assert await forgetful.find_pointer(ANONYMOUS, APP, LATEST) == MOVED
    back = replace(POINTER, checked_at=MOVED.checked_at)
    await index.record(back)
    assert await forgetful.find_pointer(ANONYMOUS, APP, LATEST) == back


async def test_a_slow_answer_does_not_take_the_place_of_a_later_one(index: SqlIndex, other: SqlIndex) -> None:
    await other.record(MOVED)
    await index.record(POINTER)
    assert POINTER.checked_at < MOVED.checked_at
    for reader in (index, other):
        assert await reader.find_pointer(ANONYMOUS, APP, LATEST) == MOVED


async def test_a_right_that_was_lost_stays_lost_though_it_could_not_be_written_down(
    index: SqlIndex, path: Path
) -> None:
    await index.record(POINTER, LINK)
    execute(path, "ALTER TABLE links RENAME TO links_away")
    with pytest.raises(DatabaseUnusable):
        await index.forget(ANONYMOUS, APP)
    assert not await index.linked(LINK)
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None
    execute(path, "ALTER TABLE links_away RENAME TO links")
    await index.record(MANIFEST)
    assert not await index.linked(LINK)
    again = SqlIndex(path)
    assert not await again.linked(LINK)
    again.close()


# Damage.


@pytest.mark.parametrize(
    ("column", "value"), [("raw", b"{}"), ("raw", b""), ("media_type", "text/plain"), ("media_type", "")]
)
async def test_a_damaged_manifest_row_is_none_until_it_is_recorded_again(
    index: SqlIndex, path: Path, column: str, value: object
) -> None:
    await index.record(MANIFEST)
    execute(path, f"UPDATE manifests SET {column} = ?", value)
    fresh = SqlIndex(path)
    assert await fresh.find_manifest(DIGEST) is None
    await fresh.record(MANIFEST)
    fresh.close()
    again = SqlIndex(path)
    assert await again.find_manifest(DIGEST) == MANIFEST
    again.close()


def test_a_file_that_is_no_database_says_so(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseUnusable, match=r"cache\.db cannot be used"):
        SqlIndex(path)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnusable):
        SqlIndex(tmp_path / "nowhere" / "cache.db")


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    SqlIndex(path).close()
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseUnusable, match="does not know"):
        SqlIndex(path)


async def test_a_closed_index_leaves_neither_descriptor_nor_thread(path: Path) -> None:
    before = open_descriptors()
    index = SqlIndex(path)
    await index.record(POINTER, LINK, MANIFEST)
    await asyncio.gather(*[index.known_at(Registry(ORIGIN), DIGEST) for _ in range(5)])
    index.close()
    assert open_descriptors() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("index-")]


async def test_a_writer_waits_for_its_turn_among_processes(index: SqlIndex, path: Path) -> None:
    with alone(path):
        writing = asyncio.ensure_future(index.record(POINTER))
        done, _ = await asyncio.wait({writing}, timeout=0.3)
        assert not done
        assert await index.find_pointer(ANONYMOUS, APP, LATEST) is None, "readers do not wait"
    await writing
    assert await index.find_pointer(ANONYMOUS, APP, LATEST) == POINTER


async def test_only_so_many_digests_of_a_tag_are_remembered(index: SqlIndex) -> None:
    for number in range(KEPT + 5):
        target = replace(MANIFEST.descriptor, digest=Digest.of(str(number).encode()))
        await index.record(replace(POINTER, target=target, checked_at=NOON + timedelta(seconds=number)))
    found = await index.sightings(ANONYMOUS, APP)
    assert min(sighting.first_seen for sighting in found) == NOON + timedelta(seconds=5)
    assert len(found) == KEPT


@pytest.mark.usefixtures("real_migrations")
async def test_the_history_of_an_older_file_begins_with_its_pointers(path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    engine = create_engine(URL.create("sqlite", database=str(path)))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO images VALUES (7, :origin, '', 'acme/app')"), {"origin": str(ORIGIN)})
        row = {"digest": str(DIGEST), "at": NOON.timestamp()}
        connection.execute(text("INSERT INTO pointers VALUES (7, 'latest', 'x/y', :digest, 1, :at)"), row)
    engine.dispose()
    migrate(path, MIGRATIONS)
    index = SqlIndex(path)
    assert await index.sightings(ANONYMOUS, APP) == [Sighting(LATEST, DIGEST, NOON, NOON)]
    index.close()


async def test_a_prepared_index_has_opened_every_connection_that_pulls_use_at_once(index: SqlIndex) -> None:
    await index.prepare()
    opened: list[object] = []
    event.listen(index._engine, "connect", lambda *made: opened.append(made))
    entered, together = threading.Semaphore(0), threading.Barrier(READERS + 1)

    def wait(_: Connection) -> None:
        entered.release()
        together.wait(30)

    reads = []
    for _ in range(READERS):
        reads.append(asyncio.ensure_future(index._read(wait)))
        assert await asyncio.to_thread(entered.acquire, timeout=30)
    await asyncio.gather(index._write(wait, lambda: None), *reads)
    assert opened == []
