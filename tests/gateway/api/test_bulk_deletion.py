"""Tags are deleted in bulk by names, number and age: as a dry run shows, once an hour, and to the end."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from gateway.api.bulk_deletion import TOO_SOON
from gateway.audit.event import EventKind, Surface
from gateway.db import pins, projects, schema
from gateway.wiring import bulk_deletion as wired
from gateway.wiring.bulk_deletion import deleting_in_bulk, note_bulk
from tests.gateway.api.rest import REPOSITORIES, Rest, open_rest

APP = f"/projects/team%2Fapp{REPOSITORIES}"
NAME = "team/app/web"
AGES = {"latest": 100, "v1": 40, "v2": 29, "v3": 20, "v4": 10, "production-1": 50, "dev-1": 60}
"""Days since each tag was pushed."""


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        await rest.surface.push_image(NAME, *AGES)
        tags, now = schema.tags, datetime.now(UTC)
        async with rest.database() as database, database.write() as connection:
            for name, days in AGES.items():
                aged = update(tags).where(tags.c.name == name).values(moved_at=now - timedelta(days=days))
                await connection.execute(aged)
        yield rest


async def tags_path(rest: Rest) -> str:
    return f"{APP}/{await rest.id_of(NAME)}/tags"


async def run(rest: Rest) -> None:
    """Do what was requested, as the server does in the background."""
    while await rest.services.native.bulk.step(lambda run, deleted: note_bulk(rest.services.audit, run, deleted)):
        pass


async def names(rest: Rest) -> set[str]:
    return {tag["name"] for tag in await rest.get(await tags_path(rest))}


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"name_regex_delete": ".*"}, {"latest"}),
    ({"name_regex": "v.+"}, {"latest", "production-1", "dev-1"}),
    ({"name_regex_delete": "v", "name_regex": ".*"}, set(AGES)),
    ({"name_regex_delete": ".*", "name_regex_keep": "v.+|dev-.*"}, {"latest", "v1", "v2", "v3", "v4", "dev-1"}),
    ({"name_regex_delete": ".*", "name_regex_keep": ".*"}, set(AGES)),
    ({"name_regex_delete": ".*", "keep_n": 1, "name_regex_keep": "production-.*", "older_than": "7d"},
     {"latest", "v4", "production-1"}),
    ({"name_regex_delete": ".*", "keep_n": 2}, {"latest", "v4", "v3"}),
    ({"name_regex_delete": ".*", "older_than": "1month"}, {"latest", "v2", "v3", "v4"}),
    ({"name_regex_delete": ".*", "older_than": "36 days", "keep_n": 0}, {"latest", "v2", "v3", "v4"}),
]  # fmt: skip


@pytest.mark.parametrize(("wanted", "left"), CASES)
async def test_what_a_dry_run_shows_is_deleted(rest: Rest, wanted: dict[str, Any], left: set[str]) -> None:
    path = await tags_path(rest)
    shown = json.loads((await rest.call("DELETE", path, dry_run="true", **wanted)).body)
    assert {tag["name"] for tag in shown["tags"] if tag["verdict"] != "deleted"} == left
    assert (shown["deleted"], shown["kept"]) == (len(AGES) - len(left), len(left))
    assert await names(rest) == set(AGES) and rest.noted(EventKind.DELETE) == []
    answer = await rest.call("DELETE", path, **wanted)
    assert (answer.status, answer.body) == (202, b"202")
    await run(rest)
    assert await names(rest) == left
    assert {event.tag for event in rest.noted(EventKind.DELETE)} == set(AGES) - left


async def test_a_dry_run_says_why_each_tag_stays_and_warns_of_emptiness(rest: Rest) -> None:
    path = await tags_path(rest)
    wanted = {"name_regex_delete": "[lvd].*", "name_regex_keep": "v1", "keep_n": 1, "older_than": "25d"}
    answer = await rest.send_json("DELETE", path, wanted | {"dry_run": True})
    verdicts = {tag["name"]: tag["verdict"] for tag in json.loads(answer.body)["tags"]}
    assert verdicts == {
        "latest": "latest",
        "production-1": "other_name",
        "v1": "kept_name",
        "v4": "newest",
        "v3": "recent",
        "v2": "deleted",
        "dev-1": "deleted",
    }
    assert json.loads(answer.body)["deletes_everything"] is False
    await rest.call("DELETE", f"{path}/latest")
    shown = json.loads((await rest.call("DELETE", path, dry_run="1", name_regex_delete=".*")).body)
    assert shown["deletes_everything"] is True


async def test_a_second_request_within_the_hour_is_refused(rest: Rest) -> None:
    path = await tags_path(rest)
    assert (await rest.call("DELETE", path, name_regex_delete="v1")).status == 202
    for _ in range(2):
        answer = await rest.call("DELETE", path, name_regex_delete=".*")
        assert (answer.status, json.loads(answer.body)) == (400, {"message": TOO_SOON})
        await run(rest)
    assert await names(rest) == set(AGES) - {"v1"}
    assert (await rest.call("DELETE", path, name_regex_delete=".*", dry_run="true")).status == 200


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({}, "name_regex_delete, name_regex are missing, at least one parameter must be provided"),
        (
            {"name_regex_delete": ""},
            "name_regex_delete, name_regex are missing, at least one parameter must be provided",
        ),
        ({"name_regex_delete": ".*", "keep_n": "x"}, "keep_n is invalid"),
        ({"name_regex_delete": ".*", "keep_n": "-1"}, "keep_n does not have a valid value"),
        ({"name_regex_delete": "("}, "name_regex_delete is invalid: '(' is no regular expression of RE2"),
        ({"name_regex": "(?=x)"}, "name_regex_delete is invalid"),
        ({"name_regex_delete": "((a{1000}){1000}){1000}"}, "name_regex_delete is invalid"),
        ({"name_regex_delete": "a" * 256}, "name_regex_delete is invalid: a pattern has at most 255 characters"),
        (
            {"name_regex_delete": "[", "name_regex_keep": "*", "older_than": "soon"},
            "name_regex_delete is invalid: '[' is no regular expression of RE2: missing ]: [, name_regex_keep",
        ),
        ({"name_regex_delete": ".*", "older_than": "soon"}, "older_than is invalid: 'soon' is not an age"),
    ],
)
async def test_wrong_rules_delete_nothing(rest: Rest, wanted: dict[str, str], error: str) -> None:
    for dry_run in ("", "true"):
        answer = await rest.call("DELETE", await tags_path(rest), dry_run=dry_run, **wanted)
        assert answer.status == 400
        assert json.loads(answer.body)["error"].startswith(error)
    await run(rest)
    assert await names(rest) == set(AGES)


async def test_a_form_is_decoded_as_forms_are(rest: Rest) -> None:
    path, typed = await tags_path(rest), [("Content-Type", "application/x-www-form-urlencoded")]
    answer = await rest.call("DELETE", path, body=b"name_regex_delete=v%5B0-9%5D%2B&keep_n=3", headers=typed)
    assert answer.status == 202, answer.body
    await run(rest)
    assert await names(rest) == set(AGES) - {"v1"}


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404), (None, 401)])
async def test_bulk_deletions_are_for_maintainers(rest: Rest, who: str | None, status: int) -> None:
    for dry_run in ("", "true"):
        answer = await rest.call("DELETE", await tags_path(rest), who=who, name_regex_delete=".*", dry_run=dry_run)
        assert answer.status == status
    await run(rest)
    assert await names(rest) == set(AGES)


async def test_each_deletion_is_noted_for_whoever_requested_it(rest: Rest) -> None:
    path = await tags_path(rest)
    await rest.call("DELETE", path, name_regex_delete="v[12]", headers=[("X-Request-Id", "bulk")])
    with capture_logs() as lines:
        await run(rest)
    events = rest.noted(EventKind.DELETE)
    assert {event.tag for event in events} == {"v1", "v2"}
    assert {(event.surface, event.user, event.request_id, event.client) for event in events} == {
        (Surface.REST, "maintainer", "bulk", "127.0.0.1")
    }
    deleted = [line for line in lines if line["event"] == "deleted"]
    assert {(line["tag"], line["status"], line["request_id"]) for line in deleted} == {
        ("v1", 202, "bulk"),
        ("v2", 202, "bulk"),
    }
    [ended] = [line for line in lines if line["event"] == "bulk_deletion_completed"]
    assert (ended["repository"], ended["deleted"], ended["problem"]) == (NAME, 2, None)
    history = await rest.get(f"{path}/v1/history")
    assert (history[0]["event"], history[0]["by"]) == ("delete", "maintainer")


async def test_a_pin_refuses_it_at_once_and_stops_one_that_goes_on(rest: Rest) -> None:
    path = await tags_path(rest)
    await rest.call("DELETE", path, name_regex_delete="v.*")
    async with rest.database() as database, database.write() as connection:
        project = await projects.get(connection, "team/app")
        now = rest.services.clock()
        await pins.pin(connection, project.key, project.path, now, now)
    with capture_logs() as lines:
        await run(rest)
    [ended] = [line for line in lines if line["event"] == "bulk_deletion_completed"]
    assert "is pinned" in ended["problem"] and ended["deleted"] == 0
    assert (await rest.call("DELETE", path, name_regex_delete="v.*")).status == 403


async def test_a_repository_that_moves_meanwhile_keeps_its_tags(rest: Rest) -> None:
    path = await tags_path(rest)
    await rest.call("DELETE", path, name_regex_delete="v.*")
    bulk, moved = rest.services.native.bulk, asyncio.Event()
    judged = wired.BulkDeleter._delete  # what deletes one batch

    async def move_before(self: Any, *given: Any) -> None:
        if not moved.is_set():
            moved.set()
            answer = await rest.send_json("PUT", path.removesuffix("/tags"), {"path": "team/lib/web"})
            assert answer.status == 200
        await judged(self, *given)

    wired.BulkDeleter._delete = move_before  # type: ignore[method-assign]
    try:
        while await bulk.step(lambda run, deleted: None):
            pass
    finally:
        wired.BulkDeleter._delete = judged  # type: ignore[method-assign]
    id = await rest.id_of("team/lib/web")
    assert len(await rest.get(f"/projects/team%2Flib{REPOSITORIES}/{id}/tags")) == len(AGES)


async def test_the_server_does_it_in_the_background_and_another_goes_on(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await tags_path(rest)
    monkeypatch.setattr(wired, "LOOK_SECONDS", 0.05)
    ended = asyncio.Event()
    monkeypatch.setattr(wired, "note_bulk", lambda audit, run, deleted: ended.set())
    async with deleting_in_bulk(rest.services), asyncio.timeout(30):
        await rest.call("DELETE", path, name_regex_delete="v1")
        await ended.wait()
    assert "v1" not in await names(rest)
