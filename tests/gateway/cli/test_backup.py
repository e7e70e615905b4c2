"""Backup and restore of a data folder: all of it comes back, and nothing is lost on the way."""

import hashlib
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cache import sqlite as sqlite_files
from cache.runtime.files import create
from cache.runtime.locks import try_locked
from gateway.data_folder import NativeFolder, server_lock
from gateway.db.revisions import needed_revision
from gateway.keys.sealing import Sealer
from gateway.maintenance import restore
from tests.gateway.cli.terminal import Terminal
from tests.gateway.cli.test_db import BACK_TO_0004
from tests.parts.canaries import CANARY
from tests.parts.disk import SmallDisk

ROOT = Path(__file__).parents[3]


@pytest.fixture
def filled(terminal: Terminal) -> Terminal:
    """A data folder with a user, a token, a group with a sealed login, signing keys, and an index of the cache."""
    login = ["--upstream-username", "ada", "--upstream-password-file", terminal.password(CANARY.encode())]
    terminal.done("group", "create", "team", *login)
    terminal.done("user", "create", "ann", "--admin", "--password-file", terminal.password(b"long enough"))
    terminal.json("token", "create", "--user", "ann", "--name", "laptop", "--scope", "api")
    terminal.done("keys", "list")
    (terminal.data / "cache.db").write_bytes(b"index")
    (terminal.data / "usage.db").write_bytes(b"counts")
    return terminal


def state(data: Path) -> dict[str, object]:
    """Keys, and rows of the database, of a data folder."""
    found: dict[str, object] = {
        str(path.relative_to(data)): path.read_bytes()
        for path in (data / "keys").iterdir()
        if not path.name.endswith(".lock")
    }
    with closing(sqlite3.connect(data / "gateway.db")) as connection:
        for table in ("groups", "users", "personal_tokens", "paths"):
            found[table] = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith((".lock", "-wal", "-shm"))}


def test_everything_but_the_cache_comes_back_elsewhere(filled: Terminal) -> None:
    file = filled.folder / "backup.tar"
    with server_lock(filled.data):  # as beside a running server
        printed = filled.json("backup", str(file))
    nothing = {"blobs": 0, "left_out": []}
    assert printed == {"bytes": file.stat().st_size, "files": 3, "database": "sqlite", **nothing}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as tar:
        members = [member.name for member in tar]
    assert members == ["manifest.json", "gateway.db", "keys/sealing.keys", "keys/signing.keys"]
    other = filled.folder / "other" / "data"
    code, out, err = filled.run("restore", str(file), "--json", data=other)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["files"], document["kept"]) == (3, None)
    assert state(other) == state(filled.data)
    assert names(other) == {"gateway.db", "keys"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in other.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (other, other / "keys")} == {0o700}
    [password] = [row[7] for row in state(other)["groups"] if row[1] == "team"]  # type: ignore[attr-defined]
    assert Sealer(other / "keys").open(password, "upstream login of group 2") == CANARY
    assert filled.run("token", "list", "--user", "ann", data=other)[0] == 0


