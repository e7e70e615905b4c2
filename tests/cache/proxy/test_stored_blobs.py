"""What index and disk do not agree on is not here."""

import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cache.events import CacheEvents
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable
from cache.proxy.stored_blobs import Holdings
from cache.store.filesystem import StoredBlob
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
def told() -> list[Damage]:
    return []


@pytest.fixture
def held(keeper: Keeper, told: list[Damage]) -> Holdings:
    class Noted(CacheEvents):
        def damage_found(self, damage: Damage) -> None:
            told.append(damage)

    return Holdings(keeper.index, keeper.store, Noted())


async def test_what_is_as_the_index_says_is_here(keeper: Keeper, held: Holdings) -> None:
    digest = await keeper.put(SIZE)
    blob = await held.open(digest)
    assert blob is not None
    assert await held.stat(digest) == BlobInfo(digest, SIZE)
    blob.close()


async def test_a_file_that_no_row_tells_of_is_not_here(keeper: Keeper, held: Holdings) -> None:
    digest = keeper.write(b"stray")
    assert await held.open(digest) is None
    assert await held.stat(digest) is None


@pytest.mark.parametrize("ask", [Holdings.open, Holdings.stat])
@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
async def test_a_file_of_another_size_is_not_here_and_forgotten(
    keeper: Keeper, held: Holdings, told: list[Damage], size: int, ask: Callable[..., object]
) -> None:
    digest = await keeper.put(SIZE)
    os.truncate(keeper.file(digest), size)
    assert await getattr(held, ask.__name__)(digest) is None
    assert told == [Damage.SIZE]
    assert keeper.stock.blob_size(digest) is None
    assert keeper.stock.images_of(digest) == []


async def test_a_file_that_is_missing_is_not_here_and_forgotten(
    keeper: Keeper, held: Holdings, told: list[Damage]
) -> None:
    digest = await keeper.put(SIZE)
    keeper.file(digest).unlink()
    assert await held.open(digest) is None
    assert await keeper.held(digest) == [False]
    assert told == []  # as a rule it was evicted


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
async def test_a_file_that_cannot_be_opened_is_not_here(
    keeper: Keeper, held: Holdings, told: list[Damage], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await keeper.put(SIZE)
    refuse(keeper, number, monkeypatch)
    assert await held.open(digest) is None
    assert await held.stat(digest) is None
    assert Damage.UNREADABLE in told
    assert keeper.stock.blob_size(digest) is None


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_want_of_descriptors_is_no_damage_and_said_so(
    keeper: Keeper, held: Holdings, told: list[Damage], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = await keeper.put(SIZE)
    with monkeypatch.context() as patch:
        refuse(keeper, number, patch)
        with pytest.raises(StoreUnavailable) as refused:
            await held.open(digest)
    assert refused.value.headers["Retry-After"]
    assert told == []
    assert await keeper.held(digest) == [True]


def refuse(keeper: Keeper, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(digest: Digest) -> StoredBlob:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keeper.store, "open", failing)
    monkeypatch.setattr(keeper.store, "stat", failing)


async def test_what_was_put_right_meanwhile_is_not_forgotten(
    keeper: Keeper, held: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has fetched it again between the look and the forgetting."""
    digest = await keeper.put(SIZE)
    well, looks = keeper.store.open, [None]
    monkeypatch.setattr(keeper.store, "open", lambda digest: looks.pop() if looks else well(digest))
    assert await held.open(digest) is None
    assert keeper.stock.blob_size(digest) == SIZE
    assert len(keeper.stock.images_of(digest)) == 1
