"""Blobs that are taken over from another store or repository, and quotas that stand against a blob."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cache.lease.base import held
from cache.oci.digest import Digest
from cache.oci.errors import Denied, UploadUnknown
from cache.oci.names import RepositoryName
from cache.store.filesystem import FilesystemStore, StoredBlob
from gateway.db import blobs, projects, repositories
from gateway.registry.intake import BlobIntake
from tests.gateway.db.identity_rows import NOW
from tests.gateway.registry.opened import Worker, left_behind

OWNER = "user:1"
CONTENT = bytes(range(256)) * 9000
DIGEST = Digest.of(CONTENT)


async def body(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65536):
        yield content[start : start + 65536]


async def push(worker: Worker, content: bytes = CONTENT) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(content), length=len(content))
    await session.commit(Digest.of(content))


async def linked_size(worker: Worker, repository: int) -> int | None:
    async with worker.database.read() as connection:
        return await blobs.size(connection, repository, DIGEST)


def cached(data: Path) -> StoredBlob:
    """The blob as the cache has it open."""
    spool = data / "spool.part"
    spool.write_bytes(CONTENT)
    store = FilesystemStore(data / "cache")
    store.adopt(spool, DIGEST)
    blob = store.open(DIGEST)
    assert blob is not None
    return blob


@pytest.fixture
def intake(worker: Worker) -> BlobIntake:
    return worker.uploads.intake


async def test_a_blob_of_another_repository_is_linked_without_its_file(worker: Worker, intake: BlobIntake) -> None:
    assert not await intake.link_stored(2, DIGEST)
    await push(worker)
    before = worker.store.path(DIGEST).stat()
    assert await intake.link_stored(2, DIGEST)
    assert worker.store.path(DIGEST).stat() == before
    assert await linked_size(worker, 2) == len(CONTENT)


async def test_a_blob_whose_file_is_damaged_is_not_linked(worker: Worker, intake: BlobIntake) -> None:
    await push(worker)
    os.truncate(worker.store.path(DIGEST), 3)
    assert not await intake.link_stored(2, DIGEST)
    assert await linked_size(worker, 2) is None


async def test_a_blob_of_the_cache_is_taken_over_as_one_file(data: Path, worker: Worker, intake: BlobIntake) -> None:
    blob = cached(data)
    assert await intake.link_open(2, blob, worker.folder)
    assert worker.store.path(DIGEST).stat().st_ino == os.fstat(blob.fileno()).st_ino
    assert await linked_size(worker, 2) == len(CONTENT)
    assert await left_behind(worker) == []
    blob.close()
    FilesystemStore(data / "cache").delete(DIGEST)
    assert worker.store.path(DIGEST).read_bytes() == CONTENT


async def test_a_blob_that_was_evicted_meanwhile_is_not_taken_over(
    data: Path, worker: Worker, intake: BlobIntake
) -> None:
    blob = cached(data)
    FilesystemStore(data / "cache").delete(DIGEST)
    assert not await intake.link_open(2, blob, worker.folder)
    blob.close()
    assert await linked_size(worker, 2) is None
    assert await left_behind(worker) == []


async def test_a_commit_waits_for_whoever_holds_the_lease_of_its_digest(worker: Worker, other: Worker) -> None:
    lease = other.uploads.native.leases.take(f"blob {DIGEST}")
    assert lease is not None
    with held(lease):
        pushing = asyncio.create_task(push(worker))
        await asyncio.wait([pushing], timeout=0.2)
        assert not pushing.done()
        assert worker.store.stat(DIGEST) is None
    await pushing
    assert await linked_size(worker, 1) == len(CONTENT)


async def set_quota(worker: Worker, quota: int | None) -> None:
    async with worker.database.write() as connection:
        project = await projects.get(connection, "alice/p")
        await projects.update(connection, replace(project, quota=quota))


@pytest.mark.parametrize("length", [None, len(CONTENT)], ids=["unknown length", "stated length"])
async def test_what_a_quota_has_no_room_for_is_refused_before_it_is_written(worker: Worker, length: int | None) -> None:
    await set_quota(worker, len(CONTENT) - 1)
    session = await worker.uploads.begin(1, OWNER)
    with pytest.raises(Denied, match=r"project 'alice/p' has a quota of 2\.2 MiB"):
        await session.append(body(CONTENT), length=length)
    assert await left_behind(worker) == []


@pytest.mark.parametrize("length", [None, len(CONTENT)], ids=["unknown length", "stated length"])
async def test_a_quota_can_be_used_to_its_last_byte(worker: Worker, length: int | None) -> None:
    await set_quota(worker, len(CONTENT))
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT), length=length)
    await session.commit(DIGEST)
    assert await linked_size(worker, 1) == len(CONTENT)


async def test_a_quota_that_is_set_during_an_upload_holds_for_its_commit(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    await set_quota(worker, 1000)
    with pytest.raises(Denied):
        await session.commit(DIGEST)
    assert await linked_size(worker, 1) is None
    assert worker.store.stat(DIGEST) is None
    assert await left_behind(worker) == []


async def test_uploads_at_once_share_what_a_quota_has_left(worker: Worker, other: Worker) -> None:
    contents = [bytes([number]) * 3_000_000 for number in range(6)]
    await set_quota(worker, 10_000_000)

    async def pushed(which: Worker, content: bytes) -> int:
        try:
            await push(which, content)
        except Denied:
            return 0
        return 1

    count = sum(await asyncio.gather(*(pushed((worker, other)[n % 2], content) for n, content in enumerate(contents))))
    assert 1 <= count <= 3
    assert await left_behind(worker) == []
    assert len(list(worker.store.walk())) == count


async def test_a_push_replaces_a_stored_file_whose_bytes_changed(worker: Worker) -> None:
    await push(worker)
    path = worker.store.path(DIGEST)
    path.chmod(0o644)
    path.write_bytes(bytes(len(CONTENT)))
    await push(worker)
    assert path.read_bytes() == CONTENT
    assert await left_behind(worker) == []


@pytest.mark.parametrize("quota", [None, 1 << 40], ids=["no quota", "quota"])
@pytest.mark.parametrize("ending", ["cancelled", "repository deleted"])
async def test_a_body_of_an_upload_that_has_ended_is_not_taken_to_its_end(
    worker: Worker, other: Worker, quota: int | None, ending: str
) -> None:
    await set_quota(worker, quota)
    session = await worker.uploads.begin(1, OWNER)
    piece, count = bytes(4 << 20), 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal count
        for count in range(64):
            if count == 1 and ending == "cancelled":
                await (await other.uploads.find(session.id, 1, OWNER)).cancel()
            elif count == 1:
                async with other.database.write() as connection:
                    assert await repositories.delete(connection, RepositoryName("alice/p"), NOW, "ada")
            yield piece

    with pytest.raises(UploadUnknown):
        await session.append(endless())
    assert count <= 64 / 3
    assert await left_behind(worker) == []


async def test_between_its_requests_an_upload_keeps_no_room_beyond_what_arrived(worker: Worker) -> None:
    await set_quota(worker, 10 << 20)
    for _ in range(12):
        session = await worker.uploads.begin(1, OWNER)
        await session.append(body(b"x"))
    await push(worker)
    await session.append(body(b"y"))
    await session.commit(Digest.of(b"xy"))