def test_a_backup_is_for_its_owner_whatever_the_umask(filled: Terminal) -> None:
    before = os.umask(0)
    try:
        filled.done("backup", str(filled.folder / "b"))
        filled.run("restore", str(filled.folder / "b"), data=filled.folder / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((filled.folder / "b").stat().st_mode) == 0o600
    assert {path.name for path in (filled.folder / "new").rglob("*") if path.stat().st_mode & 0o077} == set()


def test_what_was_there_is_kept_and_the_index_of_the_cache_is_not(filled: Terminal, backup: Path) -> None:
    restored = state(filled.data)
    filled.done("group", "create", "later")
    filled.done("keys", "rotate")
    before = state(filled.data)
    assert before != restored
    kept = Path(filled.json("restore", str(backup))["kept"])
    assert state(filled.data) == restored
    assert kept.parent == filled.data and kept.name.startswith("before-restore-")
    assert state(kept) == before
    assert names(filled.data) == {"gateway.db", "keys", "usage.db", "audit.db", kept.name}
    again = Path(filled.json("restore", str(backup))["kept"])
    assert again != kept and state(kept) == before


def test_no_file_of_a_deleted_blob_goes_while_a_backup_is_restored(
    filled: Terminal, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []
    complete = restore._complete

    def looked(data: Path) -> Any:
        with try_locked(NativeFolder(data).lock("backup")) as is_free:
            free.append(is_free)
        return complete(data)

    monkeypatch.setattr(restore, "_complete", looked)
    filled.done("restore", str(backup))
    assert free == [False]


def test_a_restore_is_refused_while_a_server_runs(filled: Terminal, backup: Path) -> None:
    filled.done("group", "create", "later")
    before = state(filled.data), names(filled.data)
    with server_lock(filled.data) as free:
        assert free
        said = filled.refused("restore", str(backup))
    assert said == f"a server uses the data folder {filled.data}: stop it, or give --data another folder"
    assert (state(filled.data), names(filled.data)) == before


def test_a_backup_holds_what_was_committed_while_others_write(filled: Terminal) -> None:
    file = filled.folder / "backup.tar"
    with closing(sqlite3.connect(filled.data / "gateway.db", isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode")
        writer.execute("UPDATE groups SET default_upstream = 'committed.example' WHERE path = 'team'")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE groups SET default_upstream = 'open.example' WHERE path = 'team'")
        filled.done("backup", str(file))
        writer.execute("COMMIT")
    other = filled.folder / "other"
    assert filled.run("restore", str(file), data=other)[0] == 0
    [upstream] = [row[5] for row in state(other)["groups"] if row[1] == "team"]  # type: ignore[attr-defined]
    assert upstream == "committed.example"


def test_where_no_backup_can_be_written_nothing_is_left(filled: Terminal) -> None:
    taken = filled.folder / "taken"
    taken.write_text("of another")
    (filled.folder / "link").symlink_to(filled.folder / "nowhere")
    for file, reason in {
        taken: "exists: name another file, or move it away",
        filled.folder / "link": "exists: name another file, or move it away",
        filled.data: "exists: name another file, or move it away",
        filled.data / "inside": "lies in the data folder, with which it would be lost: name a file elsewhere",
        filled.data / "keys" / "inside": "lies in the data folder, with which it would be lost: name a file elsewhere",
    }.items():
        before = names(filled.folder), names(filled.data), names(filled.data / "keys")
        assert filled.refused("backup", str(file)) == f"{file} {reason}"
        assert (names(filled.folder), names(filled.data), names(filled.data / "keys")) == before
    missing = filled.folder / "missing"
    assert (
        filled.refused("backup", str(missing / "b")) == f"there is no folder {missing}: make it, or name another file"
    )
    assert taken.read_text() == "of another"


def test_a_key_file_that_no_backup_can_hold_is_not_left_out_in_silence(filled: Terminal) -> None:
    (filled.data / "keys" / "my key").write_text("secret")
    said = filled.refused("backup", str(filled.folder / "b"))
    assert "'keys/my key' is not the name of a file that a backup holds" in said
    (filled.data / "keys" / "my key").unlink()
    (filled.data / "keys" / "sealing.keys").unlink()
    (filled.data / "keys" / "sealing.keys").symlink_to("nowhere")
    assert "sealing.keys cannot be read or written (No such file" in filled.refused("backup", str(filled.folder / "b"))
    assert not any(name.startswith((".b", "b")) for name in names(filled.folder))


def test_a_damaged_database_makes_no_backup(filled: Terminal) -> None:
    with closing(sqlite3.connect(filled.data / "gateway.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [root] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'groups'").fetchone()
        [size] = connection.execute("PRAGMA page_size").fetchone()
    with (filled.data / "gateway.db").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(os.urandom(size))
    said = filled.refused("backup", str(filled.folder / "b"))
    assert "gateway.db" in said and "backup" in said
    assert not any(name.startswith((".b", "b")) for name in names(filled.folder))


Change = Callable[[dict[str, object], list[tuple[tarfile.TarInfo, bytes]]], None]


def forged(backup: Path, change: Change) -> Path:
    """A backup whose manifest and members are changed, with a fitting manifest at its beginning."""
    with tarfile.open(backup) as tar:
        contents = [(member, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]
    manifest = json.loads(contents.pop(0)[1])
    change(manifest, contents)
    text = json.dumps(manifest).encode()
    file = backup.with_name("forged.tar")
    with file.open("wb") as target:
        for info, content in [(tarfile.TarInfo("manifest.json"), text), *contents]:
            info.size = len(content)
            target.write(info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
        target.write(bytes(1024))
    return file


def added(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Change:
    def change(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        content = b"intruder" if kind == tarfile.REGTYPE else b""
        contents.append((info, content))
        member = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["members"].append(member)  # type: ignore[attr-defined]

    return change


def unlisted(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    contents.append((tarfile.TarInfo("keys/more"), b"intruder"))


def swapped(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    contents.reverse()


def twice(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    contents.append(contents[-1])
    manifest["members"].append(manifest["members"][-1])  # type: ignore[attr-defined,index]


def altered(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    info, content = contents[-1]
    contents[-1] = info, bytes([content[0] ^ 1]) + content[1:]


def put(key: str, value: object) -> Change:
    return lambda manifest, _: manifest.update({key: value})


FORGERIES: dict[str, tuple[Change, str]] = {
    "a name above the folder": (added("../outside"), "is not the name of a file that a backup holds"),
    "a name above by way of the keys": (added("keys/../../outside"), "is not the name of a file that a backup holds"),
    "an absolute name": (added("/tmp/outside"), "is not the name of a file that a backup holds"),
    "a name of another file": (added("run.json"), "is not the name of a file that a backup holds"),
    "a hidden name": (added("keys/.draft"), "is not the name of a file that a backup holds"),
    "a link": (added("keys/link", tarfile.SYMTYPE, "/etc/passwd"), "'keys/link' is no regular file"),
    "a hard link": (added("keys/link", tarfile.LNKTYPE, "gateway.db"), "'keys/link' is no regular file"),
    "a device": (added("keys/null", tarfile.CHRTYPE), "'keys/null' is no regular file"),
    "a member that is not listed": (unlisted, "it is incomplete or damaged"),
    "another order": (swapped, "is not where the manifest says"),
    "a member twice": (twice, "its manifest names a file twice"),
    "another content": (altered, "does not have its digest"),
    "a later format": (put("format", 3), "it has format '3', and this version knows 2"),
    "an unknown revision": (put("revision", "9999"), "does not have the revision 9999"),
    "no revision": (put("revision", 7), "its manifest cannot be read"),
    "members that are none": (put("members", [1]), "its manifest cannot be read"),
    "a size that is none": (
        put("members", [{"name": "gateway.db", "bytes": -1, "sha256": "0" * 64}]),
        "size or digest of gateway.db is none",
    ),
    "a name that is none": (put("members", [{"name": 1, "bytes": 1, "sha256": "0" * 64}]), "its manifest cannot be"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_backup_changes_nothing(filled: Terminal, backup: Path, forgery: str) -> None:
    change, reason = FORGERIES[forgery]
    before = state(filled.data), names(filled.data), names(filled.folder)
    file = forged(backup, change)
    said = filled.refused("restore", str(file))
    assert reason in said
    assert said.startswith(f"{file} is of no use, since ") and said.endswith("use another backup")
    file.unlink()
    assert (state(filled.data), names(filled.data), names(filled.folder)) == before
    new = filled.folder / "new"
    filled.refused("restore", str(forged(backup, change)), data=new)
    assert not new.exists()


def rewrite(
    folder: Path,
    manifest: dict[str, object],
    contents: list[tuple[tarfile.TarInfo, bytes]],
    revision: str,
    statements: Iterable[str],
) -> None:
    """Run statements on the database of a backup, and state its revision."""
    database = folder / "rewritten.db"
    database.write_bytes(contents[0][1])
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    content = database.read_bytes()
    contents[0] = contents[0][0], content
    member = {"name": "gateway.db", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["members"] = [member, *manifest["members"][1:]]  # type: ignore[index]
    manifest["revision"] = revision


def test_a_database_of_a_later_version_is_refused(filled: Terminal, backup: Path) -> None:
    def later(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        rewrite(filled.folder, manifest, contents, "9999", ["UPDATE alembic_version SET version_num = '9999'"])

    said = filled.refused("restore", str(forged(backup, later)))
    assert "its gateway.db has revision 9999, which this version" in said


def test_a_database_of_an_earlier_version_is_upgraded_which_is_said(filled: Terminal, backup: Path) -> None:
    def earlier(manifest: dict[str, object], contents: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        rewrite(filled.folder, manifest, contents, "0004", BACK_TO_0004)

    said = filled.done("restore", str(forged(backup, earlier)))
    assert f"its database had revision 0004, and was upgraded to {needed_revision()}\n" in said


@pytest.mark.parametrize("damage", ["cut", "longer", "flipped", "empty", "other", "folder", "fifo", "missing", "tar"])
def test_a_file_that_is_no_backup_changes_nothing(filled: Terminal, backup: Path, damage: str) -> None:
    before = state(filled.data), names(filled.data)
    content = backup.read_bytes()
    backup.unlink()
    match damage:
        case "cut":
            backup.write_bytes(content[: len(content) // 2])
        case "longer":
            backup.write_bytes(content + bytes(512))
        case "flipped":
            backup.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
        case "empty":
            backup.write_bytes(b"")
        case "other":
            backup.write_bytes(os.urandom(4096))
        case "folder":
            backup.mkdir()
        case "fifo":
            os.mkfifo(backup)
        case "tar":
            with tarfile.open(backup, "w") as tar:
                tar.add(filled.config, "manifest.json")
    filled.refused("restore", str(backup))
    assert (state(filled.data), names(filled.data)) == before


def run_killed(filled: Terminal, point: str, backup: Path, data: Path) -> int:
    """Run a restore in a process that dies as by kill -9 at a failpoint."""
    code = (
        "import sys; from cache.runtime.failpoints import arm; from gateway.cli.main import main; "
        "arm(sys.argv.pop(1)); main()"
    )
    words = [sys.executable, "-c", code, f"{point}", "restore", str(backup), "--data", str(data)]
    return subprocess.run(words, cwd=filled.folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=120).returncode


DEATHS = [
    *("restore.staged=exit", "restore.decided=exit"),
    *(f"restore.aside=exit@{n}" for n in (1, 2, 5)),
    *("restore.placed=exit@1", "restore.placed=exit@2", "restore.completed=exit"),
]


@pytest.mark.parametrize("point", DEATHS)
def test_a_restore_that_is_killed_leaves_the_old_folder_or_is_completed(
    filled: Terminal, backup: Path, processes: None, point: str
) -> None:
    restored = state(filled.data)
    filled.done("group", "create", "later")
    filled.done("keys", "rotate")
    before = state(filled.data)
    assert run_killed(filled, point, backup, filled.data) == 137
    filled.done("group", "list")  # any command completes it
    if point == "restore.staged=exit":
        assert state(filled.data) == before
        return
    assert state(filled.data) == restored
    [kept] = [name for name in names(filled.data) if name.startswith("before-restore-")]
    assert state(filled.data / kept) == before
    assert names(filled.data) == {"gateway.db", "keys", "usage.db", "audit.db", kept}


def test_a_killed_restore_into_no_folder_is_completed_too(filled: Terminal, backup: Path, processes: None) -> None:
    new = filled.folder / "new"
    assert run_killed(filled, "restore.placed=exit@1", backup, new) == 137
    assert filled.run("group", "list", data=new)[0] == 0
    assert state(new) == state(filled.data)
    assert names(new) == {"gateway.db", "keys"}


def test_commands_wait_for_no_restore_that_runs(filled: Terminal) -> None:
    (filled.data / "restore.pending").mkdir()
    with server_lock(filled.data):
        assert filled.refused("group", "list") == f"data folder {filled.data} is being restored: try again"
    filled.done("group", "list")
    assert "restore.pending" not in names(filled.data)


def test_a_backup_of_an_older_revision_is_not_an_upgrade(filled: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the database was upgraded")

    monkeypatch.setattr("gateway.cli.folder.set_up", refuse)
    filled.done("backup", str(filled.folder / "b"))


def test_a_restore_meanwhile_makes_no_backup(filled: Terminal, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def restore_and_copy(source: Path, target: Path) -> None:
        copy(source, target)
        filled.done("restore", str(backup))

    copy = sqlite_files.copy
    monkeypatch.setattr(sqlite_files, "copy", restore_and_copy)
    said = filled.refused("backup", str(filled.folder / "b"))
    assert said == f"data folder {filled.data} was restored meanwhile: try again"
    assert not (filled.folder / "b").exists()


def test_a_disk_that_fills_up_is_named(filled: Terminal, scratch: Path, processes: None) -> None:
    disk = SmallDisk(scratch / "disk")
    try:
        disk.fill()
        said = filled.refused("backup", str(disk.place / "b"))
        assert "(No space left on device), and no backup was made: " in said
        assert names(disk.place) == {"filler"}
    finally:
        disk.unmount()


def test_on_a_full_disk_nothing_is_left(filled: Terminal, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create_full(path: Path) -> int:
        os.close(create(path))
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr("cache.runtime.files.create", create_full)
    before = state(filled.data), names(filled.data), names(filled.folder)
    said = filled.refused("backup", str(filled.folder / "b"))
    assert said.endswith(
        "(No space left on device), and no backup was made: look at its owner and its disk, or name another file"
    )
    said = filled.refused("restore", str(backup))
    assert said == (
        f"data folder {filled.data} cannot be restored (No space left on device), and nothing was changed: "
        "look at its owner and its disk"
    )
    new = filled.folder / "new"
    filled.refused("restore", str(backup), data=new)
    assert (state(filled.data), names(filled.data), names(filled.folder)) == before
