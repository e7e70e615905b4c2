"""Blobs on which index and disk do not agree count as absent."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cache.events import CacheEvents
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable
from cache.proxy.stored_blobs import StoredBlobs
from cache.store.base import LocalBlob
from cache.store.filesystem import FilesystemStore, StoredBlob
from cache.values import BlobInfo, Damage
from tests.cache.keeper import Keeper
from tests.cache.samples import open_descriptors

SIZE = 1000


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[Keeper]:
    before = open_descriptors()
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.close()
    assert open_descriptors() <= before


@pytest.fixture
def found() -> list[Damage]:
    return []


@pytest.fixture
def blobs(keeper: Keeper, found: list[Damage]) -> StoredBlobs:
    return StoredBlobs(keeper.index, keeper.store, Noted(found))


class Noted(CacheEvents):
    def __init__(self, found: list[Damage]) -> None:
        self._found = found

    def damage_found(self, damage: Damage) -> None:
        self._found.append(damage)


class FailingStore(FilesystemStore):
    """A store whose files cannot be opened, for want of descriptors or for damage of the disk."""

    def __init__(self, keeper: Keeper, number: int) -> None:
        super().__init__(keeper.folder / "blobs")
        self._number = number

    def open(self, digest: Digest) -> StoredBlob | None:
        raise OSError(self._number, os.strerror(self._number))

    def stat(self, digest: Digest) -> BlobInfo | None:
        raise OSError(self._number, os.strerror(self._number))


class RepairedStore(FilesystemStore):
    """A store in which a blob is missing at the first look, and was fetched again at the next."""

    looks = 0

    def open(self, digest: Digest) -> StoredBlob | None:
        self.looks += 1
        return None if self.looks == 1 else super().open(digest)


async def test_a_blob_that_agrees_with_its_row_is_found(keeper: Keeper, blobs: StoredBlobs) -> None:
    digest = await keeper.put(SIZE)
    blob = await blobs.open(digest)
    assert blob is not None
    assert await blobs.stat(digest) == BlobInfo(digest, SIZE)
    blob.close()


async def test_a_file_without_a_row_is_absent(keeper: Keeper, blobs: StoredBlobs) -> None:
    digest = keeper.write(b"stray")
    assert await blobs.open(digest) is None
    assert await blobs.stat(digest) is None


@pytest.mark.parametrize("read", [StoredBlobs.open, StoredBlobs.stat])
@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
async def test_a_file_of_another_size_is_absent_and_its_row_is_dropped(
    keeper: Keeper, blobs: StoredBlobs, found: list[Damage], size: int, read: Callable[..., object]
) -> None:
    digest = await keeper.put(SIZE)
    os.truncate(keeper.file(digest), size)
    assert await getattr(blobs, read.__name__)(digest) is None
    assert found == [Damage.SIZE]
    assert not keeper.file(digest).exists()
    assert [path.stat().st_size for path in (keeper.folder / "quarantine").iterdir()] == [size]
    assert keeper.maintenance.blob_size(digest) is None
    assert keeper.maintenance.images_of(digest) == []


async def test_a_blob_whose_bytes_were_found_damaged_is_dropped(
    keeper: Keeper, blobs: StoredBlobs, found: list[Damage]
) -> None:
    """Its size is right, so whoever has read it says so."""
    digest = await keeper.put(SIZE)
    blob = await blobs.open(digest)
    assert isinstance(blob, LocalBlob)
    await blobs.drop_damaged(blob, Damage.DIGEST)
    blob.close()
    assert found == [Damage.DIGEST]
    assert not keeper.file(digest).exists()
    assert len(list((keeper.folder / "quarantine").iterdir())) == 1
    assert await keeper.held(digest) == [False]
    assert await blobs.open(digest) is None


async def test_a_blob_that_was_fetched_again_is_not_dropped_for_the_file_that_was_damaged(
    keeper: Keeper, blobs: StoredBlobs
) -> None:
    digest = await keeper.put(SIZE)
    blob = await blobs.open(digest)
    assert isinstance(blob, LocalBlob)
    content = keeper.file(digest).read_bytes()
    keeper.file(digest).unlink()
    keeper.write(content)
    await blobs.drop_damaged(blob, Damage.DIGEST)
    blob.close()
    assert keeper.file(digest).read_bytes() == content
    assert await keeper.held(digest) == [True]


async def test_a_missing_file_is_absent_and_its_row_is_dropped(
    keeper: Keeper, blobs: StoredBlobs, found: list[Damage]
) -> None:
    digest = await keeper.put(SIZE)
    keeper.file(digest).unlink()
    assert await blobs.open(digest) is None
    assert await keeper.held(digest) == [False]
    assert found == []  # as a rule it was evicted just before


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
async def test_a_file_that_cannot_be_opened_is_absent(keeper: Keeper, found: list[Damage], number: int) -> None:
    digest = await keeper.put(SIZE)
    blobs = StoredBlobs(keeper.index, FailingStore(keeper, number), Noted(found))
    assert await blobs.open(digest) is None
    assert await blobs.stat(digest) is None
    assert Damage.UNREADABLE in found
    assert not keeper.file(digest).exists()
    assert keeper.maintenance.blob_size(digest) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_lack_of_descriptors_is_an_error_and_no_damage(
    keeper: Keeper, found: list[Damage], number: int
) -> None:
    digest = await keeper.put(SIZE)
    blobs = StoredBlobs(keeper.index, FailingStore(keeper, number), Noted(found))
    with pytest.raises(StoreUnavailable) as refused:
        await blobs.open(digest)
    assert refused.value.headers["Retry-After"]
    assert found == []
    assert await keeper.held(digest) == [True]


async def test_a_row_of_a_blob_that_was_fetched_again_meanwhile_is_kept(keeper: Keeper) -> None:
    """Another process has fetched it again before its row would be dropped."""
    digest = await keeper.put(SIZE)
    blobs = StoredBlobs(keeper.index, RepairedStore(keeper.folder / "blobs"))
    assert await blobs.open(digest) is None
    assert keeper.maintenance.blob_size(digest) == SIZE
    assert len(keeper.maintenance.images_of(digest)) == 1
