"""Tags and repositories are deleted, restored and moved, and each change is noted once with whoever made it."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cache.oci.names import RepositoryName
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.db import pins, projects, repositories
from gateway.registry.deletion import purge_due
from tests.gateway.api.rest import REPOSITORIES, URL, Rest, open_rest

APP = f"/projects/team%2Fapp{REPOSITORIES}"
DELETED = "/projects/team%2Fapp/registry/deleted_repositories"
NAME = "team/app/web"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        await rest.surface.push_image(NAME, "v1", "v2")
        yield rest


async def repository(rest: Rest, name: str = NAME) -> str:
    return f"{APP}/{await rest.id_of(name)}"


async def pulls(rest: Rest, name: str, reference: str = "v1") -> int:
    return (await rest.surface.call("GET", f"{name}/manifests/{reference}")).status


# Tags


async def test_a_tag_is_deleted_and_noted_once(rest: Rest) -> None:
    path = await repository(rest)
    digest = (await rest.get(f"{path}/tags/v1"))["digest"]
    with capture_logs() as lines:
        answer = await rest.call("DELETE", f"{path}/tags/v1", who="developer", headers=[("X-Request-Id", "one")])
        again = await rest.call("DELETE", f"{path}/tags/v1", who="developer")
    assert (answer.status, answer.body) == (200, b"200")
    assert (again.status, json.loads(again.body)) == (404, {"message": "404 Tag Not Found"})
    assert [tag["name"] for tag in await rest.get(f"{path}/tags")] == ["v2"]
    assert await pulls(rest, NAME) == 404 and await pulls(rest, NAME, "v2") == 200
    [event] = rest.noted(EventKind.DELETE)
    who = "personal token 2 (tests) of user 'developer'"
    assert event == AuditEvent(
        event.at,
        EventKind.DELETE,
        Subject.TAG,
        Surface.REST,
        NAME,
        "v1",
        digest,
        None,
        who,
        "developer",
        "127.0.0.1",
        None,
        "one",
    )
    [line] = [line for line in lines if line["event"] == "deleted"]
    assert line == {
        "event": "deleted",
        "log_level": "info",
        "repository": NAME,
        "tag": "v1",
        "digest": digest,
        "who": who,
        "surface": "rest",
        "status": 200,
        "request_id": "one",
    }


async def test_a_deletion_tells_how_it_is_taken_back(rest: Rest) -> None:
    path = await repository(rest)
    warning = (await rest.call("DELETE", f"{path}/tags/v1")).headers["warning"]
    assert warning.startswith('299 - "until 2')
    url = warning.partition("a POST of ")[2].partition(" ")[0]
    assert url.startswith(f"{URL}/api/v4/projects/")
    restored = await rest.call("POST", url.removeprefix(f"{URL}/api/v4"))
    assert restored.status == 200 and await pulls(rest, NAME) == 200
    [noted] = rest.noted(EventKind.RESTORE)
    assert (noted.subject, noted.path, noted.tag, noted.user) == (Subject.TAG, NAME, "v1", "maintainer")


@pytest.mark.parametrize(("who", "status"), [("reporter", 403), ("stranger", 404), (None, 401)])
async def test_who_may_not_delete_a_tag_does_not(rest: Rest, who: str | None, status: int) -> None:
    path = await repository(rest)
    assert (await rest.call("DELETE", f"{path}/tags/v1", who=who)).status == status
    assert await pulls(rest, NAME) == 200


async def test_a_job_deletes_tags_of_its_own_project(rest: Rest) -> None:
    path, other = await repository(rest), [("JOB-TOKEN", await rest.job("maintainer", "team/lib"))]
    own = [("JOB-TOKEN", await rest.job("developer", "team/app"))]
    assert (await rest.call("DELETE", f"{path}/tags/v1", who=None, headers=other)).status == 404
    assert (await rest.call("DELETE", f"{path}/tags/v1", who=None, headers=own)).status == 200
    assert (await rest.call("DELETE", path, who=None, headers=own)).status == 403


async def test_the_history_of_a_tag_says_who_did_what(rest: Rest) -> None:
    path = await repository(rest)
    first = (await rest.get(f"{path}/tags/v1"))["digest"]
    second = await rest.surface.push_image(NAME, "v1", text="two")
    await rest.call("DELETE", f"{path}/tags/v1", who="developer")
    gone, moved, made = await rest.get(f"{path}/tags/v1/history", who="reporter")
    facts = [(event["event"], event["by"], event["from"], event["to"]) for event in (gone, moved, made)]
    assert facts == [
        ("delete", "developer", second, None),
        ("move", "maintainer", first, second),
        ("create", "maintainer", None, first),
    ]
    assert gone["kept"] is True and made["kept"] is False
    found, page = [], f"{path}/tags/v1/history?pagination=keyset&per_page=1"
    while page:
        answer = await rest.call("GET", page)
        found += json.loads(answer.body)
        link = answer.headers.get("link")
        page = link[1:].partition(">")[0].removeprefix(f"{URL}/api/v4") if link else ""
    assert found == [gone, moved, made]
    assert await rest.get(f"{path}/tags/v1/history", sort="asc", per_page=1, page=2) == [moved]
    assert await rest.get(f"{path}/tags/never/history", 404) == {"message": "404 Tag Not Found"}


async def test_a_tag_is_restored_to_what_it_pointed_to(rest: Rest) -> None:
    path = await repository(rest)
    first = (await rest.get(f"{path}/tags/v1"))["digest"]
    second = await rest.surface.push_image(NAME, "v1", text="two")
    answer = await rest.call("POST", f"{path}/tags/v1/restore", who="developer")
    assert json.loads(answer.body)["digest"] == first
    answer = await rest.send_json("POST", f"{path}/tags/v1/restore", {"digest": second})
    assert json.loads(answer.body)["digest"] == second
    for wanted, status, words in (
        ({"digest": "sha256:" + "0" * 64}, 409, "has no manifest"),
        ({"digest": "x"}, 400, "400 Bad Request"),
        ({"at": "yesterday"}, 400, "not a time"),
        ({"at": "100d"}, 409, "there was no tag"),
        ({"at": "1h", "digest": first}, 400, "mutually exclusive"),
    ):
        answer = await rest.send_json("POST", f"{path}/tags/v1/restore", wanted)
        assert answer.status == status and words in answer.body.decode(), wanted
    assert [(event.path, event.tag, event.digest) for event in rest.noted(EventKind.RESTORE)][1:] == [
        (NAME, "v1", second)
    ]
    assert (await rest.call("POST", f"{path}/tags/never/restore")).status == 409
    assert (await rest.call("POST", f"{path}/tags/v1/restore", who="reporter")).status == 403


# Repositories


async def test_a_repository_is_deleted_and_its_status_is_shown(rest: Rest) -> None:
    path, id = await repository(rest), await rest.id_of(NAME)
    with capture_logs() as lines:
        answer = await rest.call("DELETE", path, headers=[("X-Request-Id", "two")])
        again = await rest.call("DELETE", path)
    assert (answer.status, answer.body) == (202, b"202")
    assert (again.status, again.body) == (202, b"202")
    assert await pulls(rest, NAME) == 404
    assert await rest.get(APP) == []
    shown = await rest.get(f"{REPOSITORIES}/{id}", who="reporter")
    assert (shown["status"], shown["path"], shown["deleted_by"]) == ("delete_scheduled", NAME, "maintainer")
    assert await rest.get(f"{REPOSITORIES}/{id}", 404, who="stranger")
    assert await rest.get(f"{path}/tags", 404) == {"message": "404 Repository Not Found"}
    [event] = rest.noted(EventKind.DELETE)
    seen = (event.subject, event.surface, event.path, event.user)
    assert seen == (Subject.REPOSITORY, Surface.REST, NAME, "maintainer")
    [line] = [line for line in lines if line["event"] == "deleted"]
    assert (line["repository"], line["status"], line["request_id"]) == (NAME, 202, "two")


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404), (None, 401)])
async def test_who_may_not_delete_a_repository_does_not(rest: Rest, who: str | None, status: int) -> None:
    path = await repository(rest)
    for attempt in range(2):
        assert (await rest.call("DELETE", path, who=who)).status == status
        assert await pulls(rest, NAME) == (404 if attempt else 200)
        await rest.call("DELETE", path)


async def test_what_is_named_below_another_project_stays(rest: Rest) -> None:
    id = await rest.id_of(NAME)
    for project in ("team%2Flib", "closed%2Fsecret"):
        other = f"/projects/{project}{REPOSITORIES}/{id}"
        for method, path in (
            ("DELETE", other),
            ("DELETE", f"{other}/tags/v1"),
            ("POST", f"{other}/restore"),
            ("PUT", f"{other}?name=x"),
            ("GET", f"{other}/tags"),
        ):
            assert (await rest.call(method, path, who="root")).status == 404
    assert await pulls(rest, NAME) == 200


async def test_a_deleted_repository_is_listed_and_restored(rest: Rest) -> None:
    path, id = await repository(rest), await rest.id_of(NAME)
    assert await rest.get(DELETED) == []
    await rest.call("DELETE", path)
    [gone] = await rest.get(DELETED)
    assert (gone["id"], gone["name"], gone["status"]) == (id, "web", "delete_scheduled")
    assert await rest.get(DELETED, search="other") == []
    assert [gone] == await rest.get(DELETED, pagination="keyset", cursor=str(id - 1))
    assert await rest.get(DELETED, 403, who="developer")
    assert (await rest.call("POST", f"{path}/restore", who="developer")).status == 403
    restored = await rest.call("POST", f"{path}/restore")
    assert restored.status == 200 and json.loads(restored.body)["path"] == NAME
    assert await pulls(rest, NAME) == 200 and await rest.get(DELETED) == []
    assert (await rest.call("POST", f"{path}/restore")).status == 404


async def test_a_repository_whose_path_is_taken_is_not_restored(rest: Rest) -> None:
    path = await repository(rest)
    await rest.call("DELETE", path)
    await rest.surface.push_image(NAME, "v9")
    answer = await rest.call("POST", f"{path}/restore")
    assert answer.status == 409 and b"another repository has the path" in answer.body


async def test_a_deletion_goes_on_where_it_was_interrupted(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    path, id = await repository(rest), await rest.id_of(NAME)
    await rest.call("DELETE", path)
    now = rest.services.clock() + timedelta(days=2)
    monkeypatch.setattr("gateway.registry.deletion.PARTS_AT_ONCE", 1)
    async with rest.database() as database:
        assert await purge_due(database, now, now) == (0, True)
        assert (await rest.get(f"{REPOSITORIES}/{id}"))["status"] == "delete_ongoing"
        assert await rest.get(DELETED) == []
        assert (await rest.call("POST", f"{path}/restore")).status == 409
        assert (await rest.call("DELETE", path)).status == 202
        while (await purge_due(database, now, now))[1]:
            pass
    assert await rest.get(f"{REPOSITORIES}/{id}", 404) == {"message": "404 Repository Not Found"}


async def test_a_pin_keeps_what_it_shows(rest: Rest) -> None:
    path = await repository(rest)
    async with rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        await pins.pin(connection, project.key, project.path, rest.services.clock(), rest.services.clock())
    for method, target in (("DELETE", path), ("DELETE", f"{path}/tags/v1"), ("PUT", f"{path}?name=x")):
        answer = await rest.call(method, target)
        assert answer.status == 403 and b"is pinned" in answer.body


# Moves


async def test_a_repository_is_renamed_and_pulled_by_both_names(rest: Rest) -> None:
    path, id = await repository(rest), await rest.id_of(NAME)
    answer = await rest.send_json("PUT", path, {"name": "front/web"})
    assert answer.status == 200, answer.body
    shown = json.loads(answer.body)
    assert (shown["id"], shown["name"], shown["path"]) == (id, "front/web", "team/app/front/web")
    assert await pulls(rest, "team/app/front/web") == 200 and await pulls(rest, NAME) == 200
    assert json.loads((await rest.send_json("PUT", path, {"name": ""})).body)["path"] == "team/app"
    [first, second] = rest.noted(EventKind.MOVE)
    seen = (first.subject, first.surface, first.path, first.former)
    assert seen == (Subject.REPOSITORY, Surface.REST, "team/app/front/web", NAME)
    assert second.path == "team/app"


async def test_a_repository_moves_to_another_project(rest: Rest) -> None:
    path, id = await repository(rest), await rest.id_of(NAME)
    answer = await rest.send_json("PUT", path, {"path": "team/lib/web"})
    lib = await rest.get("/projects/team%2Flib")
    assert json.loads(answer.body)["project_id"] == lib["id"]
    assert await rest.get(f"{path}/tags", 404) == {"message": "404 Repository Not Found"}
    assert len(await rest.get(f"/projects/team%2Flib{REPOSITORIES}/{id}/tags")) == 2
    assert await pulls(rest, "team/lib/web") == 200


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({}, 400, "exactly one parameter must be provided"),
        ({"name": "a", "path": "team/app/b"}, 400, "exactly one parameter must be provided"),
        ({"name": "A"}, 400, "lower-case"),
        ({"name": "../x"}, 400, "lower-case"),
        ({"name": "a" * 300}, 400, "characters"),
        ({"name": "a/b/c/d"}, 400, "components below"),
        ({"name": "web"}, 409, "has this path already"),
        ({"name": "taken"}, 409, "which is the path of a repository"),
        ({"path": "closed/secret/x"}, 404, "404 Project Not Found"),
        ({"path": "nowhere/x"}, 404, "404 Project Not Found"),
        ({"path": "open/shown/x"}, 403, "403 Forbidden"),
        ({"path": "team/x"}, 404, "404 Project Not Found"),
    ],
)
async def test_a_move_that_cannot_be_changes_nothing(
    rest: Rest, wanted: dict[str, Any], status: int, words: str
) -> None:
    await rest.surface.push_blob("team/app/taken", b"content")
    answer = await rest.send_json("PUT", await repository(rest), wanted)
    assert answer.status == status and words in answer.body.decode()
    assert await pulls(rest, NAME) == 200 and rest.noted(EventKind.MOVE) == []


async def test_an_old_path_tells_nothing_of_what_is_there_now(rest: Rest) -> None:
    await rest.surface.push_blob("team/app/first", b"content")
    first = await repository(rest, "team/app/first")
    assert (await rest.send_json("PUT", first, {"path": "closed/secret/hidden"}, who="root")).status == 200
    answer = await rest.send_json("PUT", await repository(rest), {"name": "first"})
    assert answer.status == 409 and b"closed" not in answer.body and b"not free" in answer.body


async def test_a_repository_that_goes_meanwhile_is_not_changed(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    path, inventory = await repository(rest), rest.services.native.inventory
    stored = await inventory.find(await rest.id_of(NAME))

    async def find_as_before(self: object, id: int) -> Any:
        return stored

    async with rest.database() as database, database.write() as connection:
        await repositories.delete(connection, RepositoryName(NAME), rest.services.clock(), "ann")
    monkeypatch.setattr(type(inventory), "find", find_as_before)
    for method, target in (("DELETE", path), ("PUT", f"{path}?name=x"), ("POST", f"{path}/tags/v1/restore")):
        assert (await rest.call(method, target)).status == 404, target
    assert rest.noted(EventKind.DELETE) == []
