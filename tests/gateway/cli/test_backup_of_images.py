"""Backup and restore of native blobs: all that the database names comes back, and none that is damaged."""

import asyncio
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from gateway.cli.backup import read_blobs
from gateway.db import uploads
from gateway.db.engine import Database
from gateway.settings.tables import Settings
from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import PUSHED, blob_file, push, write_blob

ROOT = Path(__file__).parents[3]
LAYERS = [b"a layer", b"", bytes(range(256)) * 5000]
LONG = b"named by its sha512"


@pytest.fixture
def filled(terminal: Terminal) -> Terminal:
    """A data folder with two images of a project, of which one has a blob by its sha512, and a file without a row."""
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", LAYERS, "latest")
    push(terminal.data, "team/app", "team/app/long", [LONG], "latest", algorithm="sha512")
    write_blob(terminal.data, b"of nobody")
    return terminal


def stored(data: Path) -> dict[str, bytes]:
    """Content of the files of a store by their paths."""
    return {str(p.relative_to(data)): p.read_bytes() for p in (data / "blobs").rglob("*") if p.is_file()}


def named() -> dict[str, bytes]:
    """What the database names of `filled`, as `stored` lists it."""
    found = [(Digest.of(layer), layer) for layer in LAYERS] + [(Digest.of(LONG, "sha512"), LONG)]
    return {f"blobs/{d.algorithm}/{d.hex[:2]}/{d.hex}": content for d, content in found}


def test_every_blob_that_the_database_names_comes_back(filled: Terminal) -> None:
    file, other = filled.folder / "backup.tar", filled.folder / "other"
    printed = filled.json("backup", str(file))
    assert (printed["blobs"], printed["left_out"], printed["bytes"]) == (4, [], file.stat().st_size)
    code, out, err = filled.run("restore", str(file), "--json", data=other)
    assert (code, err) == (0, "")
    assert json.loads(out)["files"] == printed["files"]
    assert stored(other) == named()
    assert {path.stat().st_mode & 0o077 for path in (other / "blobs").rglob("*") if path.is_file()} == {0}


