"""The scrub of native blobs: it reads all of them in turn, and begins anywhere."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cache.lease.local import LocalLeases
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.retention.scrub import IDLE_SECONDS, ReadLimiter
from cache.runtime.locks import ProcessRole
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.values import Damage
from gateway.data_folder import NativeFolder
from gateway.db import blobs, projects, repositories, users
from gateway.db.engine import Database
from gateway.db.stored_blobs import RecordedBlob
from gateway.maintenance.native_inspector import NativeInspector
from gateway.maintenance.native_rows import NativeRows
from gateway.maintenance.native_scrub import NativeScrub
from tests.gateway.native_content import PUSHED, blob_file, write_blob

CONTENTS = [b"content %d" % number for number in range(20)]
UNLIMITED = ReadLimiter(0, threading.Event())


@pytest.fixture
async def digests(database: Database, tmp_path: Path) -> list[Digest]:
    """Twenty blobs of one repository, in the order of their digests."""
    NativeFolder(tmp_path).make()
    async with database.write() as connection:
        await users.create(connection, "alice", PUSHED)
        project = await projects.create(connection, "alice/p", PUSHED)
        repository = await repositories.find_or_create(connection, project.id, RepositoryName.parse("alice/p"), PUSHED)
        for content in CONTENTS:
            await blobs.link(connection, repository.id, write_blob(tmp_path, content), len(content), PUSHED)
    return sorted(map(Digest.of, CONTENTS))


def opened(database: Database, data: Path) -> tuple[NativeRows, NativeInspector]:
    """Rows and inspector for a thread beside the running event loop."""
    loop, folder = asyncio.get_running_loop(), NativeFolder(data)

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    rows = NativeRows(database, run)
    store = FilesystemStore(folder.blobs, Quarantine(folder.damaged, bounded=False))
    return rows, NativeInspector(rows, store, LocalLeases(folder.leases))


class Watched(NativeInspector):
    """Notes what is checked, and calls `then` after each check."""

    def __init__(self, inner: NativeInspector, then: Callable[[Digest], None] = lambda digest: None) -> None:
        self.checked: list[Digest] = []
        self._inner = inner
        self._then = then

    def check(self, blob: RecordedBlob, limiter: ReadLimiter | None) -> Any:
        self.checked.append(blob.digest)
        found = self._inner.check(blob, limiter)
        self._then(blob.digest)
        return found


@pytest.mark.parametrize("begin", [0, 7, 19], ids=["first", "middle", "last"])
async def test_every_blob_is_read_once_wherever_the_scrub_begins(
    database: Database, digests: list[Digest], tmp_path: Path, begin: int
) -> None:
    rows, inspector = opened(database, tmp_path)
    watched = Watched(inspector)
    role = ProcessRole(tmp_path / "scrub.lock")
    scrub = NativeScrub(rows, watched, role, 0, lambda damage: None, start=str(digests[begin]))
    assert await asyncio.to_thread(scrub.step) == IDLE_SECONDS
    assert watched.checked == digests[begin + 1 :] + digests[: begin + 1]
    assert await asyncio.to_thread(scrub.step) == IDLE_SECONDS
    assert len(watched.checked) == len(digests)


async def test_damage_is_reported_and_set_aside_by_the_thread(
    database: Database, digests: list[Digest], tmp_path: Path
) -> None:
    blob_file(tmp_path, digests[3]).write_bytes(b"?")
    blob_file(tmp_path, digests[5]).unlink()
    rows, inspector = opened(database, tmp_path)
    found: list[Damage] = []
    both = threading.Event()

    def note(damage: Damage) -> None:
        found.append(damage)
        if len(found) == 2:
            both.set()

    scrub = NativeScrub(rows, inspector, ProcessRole(tmp_path / "scrub.lock"), 0, note, start="")
    scrub.start()
    assert await asyncio.to_thread(both.wait, 30)
    await asyncio.to_thread(scrub.close)
    assert found == [Damage.SIZE, Damage.MISSING]
    assert not blob_file(tmp_path, digests[3]).exists()


async def test_a_scrub_that_is_stopped_goes_no_further(
    database: Database, digests: list[Digest], tmp_path: Path
) -> None:
    rows, inspector = opened(database, tmp_path)
    watched = Watched(inspector, lambda digest: scrub.stopped.set())
    scrub = NativeScrub(rows, watched, ProcessRole(tmp_path / "scrub.lock"), 0, lambda damage: None, start="")
    assert await asyncio.to_thread(scrub.step) == 0.0
    assert watched.checked == digests[:1]


async def test_a_blob_that_was_deleted_or_pushed_again_meanwhile_is_no_damage(
    database: Database, digests: list[Digest], tmp_path: Path
) -> None:
    _, inspector = opened(database, tmp_path)
    nobody = RecordedBlob(Digest.of(b"deleted since"), 5)
    assert await asyncio.to_thread(inspector.check, nobody, UNLIMITED) is None
    once_larger = RecordedBlob(digests[0], 5)
    assert await asyncio.to_thread(inspector.check, once_larger, None) is None


async def test_a_file_that_cannot_be_read_stays(database: Database, digests: list[Digest], tmp_path: Path) -> None:
    file = blob_file(tmp_path, digests[0])
    content = file.read_bytes()
    file.unlink()
    file.symlink_to(file)
    _, inspector = opened(database, tmp_path)
    found = await asyncio.to_thread(inspector.check, RecordedBlob(digests[0], len(content)), UNLIMITED)
    assert found is not None and found.damage is Damage.UNREADABLE and found.repositories == ["alice/p"]
    assert file.is_symlink()


async def test_a_file_that_is_misread_once_stays(
    database: Database, digests: list[Digest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, inspector = opened(database, tmp_path)
    file = blob_file(tmp_path, digests[0])
    readings: list[int] = []
    preadv = os.preadv

    def misread(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        count = preadv(descriptor, buffers, offset)
        readings.append(count)
        if len(readings) == 1:
            buffers[0][0] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", misread)
    blob = RecordedBlob(digests[0], file.stat().st_size)
    assert await asyncio.to_thread(inspector.check, blob, UNLIMITED) is None
    assert len(readings) == 2 and file.exists()
