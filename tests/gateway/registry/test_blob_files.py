"""Files of native blobs that are not what their rows state: absent until they are pushed again, and never served."""

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, StoreUnavailable
from cache.store.filesystem import FilesystemStore, StoredBlob
from gateway.registry.base import WritableRepository
from gateway.registry.blob_files import BlobFiles
from tests.gateway.registry.stores import push_blob
from tests.gateway.registry.test_native import read

CONTENT = b"a layer of some bytes"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the blob's file lies."""
    return tmp_path / "blobs" / "sha256" / DIGEST.hex[:2] / DIGEST.hex


def content_of(file: Path) -> bytes | None:
    """Bytes of a file; None where there is none."""
    return file.read_bytes() if file.exists() else None


def damage(file: Path, kind: str) -> None:
    if kind == "missing":
        file.unlink()
        return
    file.chmod(0o600)
    file.write_bytes({"short": CONTENT[:-1], "long": CONTENT + b"x", "empty": b""}[kind])


def place(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENT)


@pytest.mark.parametrize("kind", ["missing", "short", "long", "empty"])
@pytest.mark.parametrize("by_head", [True, False])
async def test_a_damaged_blob_counts_as_absent_until_it_is_pushed_again(
    repository: WritableRepository, file: Path, tmp_path: Path, kind: str, by_head: bool
) -> None:
    await push_blob(repository, CONTENT)
    assert await read(repository, DIGEST) == CONTENT
    damage(file, kind)
    for _ in range(2):
        with capture_logs() as logs, pytest.raises(BlobUnknown, match="is damaged on this server: push it again, or"):
            await (repository.stat_blob(DIGEST) if by_head else repository.blob(DIGEST))
        assert ("native_blob_damaged", "error") in [(line["event"], line["log_level"]) for line in logs]
    assert content_of(file) is None
    kept = [name for name in os.listdir(tmp_path / "quarantine") if DIGEST.hex in name] if kind != "missing" else []
    assert len(kept) == (kind != "missing")
    await push_blob(repository, CONTENT)
    assert await read(repository, DIGEST) == CONTENT
    assert (await repository.stat_blob(DIGEST)).size == len(CONTENT)


async def test_a_file_without_a_row_is_no_blob(repository: WritableRepository, file: Path) -> None:
    await push_blob(repository, b"something else")
    place(file)
    for request in (repository.blob(DIGEST), repository.stat_blob(DIGEST)):
        with pytest.raises(BlobUnknown, match=f"team/app has no blob {DIGEST}"):
            await request


class FailingStore(FilesystemStore):
    """A store whose disk fails with one error."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root)
        self._error = OSError(number, os.strerror(number))

    def stat(self, digest: Digest) -> None:
        raise self._error

    def open(self, digest: Digest) -> StoredBlob | None:
        raise self._error


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EIO, "this server cannot read the file of sha256"), (errno.EMFILE, "no descriptor or memory left")],
)
async def test_a_file_that_cannot_be_read_is_left_as_it_is(
    repository: WritableRepository, file: Path, tmp_path: Path, number: int, reason: str
) -> None:
    await push_blob(repository, CONTENT)
    files = BlobFiles(FailingStore(tmp_path / "blobs", number))
    for request in (files.open(DIGEST, len(CONTENT)), files.check(DIGEST, len(CONTENT))):
        with pytest.raises(StoreUnavailable, match=reason):
            await request
    assert content_of(file) == CONTENT
