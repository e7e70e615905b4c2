"""Mounts: a blob that the caller may read becomes one of a repository, without a copy."""

import asyncio
import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cache.lease.base import Lease, held
from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, Denied, NameUnknown, StoreUnavailable
from cache.oci.names import RepositoryName
from cache.sqlite import DatabaseUnusable
from cache.store.filesystem import FilesystemStore, StoredBlob
from cache.store.hashing import whole_digest
from cache.values import Damage
from gateway.db import projects, repositories
from gateway.db.engine import Database
from gateway.namespaces.project import Project
from gateway.registry.base import SourceDamaged, WritableRepository
from gateway.registry.digest_turns import DigestTurns
from gateway.registry.native_store import NativeStore
from gateway.registry.source_hashes import SourceHashes
from tests.gateway.db.identity_rows import NOW
from tests.gateway.registry.conftest import NAME
from tests.gateway.registry.stores import OWNER, push_blob
from tests.gateway.registry.test_native import read
from tests.parts.processes import wait_until

CONTENT = b"a layer of some bytes"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def other(store: NativeStore, project: Project) -> WritableRepository:
    """Another repository of the project, which has not been pushed to."""
    return store.repository(project, RepositoryName("team/app/other"))


@pytest.fixture
def cached(tmp_path: Path) -> FilesystemStore:
    """The store of a cache that has the blob."""
    store, file = FilesystemStore(tmp_path / "cache"), tmp_path / "arrived"
    file.write_bytes(CONTENT)
    store.adopt(file, DIGEST)
    return store


def native_file(data: Path) -> Path:
    return data / "blobs" / "sha256" / DIGEST.hex[:2] / DIGEST.hex


def opened(store: FilesystemStore) -> StoredBlob:
    blob = store.open(DIGEST)
    assert blob is not None
    return blob


