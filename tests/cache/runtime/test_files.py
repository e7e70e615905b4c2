"""Files: whole or absent, for one user, and never where a link leads."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cache.index.usage import UsageFile
from cache.runtime import files
from cache.runtime.locks import open_lock_file
from cache.sqlite import DatabaseUnusable, create
from cache.store.sidecar import Note, Sidecar
from cache.store.spool import Spool
from cache.upstream.ledger import Ledger
from cache.values import Origin, Source
from gateway import data_folder


@pytest.fixture
def lax() -> Iterator[None]:
    """Run with a umask that takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("lax")
def test_a_file_is_replaced_by_a_new_one_of_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        found = files.replace(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert (found.st_ino, found.st_mode & 0o777) == (path.stat().st_ino, 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_cannot_be_written_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(files, "write_new", refuse)
    with pytest.raises(OSError, match="full"):
        files.replace(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def refuse(path: Path, content: bytes, *, durable: bool) -> None:
    path.write_bytes(content[:1])
    raise OSError("full")


def test_drafts_of_killed_processes_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "quota.json"
    kept.write_text("")
    (tmp_path / ".quota.json.0123.draft").write_text("")
    files.delete_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def write_ledger(path: Path) -> None:
    Ledger(path).change(Source(Origin("https", "a.test", 443)), lambda known: known)


WRITERS: dict[str, Callable[[Path], object]] = {
    "run.json": lambda path: data_folder.announce_server(path.parent, ["http://a.test"], [1]),
    "quota.json": write_ledger,
    "ballast": lambda path: data_folder.write_ballast(path.parent),
    "cache.db": create,
    "usage.db": lambda path: UsageFile(path).prepare(),
    "server.lock": open_lock_file,
    "spool": lambda path: Spool.begin(path, "sha256"),
    "note": lambda path: Sidecar.create(path, Note("source", "image", 7, "boot")),
    "evidence": lambda path: files.write_new(path, b"wrong"),
}


@pytest.mark.parametrize("target", ["precious", None], ids=["to a file", "to nothing"])
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_where_a_link_leads(name: str, target: str | None, tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "data"
    folder.mkdir()
    if target is not None:
        elsewhere.write_text(target)
    for taken in (name, f"{name}.part", f"{name}.new", f"{name}.{os.getpid()}.new", f"{name}.lock", f"{name}-wal"):
        (folder / taken).symlink_to(elsewhere)
    with suppress(OSError, DatabaseUnusable):
        WRITERS[name](folder / name)
    assert (elsewhere.read_text() if elsewhere.exists() else None) == target