def test_blobs_that_a_database_elsewhere_names_are_read_page_by_page(
    filled: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cli.folder.PAGE_SIZE", 3)
    found = [str(blob.digest) for blob in read_blobs(Settings(data=filled.data))]
    assert found == sorted([*(str(Digest.of(layer)) for layer in LAYERS), str(Digest.of(LONG, "sha512"))])


def test_other_programs_can_read_a_backup(filled: Terminal, backup: Path) -> None:
    with tarfile.open(backup) as tar:
        found = {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar}
    manifest = json.loads(found.pop("manifest.json"))
    assert {name: content for name, content in found.items() if name.startswith("blobs/")} == named()
    assert manifest["blobs"]["count"] == 4 and manifest["blobs"]["bytes"] == sum(map(len, named().values()))


def test_blobs_of_the_store_stay_and_damaged_ones_are_replaced(filled: Terminal, backup: Path) -> None:
    before = stored(filled.data)
    layer, config, large = (blob_file(filled.data, Digest.of(content)) for content in LAYERS)
    layer.unlink()
    large.write_bytes(large.read_bytes()[:-1] + b"!")
    untouched = config.stat().st_ino
    push(filled.data, "team/app", "team/app/later", [b"pushed after the backup"], "latest")
    filled.done("restore", str(backup))
    assert stored(filled.data) == before | {
        str(path.relative_to(filled.data)): path.read_bytes()
        for path in [blob_file(filled.data, Digest.of(b"pushed after the backup"))]
    }
    assert config.stat().st_ino == untouched


@pytest.mark.parametrize("damage", ["missing", "shorter", "altered", "a folder"])
def test_a_damaged_blob_is_left_out_and_named(filled: Terminal, damage: str) -> None:
    victim = blob_file(filled.data, Digest.of(LAYERS[2]))
    content = victim.read_bytes()
    victim.unlink()
    match damage:
        case "shorter":
            victim.write_bytes(content[:-1])
        case "altered":
            victim.write_bytes(b"!" + content[1:])
        case "a folder":
            victim.mkdir()
    file, other = filled.folder / "backup.tar", filled.folder / "other"
    code, out, err = filled.run("backup", str(file), "--json")
    assert (code, json.loads(out)["blobs"], json.loads(out)["left_out"]) == (1, 3, [str(Digest.of(LAYERS[2]))])
    assert err.startswith("registry-gateway: 1 blobs that the database names are damaged or missing, and are not in ")
    assert filled.run("restore", str(file), data=other)[0] == 0
    left = named()
    del left[str(victim.relative_to(filled.data))]
    assert stored(other) == left


def test_a_backup_without_blobs_of_an_earlier_version_is_restored(filled: Terminal, backup: Path) -> None:
    def as_before(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
        manifest["format"] = 1
        del manifest["blobs"]
        contents[:] = [(name, content) for name, content in contents if not name.startswith("blobs/")]

    other = filled.folder / "other"
    assert filled.run("restore", str(forged(backup, as_before)), data=other)[0] == 0
    assert not (other / "blobs").exists()


def test_uploads_that_were_not_finished_do_not_come_back(filled: Terminal) -> None:
    async def begin() -> None:
        async with Database.open(filled.data / "gateway.db") as database, database.write() as connection:
            await uploads.insert(connection, "one", 1, "user 1", PUSHED)

    asyncio.run(begin())
    file, other = filled.folder / "backup.tar", filled.folder / "other"
    filled.done("backup", str(file))
    assert filled.run("restore", str(file), data=other)[0] == 0
    with closing(sqlite3.connect(other / "gateway.db")) as connection:
        assert connection.execute("SELECT count(*) FROM uploads").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM manifests").fetchone() == (2,)


Change = Callable[[dict[str, object], list[tuple[str, bytes]]], None]


def forged(backup: Path, change: Change) -> Path:
    """A backup whose manifest and members are changed; the room that its blobs are said to take is what they take."""
    with tarfile.open(backup) as tar:
        contents = [(member.name, (tar.extractfile(member) or io.BytesIO()).read()) for member in tar]
    manifest = json.loads(contents.pop(0)[1])
    change(manifest, contents)
    members = [member_of(name, content) for name, content in contents]
    if "blobs" in manifest:
        listed = len(manifest["members"])
        manifest["blobs"]["archived"] = sum(map(len, members[listed:]))
    file = backup.with_name("forged.tar")
    file.write_bytes(member_of("manifest.json", json.dumps(manifest).encode()) + b"".join(members) + bytes(1024))
    return file


def member_of(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def renamed(name: str) -> Change:
    def change(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
        contents[-1] = name, contents[-1][1]

    return change


def swapped(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
    contents[-1], contents[-2] = contents[-2], contents[-1]


def twice(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
    contents[-1] = contents[-2]


def altered(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
    contents[-1] = contents[-1][0], b"!" + contents[-1][1][1:]


def without_one(manifest: dict[str, object], contents: list[tuple[str, bytes]]) -> None:
    contents.pop()


def counted(**counts: object) -> Change:
    return lambda manifest, _: manifest["blobs"].update(counts)  # type: ignore[attr-defined]


FORGERIES: dict[str, tuple[Change, str]] = {
    "a name above the folder": (renamed(f"../blobs/sha512/ab/{'ab' * 64}"), "is not the name of a blob that comes"),
    "an absolute name": (renamed(f"/blobs/sha512/ab/{'ab' * 64}"), "is not the name of a blob that comes"),
    "a name of another folder": (renamed(f"keys/sha512/ab/{'ab' * 64}"), "is not the name of a blob that comes"),
    "a digest in the folder of another": (renamed(f"blobs/sha512/aa/{'ab' * 64}"), "is not the name of a blob that"),
    "a name that is no digest": (renamed("blobs/sha512/ab/abc"), "is not the name of a blob that comes next"),
    "a name that is far too long": (renamed(f"blobs/{'a' * 300}"), "it has a name that is too long"),
    "another order": (swapped, "is not the name of a blob that comes next"),
    "a blob twice": (twice, "is not the name of a blob that comes next"),
    "another content": (altered, "does not have its digest"),
    "a blob less than counted": (without_one, "it is no backup of this program, or damaged"),
    "a blob more than counted": (counted(count=3), "it holds other blobs than its manifest counts"),
    "other bytes than counted": (counted(bytes=3), "it holds other blobs than its manifest counts"),
    "counts that are none": (counted(count="4"), "its manifest cannot be read"),
    "counts below nothing": (counted(count=-1), "its manifest cannot be read"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_blobs_change_nothing(filled: Terminal, backup: Path, forgery: str) -> None:
    change, reason = FORGERIES[forgery]
    file, other = forged(backup, change), filled.folder / "other"
    code, _, said = filled.run("restore", str(file), data=other)
    assert (code, reason in said) == (1, True), said
    assert said.rstrip().endswith("nothing was changed: use another backup")
    assert not other.exists()


@pytest.mark.parametrize(
    "point", ["restore.staged=exit", "restore.decided=exit", "restore.blob=exit@2", "restore.placed=exit@1"]
)
def test_a_restore_that_is_killed_is_completed_with_its_blobs_or_was_never_begun(
    filled: Terminal, backup: Path, processes: None, point: str
) -> None:
    other = filled.folder / "other"
    code = (
        "import sys; from cache.runtime.failpoints import arm; from gateway.cli.main import main; "
        "arm(sys.argv.pop(1)); main()"
    )
    words = [sys.executable, "-c", code, point, "restore", str(backup), "--data", str(other)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.run(words, cwd=filled.folder, env=environment, timeout=120).returncode == 137
    begun = point != "restore.staged=exit"
    assert filled.run("project", "list", data=other)[0] == (0 if begun else 1)
    assert (stored(other) == named()) == begun


def test_a_repository_that_was_deleted_before_a_backup_is_kept_anew_after_a_restore(filled: Terminal) -> None:
    file, other = filled.folder / "backup.tar", filled.folder / "other"
    filled.done("repository", "delete", "team/app/long")
    with closing(sqlite3.connect(filled.data / "gateway.db")) as connection, connection:
        days_ago = "strftime('%Y-%m-%d %H:%M:%f000', deleted_at, '-3 days')"
        connection.execute(f"UPDATE repositories SET deleted_at = {days_ago} WHERE path LIKE '!%'")
    filled.done("backup", str(file))
    for words in (("restore", str(file)), ("gc", "run"), ("repository", "restore", "team/app/long")):
        code, _, err = filled.run(*words, data=other)
        assert code == 0, err