async def test_a_blob_of_another_repository_is_mounted(
    repository: WritableRepository, other: WritableRepository, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    assert await other.mount(DIGEST, None)
    assert await other.mount(DIGEST, None)
    assert await read(other, DIGEST) == CONTENT
    await repository.delete_blob(DIGEST)
    with pytest.raises(BlobUnknown):
        await repository.stat_blob(DIGEST)
    assert await read(other, DIGEST) == CONTENT


async def test_an_unknown_blob_is_not_mounted_and_makes_no_repository(
    other: WritableRepository, store: NativeStore
) -> None:
    assert not await other.mount(DIGEST, None)
    assert await store.find(RepositoryName("team/app/other")) is None


async def test_a_blob_whose_file_is_gone_is_not_mounted(
    repository: WritableRepository, other: WritableRepository, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    native_file(tmp_path).unlink()
    assert not await other.mount(DIGEST, None)
    with pytest.raises(BlobUnknown):
        await other.stat_blob(DIGEST)


async def test_a_cached_blob_is_mounted_without_a_copy_and_outlives_its_eviction(
    repository: WritableRepository, cached: FilesystemStore, tmp_path: Path
) -> None:
    blob = opened(cached)
    try:
        assert await repository.mount(DIGEST, blob)
    finally:
        blob.close()
    assert native_file(tmp_path).stat().st_ino == cached.path(DIGEST).stat().st_ino
    assert list((tmp_path / "spool" / "uploads").iterdir()) == []
    locked = cached.lock(DIGEST)
    assert locked is not None
    assert locked.delete() == 0, "the native name keeps its bytes"
    locked.close()
    assert await read(repository, DIGEST) == CONTENT


async def test_a_cached_blob_that_was_evicted_meanwhile_is_not_mounted(
    repository: WritableRepository, cached: FilesystemStore
) -> None:
    blob = opened(cached)
    try:
        cached.delete(DIGEST)
        assert not await repository.mount(DIGEST, blob)
    finally:
        blob.close()
    with pytest.raises(BlobUnknown):
        await repository.stat_blob(DIGEST)


async def damage_of_mount(repository: WritableRepository, cached: FilesystemStore) -> Damage:
    """The damage for which the mount of a cached blob is refused."""
    blob = opened(cached)
    try:
        with pytest.raises(SourceDamaged) as refused:
            await repository.mount(DIGEST, blob)
    finally:
        blob.close()
    return refused.value.damage


async def test_a_cached_blob_that_was_damaged_since_is_not_mounted(
    repository: WritableRepository, cached: FilesystemStore, tmp_path: Path
) -> None:
    """Its size is right, and so nothing but a new hash shows it."""
    cached.path(DIGEST).write_bytes(b"A" + CONTENT[1:])
    assert await damage_of_mount(repository, cached) is Damage.DIGEST
    assert not native_file(tmp_path).exists()
    await push_blob(repository, CONTENT)
    assert await read(repository, DIGEST) == CONTENT


async def test_a_cached_blob_that_cannot_be_read_is_not_mounted(
    repository: WritableRepository, cached: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_disk(*_: object) -> Digest:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", failing_disk)
    assert await damage_of_mount(repository, cached) is Damage.UNREADABLE


def rot(file: Path) -> None:
    """Change bytes of a file, and not its size."""
    file.chmod(0o644)
    file.write_bytes(b"A" + CONTENT[1:])


async def test_a_native_blob_that_rotted_is_not_mounted_and_an_upload_mends_it(
    repository: WritableRepository, other: WritableRepository, tmp_path: Path
) -> None:
    """Its size is right, and so nothing but a new hash shows it."""
    await push_blob(repository, CONTENT)
    assert await other.mount(DIGEST, None)
    rot(native_file(tmp_path))
    for mounter in (repository, other):
        assert not await mounter.mount(DIGEST, None)
    assert not native_file(tmp_path).exists(), "no reader gets it any more"
    await push_blob(other, CONTENT)
    assert await read(repository, DIGEST) == CONTENT
    assert await repository.mount(DIGEST, None)


async def test_a_native_blob_that_rotted_is_mended_by_a_mount_of_the_cached_one(
    repository: WritableRepository, other: WritableRepository, cached: FilesystemStore, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    rot(native_file(tmp_path))
    blob = opened(cached)
    try:
        assert await other.mount(DIGEST, blob)
    finally:
        blob.close()
    assert await read(repository, DIGEST) == CONTENT


async def test_a_native_blob_that_was_misread_once_stays(
    repository: WritableRepository, other: WritableRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = [Digest.of(b"a flipped bit"), DIGEST]
    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", lambda *_: readings.pop(0))
    await push_blob(repository, CONTENT)
    assert await other.mount(DIGEST, None)
    assert native_file(tmp_path).read_bytes() == CONTENT


async def test_a_native_blob_whose_digest_is_being_pushed_is_left_to_that_push(
    repository: WritableRepository, other: WritableRepository, store: NativeStore, tmp_path: Path
) -> None:
    await push_blob(repository, CONTENT)
    rot(native_file(tmp_path))
    lease = store.uploads.native.leases.take(f"blob {DIGEST}")
    assert lease is not None
    with held(lease):
        assert not await other.mount(DIGEST, None)
    assert native_file(tmp_path).exists()


async def test_a_native_blob_is_hashed_once_for_many_mounts_until_somebody_writes_to_it(
    repository: WritableRepository,
    store: NativeStore,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed = list[int]()

    def counted(descriptor: int, algorithm: str) -> Digest:
        hashed.append(descriptor)
        return whole_digest(descriptor, algorithm)

    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", counted)
    await push_blob(repository, CONTENT)
    for number in range(10):
        assert await store.repository(project, RepositoryName(f"team/app/{number}")).mount(DIGEST, None)
    assert len(hashed) == 1
    native_file(tmp_path).chmod(0o644)
    native_file(tmp_path).write_bytes(CONTENT)
    assert await repository.mount(DIGEST, None)
    assert len(hashed) == 2
    monkeypatch.setattr("gateway.registry.source_hashes.RECENT_SECONDS", 0)
    assert await repository.mount(DIGEST, None)
    assert len(hashed) == 3


async def test_a_native_blob_whose_hash_takes_too_long_is_mounted_and_remembered(
    repository: WritableRepository, other: WritableRepository, store: NativeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, begun, hashed = threading.Event(), threading.Event(), list[int]()

    def slow(descriptor: int, algorithm: str) -> Digest:
        hashed.append(descriptor)
        begun.set()
        assert going_on.wait(100)
        return whole_digest(descriptor, algorithm)

    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", slow)
    monkeypatch.setattr("gateway.registry.source_hashes.RECENT_WAIT_SECONDS", 0.2)
    await push_blob(repository, CONTENT)
    try:
        assert await other.mount(DIGEST, None)
        assert await asyncio.to_thread(begun.wait, 60)
    finally:
        going_on.set()
    sources = store.uploads.native.threads.sources
    await asyncio.to_thread(wait_until, lambda: len(sources._recent) == 1)
    assert await repository.mount(DIGEST, None)
    assert len(hashed) == 1


@pytest.mark.parametrize("fault", ["lease", "database"])
async def test_a_cached_blob_whose_mount_fails_has_no_name_left(
    repository: WritableRepository,
    cached: FilesystemStore,
    store: NativeStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """A name that is left keeps the bytes from whoever evicts the blob, and counts for no quota."""
    native, blob = store.uploads.native, opened(cached)
    lease = native.leases.take(f"blob {DIGEST}") if fault == "lease" else None
    monkeypatch.setattr("gateway.registry.intake.TURN_SECONDS", 0.2)
    try:
        if fault == "database":
            monkeypatch.setattr("gateway.db.blobs.link", failing)
        with pytest.raises(StoreUnavailable):
            await repository.mount(DIGEST, blob)
    finally:
        blob.close()
        if lease is not None:
            lease.release()
    assert list((tmp_path / "spool" / "uploads").iterdir()) == []
    assert cached.path(DIGEST).stat().st_nlink == 1


async def failing(*_: object) -> None:
    raise DatabaseUnusable("no room")


async def test_a_mount_that_a_quota_refuses_hashes_nothing(
    repository: WritableRepository,
    cached: FilesystemStore,
    database: Database,
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with database.write() as connection:
        await projects.update(connection, replace(project, quota=len(CONTENT) - 1))
    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", None)
    blob = opened(cached)
    try:
        with pytest.raises(Denied):
            await repository.mount(DIGEST, blob)
    finally:
        blob.close()
    assert list((tmp_path / "spool" / "uploads").iterdir()) == []


async def test_while_files_are_hashed_for_mounts_others_push_and_each_file_is_hashed_once(
    repository: WritableRepository,
    other: WritableRepository,
    cached: FilesystemStore,
    store: NativeStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going_on, hashed, sources = threading.Event(), list[int](), store.uploads.native.threads.sources

    def slow(descriptor: int, algorithm: str) -> Digest:
        hashed.append(descriptor)
        assert going_on.wait(100)
        return whole_digest(descriptor, algorithm)

    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", slow)
    monkeypatch.setattr("gateway.registry.source_hashes.WAIT_SECONDS", 100)
    blobs = [opened(cached) for _ in range(20)]
    mounting = [asyncio.ensure_future(repository.mount(DIGEST, blob)) for blob in blobs]
    try:
        async with asyncio.timeout(60):
            await push_blob(other, b"of somebody else")
            await asyncio.to_thread(
                wait_until, lambda: [one.waiting for one in sources._running.values()] == [len(blobs)]
            )
        going_on.set()
        assert all(await asyncio.gather(*mounting))
    finally:
        going_on.set()
        for blob in blobs:
            blob.close()
    assert len(hashed) == 1


async def test_nothing_is_hashed_for_a_client_that_has_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    going_on, hashed, hashes = threading.Event(), list[int](), SourceHashes()

    def slow(descriptor: int, algorithm: str) -> Digest:
        hashed.append(descriptor)
        assert going_on.wait(100)
        return whole_digest(descriptor, algorithm)

    monkeypatch.setattr("gateway.registry.source_hashes.whole_digest", slow)
    (tmp_path / "one").write_bytes(CONTENT)
    (tmp_path / "another").write_bytes(CONTENT)
    with (tmp_path / "one").open("rb") as one, (tmp_path / "another").open("rb") as another:
        first = asyncio.ensure_future(hashes.digest(one.fileno(), "sha256"))
        leaving = asyncio.ensure_future(hashes.digest(another.fileno(), "sha256"))
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.wait([leaving])
        going_on.set()
        assert await first == DIGEST
    hashes.close()
    assert len(hashed) == 1


async def test_a_mount_of_what_a_repository_has_waits_for_nobody(
    repository: WritableRepository, store: NativeStore
) -> None:
    await push_blob(repository, CONTENT)
    lease = store.uploads.native.leases.take(f"blob {DIGEST}")
    assert lease is not None
    with held(lease):
        async with asyncio.timeout(5):
            assert await repository.mount(DIGEST, None)


async def test_of_those_who_want_one_digest_one_looks_for_its_lease(
    repository: WritableRepository, store: NativeStore, project: Project
) -> None:
    """Another process has the lease at first; whoever waits for a turn does not look."""
    await push_blob(repository, CONTENT)
    mounters = [store.repository(project, RepositoryName(f"team/app/mounting-{number}")) for number in range(20)]
    for mounter in mounters:
        await mounter.begin_upload(OWNER)
    looks, thrice, leases = 0, asyncio.Event(), store.uploads.native.leases
    take = leases.take

    def counted(name: str) -> Lease | None:
        nonlocal looks
        looks += 1
        if looks == 3:
            thrice.set()
        return take(name)

    lease = take(f"blob {DIGEST}")
    assert lease is not None
    leases.take = counted  # type: ignore[method-assign]
    try:
        with held(lease):
            mounting = [asyncio.create_task(mounter.mount(DIGEST, None)) for mounter in mounters]
            async with asyncio.timeout(30):
                await thrice.wait()
        assert all(await asyncio.gather(*mounting))
    finally:
        del leases.take  # type: ignore[attr-defined]
    assert looks <= 3 + len(mounters) + 3, "they looked at the same time"


async def test_turns_of_a_digest_come_in_order_and_leave_nothing() -> None:
    turns, order = DigestTurns(), list[int]()

    async def have(number: int) -> None:
        async with turns.turn(DIGEST):
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(have(number) for number in range(10)))
    assert order == list(range(10))
    assert turns._queues == {}


async def test_what_is_native_already_needs_nothing_of_the_cache(
    repository: WritableRepository, other: WritableRepository, cached: FilesystemStore
) -> None:
    await push_blob(repository, CONTENT)
    blob = opened(cached)
    try:
        cached.delete(DIGEST)
        assert await other.mount(DIGEST, blob)
    finally:
        blob.close()
    assert await read(other, DIGEST) == CONTENT


async def test_a_repository_that_is_deleted_during_a_mount_is_named_in_the_refusal(
    database: Database, repository: WritableRepository, other: WritableRepository, store: NativeStore
) -> None:
    """The repository is there when the mount begins, and gone when its transaction does."""
    await push_blob(other, CONTENT)
    await repository.begin_upload(OWNER)
    async with database.write() as connection:
        mounting = asyncio.create_task(repository.mount(DIGEST, None))
        async with asyncio.timeout(30):
            while (lease := store.uploads.native.leases.take(f"blob {DIGEST}")) is not None:
                lease.release()
                await asyncio.sleep(0.01)
        await repositories.delete(connection, NAME, NOW, "ada")
    with pytest.raises(NameUnknown, match="the repository was deleted meanwhile: push again"):
        await mounting
    assert await store.find(NAME) is None
    assert await read(other, DIGEST) == CONTENT
