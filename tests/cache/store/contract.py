"""Contract of every BlobStore. A store's own test module inherits it and provides the `store` fixture."""

from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.store.base import BlobStore, Extent, OpenBlob
from cache.store.spool import Spool
from cache.values import BlobInfo
from tests.cache.samples import blob_of, open_descriptors


def put(store: BlobStore, folder: Path, content: bytes, algorithm: str = "sha256") -> Digest:
    digest = Digest.of(content, algorithm)
    with Spool.begin(folder / f"{digest.hex}.part", algorithm) as spool:
        spool.append(content)
        spool.seal(digest, len(content))
        spool.commit(store)
    return digest


def opened(store: BlobStore, digest: Digest) -> OpenBlob:
    blob = store.open(digest)
    assert blob is not None
    return blob


async def read(blob: OpenBlob, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([await blob.read(extent) async for extent in blob.ready(start, stop)])


class BlobStoreContract:
    @pytest.fixture
    def spools(self, tmp_path: Path) -> Path:
        folder = tmp_path / "spools"
        folder.mkdir()
        return folder

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [0, 1, 70_000])
    async def test_a_committed_blob_is_read_byte_for_byte(
        self, store: BlobStore, spools: Path, size: int, algorithm: str
    ) -> None:
        content, digest = blob_of(size, algorithm)
        assert put(store, spools, content, algorithm) == digest
        assert store.stat(digest) == BlobInfo(digest, size)
        blob = opened(store, digest)
        assert (blob.digest, blob.size) == (digest, size)
        await blob.verified()
        assert await read(blob) == content
        blob.close()

    async def test_a_part_is_read_alone(self, store: BlobStore, spools: Path) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        blob = opened(store, digest)
        assert await read(blob, 100, 200) == content[100:200]
        assert await read(blob, 4_999, None) == content[4_999:]
        assert await read(blob, 5_000, None) == b""
        assert await blob.read(Extent(17, 18)) == content[17:18]
        blob.close()

    def test_a_missing_blob_is_none(self, store: BlobStore) -> None:
        _, digest = blob_of(10)
        assert store.stat(digest) is None
        assert store.open(digest) is None
        assert list(store.walk()) == []

    def test_deleting_a_missing_blob_is_no_error(self, store: BlobStore) -> None:
        store.delete(blob_of(10)[1])

    async def test_what_is_set_aside_has_no_name_and_its_readers_keep_it(self, store: BlobStore, spools: Path) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        blob = opened(store, digest)
        assert not store.set_aside(digest, lambda: True)
        assert store.stat(digest) == BlobInfo(digest, 5_000)
        assert store.set_aside(digest, lambda: False)
        assert store.stat(digest) is None
        assert list(store.walk()) == []
        assert await read(blob) == content
        blob.close()

    def test_setting_aside_a_missing_blob_is_no_error(self, store: BlobStore) -> None:
        store.set_aside(blob_of(10)[1], lambda: False)

    def test_a_blob_is_deleted_unless_something_speaks_against_it(self, store: BlobStore, spools: Path) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        store.delete(digest, lambda: True)
        assert store.stat(digest) == BlobInfo(digest, 5_000)
        store.delete(digest, lambda: False)
        assert store.stat(digest) is None

    async def test_a_reader_is_unaffected_when_the_blob_is_deleted(self, store: BlobStore, spools: Path) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        blob = opened(store, digest)
        store.delete(digest)
        assert store.stat(digest) is None
        assert store.open(digest) is None
        assert await read(blob) == content
        blob.close()

    async def test_a_second_copy_takes_the_place_of_the_first_under_its_readers(
        self, store: BlobStore, spools: Path
    ) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        blob = opened(store, digest)
        put(store, spools, content)
        assert await read(blob) == content
        blob.close()
        assert list(store.walk()) == [BlobInfo(digest, 5_000)]

    def test_the_walk_yields_every_blob_once(self, store: BlobStore, spools: Path) -> None:
        put_in = {
            BlobInfo(put(store, spools, content, algorithm), len(content))
            for content, algorithm in [(b"one", "sha256"), (b"three", "sha256"), (b"", "sha256"), (b"one", "sha512")]
        }
        walked = list(store.walk())
        assert set(walked) == put_in
        assert len(walked) == len(put_in)

    def test_adopting_moves_the_file(self, store: BlobStore, spools: Path) -> None:
        put(store, spools, b"content")
        assert list(spools.iterdir()) == []

    async def test_a_closed_blob_leaves_no_descriptor(self, store: BlobStore, spools: Path) -> None:
        content, digest = blob_of(5_000)
        put(store, spools, content)
        before = open_descriptors()
        blob = opened(store, digest)
        await read(blob)
        blob.close()
        assert open_descriptors() == before
