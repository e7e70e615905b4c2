"""`repository` and `tag` as they are typed, and the deletion of a project with images."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from cache.oci.digest import Digest
from cache.sqlite import DatabaseUnusable
from gateway.cli import folder
from gateway.cli.folder import open_existing
from gateway.db import repositories
from gateway.db.changes import Concern, content_key
from gateway.settings.tables import Settings
from tests.gateway.cli.terminal import Terminal
from tests.gateway.db.announced import Announced
from tests.gateway.native_content import blob_file, push

BASE, APP = b"base" * 100, b"app" * 10


@pytest.fixture
def pushed(terminal: Terminal) -> Terminal:
    """Three images of two projects, which share a layer."""
    for path in ("team", "team/sub"):
        terminal.done("group", "create", path)
    for path in ("team/app", "team/sub/tool"):
        terminal.done("project", "create", path)
    push(terminal.data, "team/app", "team/app", [BASE, APP], "v1", "latest")
    push(terminal.data, "team/app", "team/app/web", [BASE], "v1")
    push(terminal.data, "team/sub/tool", "team/sub/tool/x", [BASE])
    return terminal


def test_repositories_are_listed_with_their_tags_and_bytes(pushed: Terminal) -> None:
    listed = pushed.json("repository", "list")
    assert [(found["path"], found["tags"]) for found in listed] == [
        ("team/app", 2),
        ("team/app/web", 1),
        ("team/sub/tool/x", 0),
    ]
    shown = pushed.json("repository", "show", "team/app")
    assert listed[0] == {key: shown[key] for key in ("id", "path", "tags", "bytes")}
    assert shown["manifests"] == 1 and shown["created_at"] == "2026-03-04T05:06:07Z"
    [manifest] = raw_sizes(pushed, "team/app")
    assert shown["bytes"] == len(BASE) + len(APP) + manifest
    assert pushed.done("repository", "list", "team/app").splitlines() == [
        "Path\tTags\tSize",
        f"team/app\t2\t{shown['bytes']} bytes",
        f"team/app/web\t1\t{listed[1]['bytes']} bytes",
    ]
    assert [found["path"] for found in pushed.json("repository", "list", "team/sub")] == ["team/sub/tool/x"]
    assert pushed.json("repository", "list", "hub") == []


def raw_sizes(terminal: Terminal, repository: str) -> list[int]:
    with closing(sqlite3.connect(terminal.data / "gateway.db")) as connection:
        query = "SELECT length(raw) FROM manifests JOIN repositories r ON r.id = repository_id WHERE r.path = ?"
        return [size for (size,) in connection.execute(query, [repository])]


def test_listings_are_read_page_by_page(pushed: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("repository", "list"), ("repository", "list", "team/app"), ("tag", "list", "team/app")):
        whole = pushed.json(*words)
        monkeypatch.setattr(folder, "PAGE_SIZE", 1)
        assert pushed.json(*words) == whole
        monkeypatch.undo()


def test_a_deleted_repository_takes_nothing_from_others_and_is_restored(pushed: Terminal) -> None:
    shown = pushed.json("repository", "show", "team/app/web")
    tagged = pushed.json("tag", "list", "team/app/web")
    deleted = pushed.json("repository", "delete", "team/app/web")
    kept = datetime.fromisoformat(deleted.pop("kept_until"))
    assert timedelta(hours=23) < kept - datetime.now(UTC) <= timedelta(days=1)
    assert deleted == shown
    assert [found["path"] for found in pushed.json("repository", "list", "team/app")] == ["team/app"]
    assert blob_file(pushed.data, Digest.of(BASE)).exists()
    [own] = raw_sizes(pushed, "team/app")
    text = pushed.done("repository", "delete", "team/app")
    content = f"2 tags, 1 manifests, {len(BASE) + len(APP) + own} bytes"
    way_back = "`registry-gateway repository restore team/app` restores it until "
    assert text.startswith(f"deleted repository team/app: {content}; {way_back}")
    assert pushed.json("repository", "list", "team/app") == []
    assert pushed.json("repository", "restore", "team/app/web") == shown
    assert pushed.json("tag", "list", "team/app/web") == tagged
    assert pushed.done("repository", "restore", "team/app") == f"restored repository team/app: {content}\n"
    for path in ("team/app", "team/app/none", "team/none"):
        refused = pushed.refused("repository", "restore", path)
        assert refused.startswith(f"no deleted repository '{path}' is kept: it was never deleted, or its content is")


def test_deleted_repositories_are_listed_until_they_are_restored(
    pushed: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 1)
    assert pushed.json("repository", "list", "--deleted") == []
    told = {path: pushed.json("repository", "delete", path) for path in ("team/sub/tool/x", "team/app/web", "team/app")}
    listed = pushed.json("repository", "list", "--deleted")
    assert [found["path"] for found in listed] == ["team/app", "team/app/web", "team/sub/tool/x"]
    for found in listed:
        assert (found["kept_until"], found["by"]) == (told[found["path"]]["kept_until"], "(command line)")
    assert [found["path"] for found in pushed.json("repository", "list", "team/sub", "--deleted")] == [
        "team/sub/tool/x"
    ]
    assert "there is no group, project or user 'none'" in pushed.refused("repository", "list", "none", "--deleted")
    pushed.done("repository", "restore", "team/app/web")
    pushed.done("group", "move", "team", "other")
    again = pushed.done("repository", "list", "other", "--deleted").splitlines()
    assert again[0] == "Id\tPath\tDeleted\tBy\tKept until"
    assert [line.split("\t")[1] for line in again[1:]] == ["other/app", "other/sub/tool/x"]


def test_a_repository_is_restored_also_where_pushes_have_made_another_one_at_its_path(pushed: Terminal) -> None:
    """A pipeline pushes on, a moment after the deletion by mistake."""
    shown = pushed.json("repository", "show", "team/app")
    pushed.done("repository", "delete", "team/app")
    push(pushed.data, "team/app", "team/app", [BASE], "v2")
    refused = pushed.refused("repository", "restore", "team/app")
    assert refused.startswith("another repository has the path 'team/app' since: ")
    assert "`registry-gateway repository restore PATH --to NEW`" in refused
    assert pushed.json("repository", "restore", "team/app", "--to", "team/app/old") == shown | {"path": "team/app/old"}
    pushed.done("repository", "delete", "team/app/old")
    pushed.done("repository", "move", "team/app", "team/app/new")
    refused = pushed.refused("repository", "restore", "team/app/old", "--to", "team/app")
    assert "old path of repository 'team/app/new'" in refused
    for place in ("team/sub/tool/old", "team/none", "Team"):
        pushed.refused("repository", "restore", "team/app/old", "--to", place)
    assert pushed.json("repository", "restore", "team/app/old") == shown | {"path": "team/app/old"}


def test_of_several_deleted_repositories_of_one_path_any_is_restored(pushed: Terminal) -> None:
    first = pushed.json("repository", "show", "team/app")
    pushed.done("repository", "delete", "team/app")
    push(pushed.data, "team/app", "team/app", [BASE], "v2")
    pushed.done("repository", "delete", "team/app")
    assert len(pushed.json("repository", "list", "--deleted")) == 2
    assert "'team/app' with the id 99 is kept" in pushed.refused("repository", "restore", "team/app", "--id", "99")
    assert pushed.json("repository", "restore", "team/app", "--id", str(first["id"])) == first


def test_tags_are_listed_with_what_they_point_to_and_deleted(pushed: Terminal) -> None:
    digest = pushed.json("tag", "list", "team/app")[0]["digest"]
    assert pushed.json("tag", "list", "team/app") == [
        {
            "name": name,
            "digest": digest,
            "published_at": "2026-03-04T05:06:07Z",
            "created_at": "2026-03-04T05:06:07Z",
        }
        for name in ("latest", "v1")
    ]
    assert pushed.done("tag", "list", "team/app").splitlines() == [
        "Name\tDigest\tPublished",
        f"latest\t{digest}\t2026-03-04",
        f"v1\t{digest}\t2026-03-04",
    ]
    deleted = pushed.json("tag", "delete", "team/app:v1")
    kept = datetime.fromisoformat(deleted.pop("kept_until"))
    assert timedelta(hours=23) < kept - datetime.now(UTC) <= timedelta(days=1)
    assert deleted == {"repository": "team/app", "name": "v1", "digest": digest}
    assert [tag["name"] for tag in pushed.json("tag", "list", "team/app")] == ["latest"]
    text = pushed.done("tag", "delete", "team/app:latest")
    way_back = "`registry-gateway tag restore team/app:latest` restores it until "
    assert text.startswith(f"deleted tag team/app:latest, which pointed to {digest}: {way_back}")
    assert pushed.json("repository", "show", "team/app")["manifests"] == 1


def test_a_tag_is_restored_to_what_it_pointed_to_and_its_history_tells_all_of_it(pushed: Terminal) -> None:
    [first] = {tag["digest"] for tag in pushed.json("tag", "list", "team/app")}
    push(pushed.data, "team/app", "team/app", [APP], "v1")
    second = pushed.json("tag", "list", "team/app")[1]["digest"]
    assert second != first
    pushed.done("tag", "delete", "team/app:v1")
    assert pushed.json("tag", "restore", "team/app:v1") == {
        "repository": "team/app",
        "name": "v1",
        "digest": second,
    }
    assert pushed.done("tag", "restore", "team/app:v1", "--digest", first) == (
        f"restored tag team/app:v1, which points to {first}\n"
    )
    listed = pushed.json("tag", "history", "team/app:v1")
    assert [(event["event"], event["from"], event["to"]) for event in listed] == [
        ("move", second, first),
        ("create", None, second),
        ("delete", second, None),
        ("move", first, second),
        ("create", None, first),
    ]
    assert [event["by"] for event in listed[:3]] == ["(command line)"] * 3
    assert [event["kept"] for event in listed] == [True, False, True, True, False]
    assert len(pushed.done("tag", "history", "team/app:v1").splitlines()) == 6
    at = pushed.json("tag", "list", "team/app", "--at", "2026-03-04T05:06:07Z")
    assert [(tag["name"], tag["kept"]) for tag in at] == [("latest", True), ("v1", True)]
    assert pushed.json("tag", "list", "team/app", "--at", "2026-03-04") == []


def test_a_tag_that_was_pushed_anew_after_its_deletion_leads_to_what_it_was_before(pushed: Terminal) -> None:
    [first] = {tag["digest"] for tag in pushed.json("tag", "list", "team/app")}
    pushed.done("tag", "delete", "team/app:v1")
    push(pushed.data, "team/app", "team/app", [APP], "v1")
    refused = pushed.refused("tag", "restore", "team/app:v1")
    assert refused.endswith(f"nothing came before; of an earlier tag of this name, these can be restored: {first}")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("tag restore team/app:v1", "tag team/app:v1 points to what it was created with: nothing came before"),
        ("tag restore team/app:v9", "there never was a tag team/app:v9"),
        ("tag history team/app:v9", "there never was a tag team/app:v9"),
        ("tag restore team/app:v1 --at 2026-03-04", "there was no tag team/app:v1 at 2026-03-04T00:00:00Z"),
        ("tag restore team/app:v1 --at 2099-01-01", "'2099-01-01' is not in the past: use an earlier time"),
        ("tag list team/app --at soon", "'soon' is not a time: use a date such as"),
        (f"tag restore team/app:v1 --digest {Digest.of(b'x')} --at 1h", "give --digest or --at, not both"),
        (f"tag restore team/app:v1 --digest {Digest.of(b'x')}", "repository 'team/app' has no manifest sha256:"),
        ("tag restore team/app:v1 --digest sha256:ab", "provided digest is not valid"),
    ],
)
def test_what_cannot_be_restored_is_refused_with_the_reason(pushed: Terminal, words: str, reason: str) -> None:
    before = pushed.json("tag", "list", "team/app")
    assert pushed.refused(*words.split()).startswith(reason)
    assert pushed.json("tag", "list", "team/app") == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("repository show team/none", "there is no repository 'team/none': `registry-gateway repository list` shows"),
        ("repository delete team/none", "there is no repository 'team/none': `registry-gateway repository list` shows"),
        ("repository list team/none", "there is no group, project or user 'team/none': "),
        ("tag list team/none", "there is no repository 'team/none'"),
        ("tag list Team", "invalid repository name: 'Team' must be lower-case"),
        ("tag delete team/none:v1", "there is no repository 'team/none'"),
        ("tag delete team/app:v2", "repository 'team/app' has no tag 'v2': `registry-gateway tag list team/app` shows"),
        ("tag delete team/app", "'team/app' names no tag: give a repository and a tag of it, such as team/app:v1"),
        ("tag delete host:5000/team/app", "'host:5000/team/app' names no tag: give a repository and a tag of it"),
        ("tag delete team/app@sha256:ab", "'team/app@sha256:ab' names no tag: give a repository and a tag of it"),
        ("tag delete team/app:-v1", "manifest tag did not match the grammar of tags: '-v1'"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(pushed: Terminal, words: str, reason: str) -> None:
    assert pushed.refused(*words.split()).startswith(reason)
    assert len(pushed.json("repository", "list")) == 3 and len(pushed.json("tag", "list", "team/app")) == 2


def test_a_server_learns_of_each_deletion(pushed: Terminal) -> None:
    id = pushed.json("repository", "show", "team/app")["id"]

    async def deleted(*words: str) -> set[tuple[Concern, str | None]]:
        async with open_existing(Settings(data=pushed.data)) as database:
            announced = Announced(database)
            await asyncio.to_thread(pushed.done, *words)
            return announced.take()

    assert asyncio.run(deleted("tag", "delete", "team/app:v1")) == {(Concern.CONTENT, content_key(id, "v1"))}
    assert asyncio.run(deleted("repository", "delete", "team/app/web")) == {(Concern.REPOSITORY, "team/app/web")}
    assert asyncio.run(deleted("project", "delete", "team/app")) == {
        (Concern.REPOSITORY, "team/app"),
        (Concern.PROJECT, "team/app"),
    }


def test_a_deletion_that_was_interrupted_goes_on_when_it_is_repeated(
    pushed: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_connection: object, _id: int, _now: object) -> bool:
        raise DatabaseUnusable("the database went away: try again")

    with monkeypatch.context() as patch:
        patch.setattr(repositories, "_delete_links", fail)
        assert "the database went away: try again" in pushed.refused("project", "delete", "team/app")
    found = pushed.json("repository", "show", "team/app")
    assert (found["tags"], found["manifests"], found["bytes"]) == (0, 0, len(BASE) + len(APP))
    assert pushed.json("project", "show", "team/app")["registry"] == "disabled", "pushes would go with the rest"
    pushed.done("project", "delete", "team/app")
    assert "team/app" not in [found["path"] for found in pushed.json("repository", "list")]


def test_a_pinned_project_is_not_deleted(pushed: Terminal) -> None:
    pushed.done("group", "update", "team", "--as-of", "2026-03-05")
    refused = pushed.refused("project", "delete", "team/app")
    assert "group team is pinned" in refused
    assert len(pushed.json("repository", "list", "team/app")) == 2
    assert pushed.json("project", "show", "team/app")["registry"] == "enabled"
    pushed.done("group", "update", "team", "--as-of", "now")
    pushed.done("project", "delete", "team/app")


def test_a_project_is_deleted_with_its_repositories(pushed: Terminal) -> None:
    told = pushed.done("project", "delete", "team/app")
    content = "private, container registry enabled"
    assert told == f"deleted project team/app: {content}; only a backup brings its 2 repositories back\n"
    assert [found["path"] for found in pushed.json("repository", "list")] == ["team/sub/tool/x"]
    pushed.done("project", "create", "team/app")
    assert pushed.json("repository", "list", "team/app") == []
    assert pushed.json("project", "show", "team/app")["stored_bytes"] == 0
