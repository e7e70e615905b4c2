"""FilesystemStore: the contract, and the properties of files."""

import errno
import os
import threading
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.store import filesystem
from cache.store.base import Extent
from cache.store.filesystem import FilesystemStore
from cache.store.paths import blob_path
from cache.store.quarantine import Quarantine
from cache.values import BlobInfo
from tests.cache.store.contract import BlobStoreContract, opened, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


class TestFilesystemStore(BlobStoreContract):
    @pytest.fixture
    def store(self, root: Path) -> FilesystemStore:
        return FilesystemStore(root)

    def test_the_walk_ignores_files_that_are_no_blobs(self, store: FilesystemStore, root: Path, spools: Path) -> None:
        digest = put(store, spools, b"content")
        folder = root / "sha256" / digest.hex[:2]
        strangers = [
            root / "README",
            folder / f"{digest.hex}.part",
            folder / "short",
            folder / digest.hex.upper(),
            root / "sha256" / "zz" / digest.hex,
            root / "md5" / digest.hex[:2] / digest.hex[:32],
        ]
        for stranger in strangers:
            stranger.parent.mkdir(parents=True, exist_ok=True)
            stranger.write_bytes(b"?")
        assert list(store.walk()) == [BlobInfo(digest, 7)]

    def test_a_store_without_a_folder_is_empty(self, store: FilesystemStore, root: Path) -> None:
        assert not root.exists()
        assert list(store.walk()) == []

    async def test_a_truncated_file_is_an_error_and_no_short_blob(
        self, store: FilesystemStore, root: Path, spools: Path
    ) -> None:
        digest = put(store, spools, b"0123456789")
        blob = opened(store, digest)
        os.truncate(blob_path(root, digest), 4)
        with pytest.raises(EOFError, match="ends at 4, before 10"):
            await blob.read(Extent(0, 10))
        blob.close()

    def test_a_file_whose_name_cannot_be_made_durable_keeps_its_old_one(
        self, store: FilesystemStore, spools: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(folder: Path) -> None:
            raise OSError(errno.EIO, "the disk is broken")

        monkeypatch.setattr(filesystem, "sync_folder", fail)
        spool = spools / "spool"
        spool.write_bytes(b"content")
        with pytest.raises(OSError, match="broken"):
            store.adopt(spool, Digest.of(b"content", "sha256"))
        assert list(store.walk()) == []
        assert spool.read_bytes() == b"content"

    def test_what_is_set_aside_is_in_the_quarantine_if_there_is_one(
        self, store: FilesystemStore, root: Path, spools: Path, tmp_path: Path
    ) -> None:
        digest = put(store, spools, b"0123456789")
        FilesystemStore(root, Quarantine(tmp_path / "quarantine")).set_aside(digest, lambda: False)
        [aside] = (tmp_path / "quarantine").iterdir()
        assert digest.hex in aside.name
        assert aside.read_bytes() == b"0123456789"

    def test_a_name_is_not_given_while_what_has_it_is_judged(
        self, store: FilesystemStore, root: Path, spools: Path
    ) -> None:
        """A blob that is fetched again while its damaged file is set aside keeps its name."""
        digest = put(store, spools, b"content")
        os.truncate(blob_path(root, digest), 1)
        committing = threading.Thread(target=put, args=(store, spools, b"content"))

        def judge() -> bool:
            committing.start()
            committing.join(0.1)
            return False

        assert store.set_aside(digest, judge)
        committing.join(20)
        assert store.stat(digest) == BlobInfo(digest, 7)

    def test_a_small_blob_that_is_read_at_once_is_checked(
        self, store: FilesystemStore, root: Path, spools: Path
    ) -> None:
        digest = put(store, spools, b"content")
        assert store.read_bytes(digest) == b"content"
        os.truncate(blob_path(root, digest), 3)
        assert store.read_bytes(digest) is None

    async def test_the_file_position_of_a_descriptor_is_left_alone(self, store: FilesystemStore, spools: Path) -> None:
        blob = opened(store, put(store, spools, b"0123456789"))
        await blob.read(Extent(2, 7))
        assert os.lseek(blob.fileno(), 0, os.SEEK_CUR) == 0
        blob.close()

    def test_a_blob_is_for_the_owner_alone(self, store: FilesystemStore, root: Path, spools: Path) -> None:
        digest = put(store, spools, b"content")
        assert blob_path(root, digest).stat().st_mode & 0o077 == 0
