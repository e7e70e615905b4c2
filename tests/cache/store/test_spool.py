"""Spool: hashed as it grows, read while it grows, deleted unless committed."""

import os
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.runtime.failpoints import arm
from cache.store.filesystem import FilesystemStore
from cache.store.spool import ROOM_AHEAD, DigestMismatch, Spool
from tests.cache.samples import blob_of, open_descriptors

CONTENT = Digest.of(b"content")


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path / "blobs")


@pytest.fixture
def spools(tmp_path: Path) -> Path:
    folder = tmp_path / "spools"
    folder.mkdir()
    return folder


def begin(folder: Path, digest: Digest, name: str = "one") -> Spool:
    return Spool.begin(folder / f"{name}.part", digest.algorithm)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_sealed_spool_is_committed_under_its_digest(store: FilesystemStore, spools: Path, algorithm: str) -> None:
    content, digest = blob_of(300_000, algorithm)
    with begin(spools, digest) as spool:
        for start in range(0, len(content), 70_001):
            spool.append(memoryview(content)[start : start + 70_001])
        spool.seal(digest, len(content))
        spool.commit(store)
    info = store.stat(digest)
    assert info is not None
    assert info.size == len(content)
    assert files(spools) == []


def test_an_uncommitted_spool_is_deleted_and_closed(tmp_path: Path, spools: Path) -> None:
    before = open_descriptors()
    with begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, 7)
        assert files(spools) == [spool.path]
    assert files(tmp_path) == []
    assert open_descriptors() == before


def test_a_spool_is_deleted_after_an_error(tmp_path: Path, spools: Path) -> None:
    with pytest.raises(ZeroDivisionError), begin(spools, CONTENT):
        raise ZeroDivisionError
    assert files(tmp_path) == []


def test_a_wrong_digest_is_not_sealed(store: FilesystemStore, spools: Path) -> None:
    with begin(spools, CONTENT) as spool:
        spool.append(b"CONTENT")
        with pytest.raises(DigestMismatch, match="do not have the digest"):
            spool.seal(CONTENT, 7)
        with pytest.raises(ValueError, match="must be sealed"):
            spool.commit(store)
    assert list(store.walk()) == []


@pytest.mark.parametrize("promised", [6, 8])
def test_a_wrong_length_is_not_sealed(spools: Path, promised: int) -> None:
    with begin(spools, CONTENT) as spool:
        spool.append(b"content")
        with pytest.raises(DigestMismatch, match=f"7 bytes arrived where {promised}"):
            spool.seal(CONTENT, promised)


def test_without_a_promised_length_the_digest_alone_decides(spools: Path) -> None:
    with begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, None)


def test_bytes_after_the_seal_require_another_seal(store: FilesystemStore, spools: Path) -> None:
    with begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, 7)
        spool.append(b"!")
        with pytest.raises(ValueError, match="must be sealed"):
            spool.commit(store)


def test_an_empty_spool_is_the_empty_blob(store: FilesystemStore, spools: Path) -> None:
    digest = Digest.of(b"")
    with begin(spools, digest) as spool:
        spool.append(b"")
        spool.seal(digest, 0)
        spool.commit(store)
    info = store.stat(digest)
    assert info is not None
    assert info.size == 0


def test_a_reader_sees_a_spool_grow_and_outlives_it(spools: Path) -> None:
    with begin(spools, CONTENT) as spool:
        reader = spool.open()
        spool.append(b"con")
        assert os.pread(reader, 100, 0) == b"con"
        spool.append(b"tent")
        assert os.pread(reader, 100, 3) == b"tent"
    assert os.pread(reader, 100, 0) == b"content"
    os.close(reader)


def test_two_spools_of_one_digest_are_independent(spools: Path) -> None:
    with begin(spools, CONTENT) as one, begin(spools, CONTENT, "two") as two:
        one.append(b"con")
        two.append(b"content")
        two.seal(CONTENT, 7)


def test_a_failed_adoption_leaves_nothing(tmp_path: Path, spools: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_bytes(b"")
    with pytest.raises(OSError), begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, 7)
        spool.commit(FilesystemStore(occupied))
    assert files(spools) == []


def test_a_spool_whose_name_leads_to_another_file_is_not_stored(store: FilesystemStore, spools: Path) -> None:
    other = spools / "other"
    other.write_bytes(b"CONTENT")
    with pytest.raises(OSError, match="replaced"), begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, 7)
        other.replace(spool.path)
        spool.commit(store)
    assert list(store.walk()) == []


@pytest.mark.parametrize("size", [0, 3, 8])
def test_a_spool_that_was_cut_or_grew_after_its_seal_is_not_stored(
    store: FilesystemStore, spools: Path, size: int
) -> None:
    with pytest.raises(OSError, match="changed"), begin(spools, CONTENT) as spool:
        spool.append(b"content")
        spool.seal(CONTENT, 7)
        os.ftruncate(spool.fileno(), size)
        spool.commit(store)
    assert list(store.walk()) == []


def test_a_spool_that_is_cut_while_it_grows_gets_no_zeros(spools: Path) -> None:
    with pytest.raises(OSError, match="missing"), begin(spools, CONTENT) as spool:
        spool.append(b"con")
        os.ftruncate(spool.fileno(), 1)
        spool.append(b"tent")
    with pytest.raises(OSError, match="missing"), begin(spools, CONTENT) as spool:
        spool.append(b"content")
        os.ftruncate(spool.fileno(), 1)
        spool.seal(CONTENT, 7)


def test_a_promise_alone_makes_room_for_some_of_the_bytes_at_a_time(spools: Path) -> None:
    wanted: list[int] = []

    def make_room(count: int) -> int:
        wanted.append(count)
        return count

    try:
        arm("spool.write=error:ENOSPC*1")
        with Spool.begin(spools / "one.part", "sha256", make_room) as spool:
            spool.promise(1 << 40)
            spool.append(b"content")
    finally:
        arm("")
    assert wanted == [ROOM_AHEAD]
