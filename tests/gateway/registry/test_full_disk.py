"""Uploads on a disk that is full, or fails, at every step: nothing of them is left, and nothing else is touched."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError, StorageFull, StoreUnavailable, UploadUnknown
from cache.runtime.failpoints import arm
from gateway.db import blobs
from gateway.db.changes import Concern, announce
from tests.gateway.registry.conftest import prepare
from tests.gateway.registry.opened import Worker, left_behind, open_worker
from tests.parts.disk import SmallDisk

OWNER = "user:1"
EARLIER, CONTENT = b"earlier" * 1000, bytes(range(256)) * 60_000
STEPS = ["create", "write", "write@3", "sync", "verified", "synced", "named", "adopted"]


@pytest.fixture
def armed() -> Iterator[None]:
    """Failpoints that a test arms are disarmed at its end."""
    yield
    arm("")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 24 MB."""
    disk = SmallDisk(tmp_path / "small", 24)
    yield disk
    disk.unmount()


async def body(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


async def push(worker: Worker, content: bytes) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(content))
    await session.commit(Digest.of(content))


async def assert_stored(worker: Worker, content: bytes) -> None:
    async with worker.database.read() as connection:
        assert await blobs.size(connection, 1, Digest.of(content)) == len(content)
    assert worker.store.path(Digest.of(content)).read_bytes() == content


async def assert_absent(worker: Worker, content: bytes) -> None:
    async with worker.database.read() as connection:
        assert await blobs.stored_size(connection, Digest.of(content)) is None
    assert worker.store.stat(Digest.of(content)) is None


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("error", "refusal"), [("ENOSPC", StorageFull), ("EDQUOT", StorageFull), ("EIO", StoreUnavailable)]
)
async def test_a_disk_that_fails_at_any_step_ends_the_upload_and_nothing_else(
    worker: Worker, armed: None, step: str, error: str, refusal: type[RegistryError]
) -> None:
    await push(worker, EARLIER)
    name, _, number = step.partition("@")
    arm(f"upload.{name}=error:{error}" + (f"@{number}" if number else ""))
    with pytest.raises(refusal):
        await push(worker, CONTENT)
    await assert_absent(worker, CONTENT)
    assert await left_behind(worker) == []
    await assert_stored(worker, EARLIER)
    arm("")
    await push(worker, CONTENT)
    await assert_stored(worker, CONTENT)


@pytest.mark.parametrize("content", [b"few", CONTENT], ids=["few bytes", "15 MB"])
@pytest.mark.parametrize("step", ["create", "write"])
async def test_room_is_made_where_there_is_something_to_give_up(
    data: Path, armed: None, step: str, content: bytes
) -> None:
    made: list[int] = []

    def make_room(size: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        made.append(size)
        arm("")
        return size

    async with open_worker(data, make_room=make_room) as worker:
        arm(f"upload.{step}=error:ENOSPC")
        await push(worker, content)
        await assert_stored(worker, content)
    assert len(made) == 1


async def test_a_push_that_is_larger_than_the_disk_leaves_its_room_to_others(small: SmallDisk) -> None:
    await prepare(small.place)
    async with open_worker(small.place) as worker:
        await push(worker, EARLIER)
        for _ in range(2):
            with pytest.raises(StorageFull):
                await push(worker, CONTENT * 2)
            assert await left_behind(worker) == []
        await push(worker, CONTENT)
        await assert_stored(worker, CONTENT)
        await assert_stored(worker, EARLIER)


@pytest.mark.parametrize("phase", ["begin", "append", "commit"])
async def test_a_disk_that_others_filled_refuses_each_phase_until_there_is_room(small: SmallDisk, phase: str) -> None:
    await prepare(small.place)
    async with open_worker(small.place) as worker:
        await push(worker, EARLIER)
        session = None if phase == "begin" else await worker.uploads.begin(1, OWNER)
        if session is not None and phase == "commit":
            await session.append(body(CONTENT))
        small.fill()
        with suppress(Exception):  # what the write-ahead log has room for is used up, too
            for number in range(200):
                async with worker.database.write() as connection:
                    await announce(connection, Concern.CONTENT, f"{number} {'x' * 5000}")
        with pytest.raises(StorageFull):
            if session is None:
                await worker.uploads.begin(1, OWNER)
            elif phase == "append":
                await session.append(body(CONTENT))
            else:
                await session.commit(Digest.of(CONTENT))
        await assert_stored(worker, EARLIER)
        (small.place / "filler").unlink()
        await assert_absent(worker, CONTENT)
        if session is not None:
            with suppress(UploadUnknown):
                assert (await worker.uploads.find(session.id, 1, OWNER)).received == 0
        await push(worker, CONTENT)
        await assert_stored(worker, CONTENT)
