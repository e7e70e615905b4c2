"""`verify`: which damage of pushed content it finds, and what becomes of it."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cache.lease.local import LocalLeases
from cache.oci.digest import Digest
from cache.store.quarantine import FILE_BYTES, FILES
from gateway.data_folder import NativeFolder
from tests.gateway.cli.terminal import Terminal
from tests.gateway.native_content import blob_file, push, write_blob

BASE, APP = bytes(range(256)) * 4000, b"an application"
WHOLE = {"damaged": 0, "missing": 0, "orphaned": 0, "findings": []}


@pytest.fixture
def pushed(terminal: Terminal) -> Terminal:
    """Two images, which share a layer."""
    terminal.done("group", "create", "team")
    terminal.done("project", "create", "team/app")
    push(terminal.data, "team/app", "team/app", [BASE, APP], "latest")
    push(terminal.data, "team/app", "team/app/web", [BASE])
    NativeFolder(terminal.data).make()
    return terminal


def found(terminal: Terminal, *options: str) -> dict[str, Any]:
    """The document of a verification that finds damage."""
    code, out, err = terminal.run("verify", "--json", *options)
    assert code == 1 and "damage was found in " in err
    document: dict[str, Any] = json.loads(out)
    return document


def quarantined(data: Path) -> list[bytes]:
    folder = NativeFolder(data).damaged
    return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []


def test_whole_content_is_counted(pushed: Terminal) -> None:
    sizes = {"checked": 2, "bytes": len(BASE) + len(APP)}
    assert pushed.json("verify") == sizes | WHOLE
    hashed = pushed.json("verify", "--hash")
    assert hashed | sizes == sizes | WHOLE
    assert hashed["checked"] == 4 and hashed["bytes"] > sizes["bytes"]
    assert pushed.done("verify").startswith("checked: 2, size: ")


def test_a_new_data_folder_has_nothing_to_verify(terminal: Terminal) -> None:
    terminal.done("group", "create", "team")
    assert terminal.json("verify", "--hash") == {"checked": 0, "bytes": 0} | WHOLE


def shorten(path: Path) -> None:
    os.truncate(path, len(BASE) - 1)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(700_000)
        file.write(b"!")


@pytest.mark.parametrize(
    ("harm", "damage", "seen_by_size"),
    [
        (Path.unlink, "missing", True),
        (shorten, "size", True),
        (flip, "digest", False),
    ],
    ids=["missing", "shorter", "altered"],
)
def test_damage_is_found_with_the_repositories_that_it_is_in(
    pushed: Terminal, harm: Callable[[Path], None], damage: str, seen_by_size: bool
) -> None:
    file = blob_file(pushed.data, Digest.of(BASE))
    harm(file)
    content = file.read_bytes() if file.exists() else None
    finding = {"digest": str(Digest.of(BASE)), "damage": damage, "repositories": ["team/app", "team/app/web"]}
    if seen_by_size:
        assert found(pushed)["findings"] == [finding]
        assert file.exists() == (content is not None)
    else:
        assert pushed.json("verify")["findings"] == []
    document = found(pushed, "--hash")
    assert document["findings"] == [finding]
    assert (document["damaged"], document["missing"]) == ((0, 1) if damage == "missing" else (1, 0))
    assert not file.exists() and quarantined(pushed.data) == ([] if content is None else [content])
    assert found(pushed, "--hash")["missing"] == 1
    write_blob(pushed.data, BASE)
    assert pushed.json("verify", "--hash")["findings"] == []


def test_all_damaged_files_are_kept_whatever_their_number_and_size(pushed: Terminal) -> None:
    many = [b"%d" % number for number in range(FILES + 1)]
    push(pushed.data, "team/app", "team/app/many", many)
    for content in many:
        os.truncate(blob_file(pushed.data, Digest.of(content)), FILE_BYTES + 1)
    assert len(found(pushed, "--hash")["findings"]) == len(many)
    kept = [path.stat().st_size for path in NativeFolder(pushed.data).damaged.iterdir()]
    assert kept == [FILE_BYTES + 1] * len(many)


def test_a_damaged_blob_that_is_being_pushed_is_left_to_the_push(pushed: Terminal) -> None:
    file = blob_file(pushed.data, Digest.of(BASE))
    flip(file)
    lease = LocalLeases(NativeFolder(pushed.data).leases).take(f"blob {Digest.of(BASE)}")
    assert lease is not None
    assert pushed.json("verify", "--hash")["findings"] == []
    assert file.exists()
    lease.release()
    assert len(found(pushed, "--hash")["findings"]) == 1


def test_files_that_no_row_names_are_counted_and_stay(pushed: Terminal) -> None:
    digest = write_blob(pushed.data, b"of nobody", "sha512")
    (blob_file(pushed.data, digest).parent / "notes.txt").write_text("of a person")
    assert pushed.json("verify", "--hash")["orphaned"] == 1
    assert blob_file(pushed.data, digest).exists()


def test_a_manifest_that_is_not_what_was_pushed_is_found_in_the_database(pushed: Terminal) -> None:
    digest = pushed.json("tag", "list", "team/app")[0]["digest"]
    with closing(sqlite3.connect(pushed.data / "gateway.db")) as connection, connection:
        connection.execute("UPDATE manifests SET raw = X'7B7D' WHERE digest = ?", [digest])
    assert pushed.json("verify")["findings"] == []
    document = found(pushed, "--hash")
    assert document["damaged"] == 1
    assert document["findings"] == [{"digest": digest, "damage": "digest", "repositories": ["team/app"]}]
    code, out, _ = pushed.run("verify", "--hash")
    assert (code, out.splitlines()[1:]) == (1, [f"manifest\t{digest}\tteam/app"])


def test_a_rate_that_is_none_is_wrong_usage(pushed: Terminal) -> None:
    code, _, err = pushed.run("verify", "--rate", "80%")
    assert code == 2 and "--rate" in err


@pytest.mark.parametrize("by_hash", [True, False])
def test_a_manifest_whose_repository_lacks_what_it_needs_is_found(pushed: Terminal, by_hash: bool) -> None:
    with closing(sqlite3.connect(pushed.data / "gateway.db")) as database, database:
        [[id]] = database.execute("SELECT id FROM repositories WHERE path = 'team/app/web'")
        database.execute("DELETE FROM blob_links WHERE repository_id = ?", [id])
    document = found(pushed, *(["--hash"] if by_hash else []))
    missing = {"digest": str(Digest.of(BASE)), "damage": "missing", "repositories": ["team/app/web"]}
    assert (document["missing"], document["damaged"], document["findings"]) == (1, 0, [missing])
    code, out, _ = pushed.run("verify")
    assert code == 1 and f"missing\t{Digest.of(BASE)}\tteam/app/web, needed by sha256:" in out
