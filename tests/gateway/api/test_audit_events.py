"""Each change of users, tokens, members, groups and projects leaves an event, and the log is read by whoever may."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.db import old_paths
from tests.gateway.api.rest import Rest, open_rest
from tests.parts.canaries import found_in

PROJECT, GROUP = "/projects/team%2Fapp", "/groups/team"
EVENTS = "/audit_events"
NAME = "team/app/web"
PASSWORD = "a password of some length"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def done(rest: Rest, method: str, place: str, /, who: str = "root", **document: Any) -> Any:
    answer = await rest.send_json(method, place, document, who=who)
    assert answer.status < 300, answer.body
    return json.loads(answer.body) if answer.body else None


def told(rest: Rest, kind: EventKind, subject: Subject) -> list[tuple[Any, ...]]:
    """What was noted of a kind: path, target, from and to."""
    events = [event for event in rest.noted(kind) if event.subject is subject]
    assert all(event.surface is Surface.REST and event.who and event.user for event in events)
    return [(event.path, event.target, *event.ends) for event in events]


async def test_changes_of_users_are_noted(rest: Rest) -> None:
    user = await done(rest, "POST", "/users", username="bob", password=PASSWORD)
    one = f"/users/{user['id']}"
    await done(rest, "PUT", one, admin=True)
    await done(rest, "PUT", one, email="bob@example.com")
    await done(rest, "POST", f"{one}/block")
    await done(rest, "DELETE", one)
    [(path, target, former, made)] = told(rest, EventKind.CREATE, Subject.USER)
    assert (path, target, former) == ("bob", None, None) and made.startswith("active, password of ")
    assert told(rest, EventKind.UPDATE, Subject.USER) == [
        ("bob", None, None, "administrator"),
        ("bob", None, None, None),
        ("bob", None, "active", "blocked"),
    ]
    [(path, _, former, _)] = told(rest, EventKind.DELETE, Subject.USER)
    assert path == "bob" and former.startswith("blocked, administrator")


async def test_changes_of_personal_tokens_are_noted_without_their_secrets(rest: Rest) -> None:
    developer = rest.surface.people["developer"]
    made = await done(
        rest, "POST", f"/users/{developer.id}/personal_access_tokens", name="ci", scopes=["read_api", "api"]
    )
    one = f"/personal_access_tokens/{made['id']}"
    rotated = await done(rest, "POST", f"{one}/rotate", who="developer")
    reused = await rest.call(
        "POST", "/personal_access_tokens/self/rotate", headers=[("PRIVATE-TOKEN", made["token"])], who=None
    )
    assert reused.status == 401
    last = await done(rest, "POST", f"/users/{developer.id}/personal_access_tokens", name="last", scopes=["api"])
    await done(rest, "DELETE", f"/personal_access_tokens/{last['id']}", who="developer")
    first, second = told(rest, EventKind.CREATE, Subject.PERSONAL_TOKEN)
    assert first[:2] == ("developer", f"{made['id']} (ci)") and first[3].startswith("api read_api, expires ")
    assert second[:2] == ("developer", f"{last['id']} (last)")
    [(path, target, _, latter)] = told(rest, EventKind.UPDATE, Subject.PERSONAL_TOKEN)
    assert (path, target) == ("developer", f"{made['id']} (ci)") and latter.startswith(f"{rotated['id']} (ci), ")
    deleted = [event for event in rest.noted(EventKind.DELETE) if event.subject is Subject.PERSONAL_TOKEN]
    assert [(event.target, event.user) for event in deleted] == [
        (f"{rotated['id']} (ci)", None),
        (f"{last['id']} (last)", "developer"),
    ]
    assert made["token"] not in repr(rest.noted(EventKind.CREATE)) and not found_in(repr(deleted).encode())


@pytest.mark.parametrize("place", [PROJECT, GROUP])
async def test_changes_of_deploy_tokens_are_noted(rest: Rest, place: str) -> None:
    path = place.rpartition("/")[2].replace("%2F", "/")
    made = await done(rest, "POST", f"{place}/deploy_tokens", name="cluster", scopes=["read_registry"])
    await done(rest, "DELETE", f"{place}/deploy_tokens/{made['id']}")
    target, facts = f"{made['id']} (cluster)", "read_registry, does not expire"
    assert told(rest, EventKind.CREATE, Subject.DEPLOY_TOKEN) == [(path, target, None, facts)]
    assert told(rest, EventKind.DELETE, Subject.DEPLOY_TOKEN) == [(path, target, facts, None)]


@pytest.mark.parametrize("place", [PROJECT, GROUP])
async def test_changes_of_members_are_noted(rest: Rest, place: str) -> None:
    path, stranger = place.rpartition("/")[2].replace("%2F", "/"), rest.surface.people["stranger"]
    await done(rest, "POST", f"{place}/members", user_id=stranger.id, access_level=20)
    await done(rest, "PUT", f"{place}/members/{stranger.id}", access_level=30)
    await done(rest, "DELETE", f"{place}/members/{stranger.id}", who="stranger")
    reporter, developer = "reporter, does not expire", "developer, does not expire"
    assert told(rest, EventKind.CREATE, Subject.MEMBER) == [(path, "stranger", None, reporter)]
    assert told(rest, EventKind.UPDATE, Subject.MEMBER) == [(path, "stranger", reporter, developer)]
    assert told(rest, EventKind.DELETE, Subject.MEMBER) == [(path, "stranger", developer, None)]


async def test_changes_of_the_tree_are_noted(rest: Rest) -> None:
    group = await done(rest, "POST", "/groups", path="fresh")
    project = await done(rest, "POST", "/projects", path="app", namespace_id=group["id"])
    await done(rest, "PUT", f"/groups/{group['id']}", visibility="public")
    await done(rest, "PUT", f"/projects/{project['id']}", container_registry_access_level="private")
    await done(rest, "PUT", f"/projects/{project['id']}", container_expiration_policy_attributes={"enabled": True})
    await done(rest, "DELETE", f"/projects/{project['id']}")
    await done(rest, "DELETE", f"/groups/{group['id']}")
    assert [event[0] for event in told(rest, EventKind.CREATE, Subject.GROUP)] == ["fresh"]
    assert [event[0] for event in told(rest, EventKind.CREATE, Subject.PROJECT)] == ["fresh/app"]
    assert told(rest, EventKind.UPDATE, Subject.GROUP) == [
        ("fresh", None, "visibility private", "visibility public"),
    ]
    assert told(rest, EventKind.UPDATE, Subject.PROJECT) == [
        ("fresh/app", None, "registry enabled", "registry private"),
    ]
    assert told(rest, EventKind.UPDATE, Subject.CLEANUP_POLICY) == [("fresh/app", None, None, None)]
    assert [event[0] for event in told(rest, EventKind.DELETE, Subject.PROJECT)] == ["fresh/app"]
    assert [event[0] for event in told(rest, EventKind.DELETE, Subject.GROUP)] == ["fresh"]


async def test_changes_of_protection_rules_are_noted(rest: Rest) -> None:
    rules = f"{PROJECT}/registry/protection/tag/rules"
    levels = {"minimum_access_level_for_push": "owner", "minimum_access_level_for_delete": "owner"}
    rule = await done(rest, "POST", rules, tag_name_pattern="v.*", **levels)
    await done(rest, "PATCH", f"{rules}/{rule['id']}", minimum_access_level_for_delete="admin")
    await done(rest, "DELETE", f"{rules}/{rule['id']}")
    target, first, second = str(rule["id"]), "tag v.*, push owner, delete owner", "tag v.*, push owner, delete admin"
    assert told(rest, EventKind.CREATE, Subject.PROTECTION_RULE) == [("team/app", target, None, first)]
    assert told(rest, EventKind.UPDATE, Subject.PROTECTION_RULE) == [("team/app", target, first, second)]
    assert told(rest, EventKind.DELETE, Subject.PROTECTION_RULE) == [("team/app", target, second, None)]


async def test_a_refused_change_leaves_no_event(rest: Rest) -> None:
    answer = await rest.send_json("POST", "/users", {"username": "no name", "password": PASSWORD}, who="root")
    assert answer.status == 400
    answer = await rest.send_json("POST", f"{PROJECT}/members", {"user_id": 1, "access_level": 30}, who="developer")
    assert answer.status == 403
    assert rest.noted(EventKind.CREATE) == []


# Reading


async def listed(rest: Rest, place: str, /, who: str = "root", **query: Any) -> Any:
    rest.services.audit.flush()
    target = f"{place}?{urlencode(query)}" if query else place
    return await rest.get(target, who=who)


async def change_some(rest: Rest) -> None:
    """Leave five events: two of a member by a maintainer, one of a group by root, two of a tag by a developer."""
    stranger = rest.surface.people["stranger"]
    await done(rest, "POST", f"{PROJECT}/members", who="maintainer", user_id=stranger.id, access_level=20)
    await done(rest, "DELETE", f"{PROJECT}/members/{stranger.id}", who="maintainer")
    await done(rest, "PUT", GROUP, visibility="internal")
    await rest.surface.push_image(NAME, "v1", "v2")
    id = await rest.id_of(NAME)
    for tag in ("v1", "v2"):
        await rest.call("DELETE", f"{PROJECT}/registry/repositories/{id}/tags/{tag}", who="developer")


async def test_an_event_is_shown_with_what_gitlab_shows(rest: Rest) -> None:
    await change_some(rest)
    [event] = await listed(rest, EVENTS, event="update")
    assert set(event) == {
        *("id", "author_id", "entity_id", "entity_type", "entity_path", "event_name", "details", "created_at"),
    }
    group = await rest.get(GROUP, who="root")
    assert (event["entity_type"], event["entity_id"], event["entity_path"]) == ("Group", group["id"], "team")
    assert event["author_id"] == rest.surface.people["root"].id and event["event_name"] == "group_update"
    details = event["details"]
    assert details["custom_message"] == "Changed group team"
    assert (details["from"], details["to"]) == ("visibility private", "visibility internal")
    assert details["author_name"].endswith("of user 'root'") and details["ip_address"]
    assert await rest.get(f"{EVENTS}/{event['id']}", who="root") == event
    [first, *_] = await listed(rest, EVENTS, event="delete", user="developer")
    assert (first["entity_type"], first["entity_path"], first["details"]["tag"]) == ("Project", "team/app", "v2")
    assert first["details"]["target_details"] == f"{NAME}:v2"


async def test_what_is_gone_and_who_is_no_user_are_shown_as_such(rest: Rest) -> None:
    rest.services.audit.note(
        AuditEvent(1.0, EventKind.FILL, Subject.BLOB, Surface.CACHE, "docker.io/library/alpine", digest="sha256:1")
    )
    pull = AuditEvent(2.0, EventKind.PULL, Subject.MANIFEST, Surface.REGISTRY, "gone/app", who="an anonymous client")
    rest.services.audit.note(pull)
    token = pull._replace(at=3.0, path=NAME, who="deploy token 3 (root)", user="root")
    rest.services.audit.note(token)
    fill, anonymous, deploy = await listed(rest, EVENTS, sort="asc")
    assert (fill["entity_type"], fill["entity_id"], fill["entity_path"]) == ("Upstream", None, "docker.io")
    assert (anonymous["entity_type"], anonymous["entity_id"], anonymous["author_id"]) == ("Project", None, -1)
    assert (deploy["entity_path"], deploy["author_id"]) == ("team/app", -2)


async def test_filters_must_all_hold(rest: Rest) -> None:
    await change_some(rest)

    async def names(**query: Any) -> list[str]:
        return [event["event_name"] for event in await listed(rest, EVENTS, **query)]

    assert await names() == ["tag_delete", "tag_delete", "group_update", "member_delete", "member_create"]
    assert await names(sort="asc", user="maintainer") == ["member_create", "member_delete"]
    assert await names(path="team/app", event="delete") == ["tag_delete", "tag_delete", "member_delete"]
    assert await names(path="team/app/web") == ["tag_delete", "tag_delete"]
    assert await names(path="no path!") == []
    project = await rest.get(PROJECT)
    assert len(await names(entity_type="Project", entity_id=project["id"])) == 4
    assert await names(entity_type="Group", entity_id=999_999) == []
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert await names(created_after=tomorrow) == []
    assert len(await names(created_before=tomorrow)) == 5


@pytest.mark.parametrize(
    "query",
    [
        {"event": "look"},
        {"created_after": "yesterday"},
        {"cursor": "x"},
        {"cursor": "1.0_x"},
        {"entity_type": "Project"},
        {"entity_id": "1"},
        {"entity_type": "Key", "entity_id": "1"},
        {"sort": "up"},
    ],
)
async def test_bad_parameters_are_refused(rest: Rest, query: dict[str, str]) -> None:
    assert "error" in await rest.get(EVENTS, 400, who="root", **query)


@pytest.mark.parametrize("pagination", ["keyset", "offset"])
async def test_pages_leave_nothing_out_and_link_to_the_next_one(rest: Rest, pagination: str) -> None:
    await change_some(rest)
    rest.services.audit.flush()
    everything = await rest.get(EVENTS, who="root")
    path, seen = f"{EVENTS}?per_page=2" + ("&pagination=keyset" if pagination == "keyset" else ""), []
    for _ in range(4):
        answer = await rest.call("GET", path, who="root")
        seen += json.loads(answer.body)
        link = answer.headers.get("link") or ""
        path = link.partition('>; rel="next"')[0].rpartition("<")[2].partition("/api/v4")[2] if "next" in link else ""
        if not path:
            break
    assert seen == everything and not path


async def test_whoever_looks_after_a_place_sees_all_and_others_what_they_did_themselves(rest: Rest) -> None:
    await change_some(rest)

    async def authors(path: str, who: str) -> list[str]:
        return [event["details"]["author_name"].rpartition(" ")[2] for event in await listed(rest, path, who)]

    of_project = [*["'developer'"] * 2, *["'maintainer'"] * 2]
    assert await authors(f"{PROJECT}{EVENTS}", "maintainer") == of_project
    assert await authors(f"{PROJECT}{EVENTS}", "developer") == ["'developer'"] * 2
    assert await authors(f"{GROUP}{EVENTS}", "root") == [*of_project[:2], "'root'", *of_project[2:]]
    assert await authors(f"{GROUP}{EVENTS}", "maintainer") == ["'maintainer'"] * 2
    for who in ("reporter", "stranger"):
        await rest.get(f"{PROJECT}{EVENTS}", 403 if who == "reporter" else 404, who=who)
        await rest.get(f"{GROUP}{EVENTS}", 403, who=who)
    assert await listed(rest, f"{PROJECT}{EVENTS}", "developer", user="maintainer") == []
    assert await listed(rest, f"{PROJECT}{EVENTS}", "maintainer", path="team/other") == []
    [of_group] = await listed(rest, f"{GROUP}{EVENTS}", "root", event="update")
    assert (await rest.get(f"{GROUP}{EVENTS}/{of_group['id']}", who="root"))["id"] == of_group["id"]
    await rest.get(f"{PROJECT}{EVENTS}/{of_group['id']}", 404)
    await rest.get(f"{GROUP}{EVENTS}/{of_group['id']}", 404, who="developer")
    await rest.get(f"{PROJECT}{EVENTS}/x", 404)


async def test_a_project_does_not_show_what_was_done_in_another_one_that_had_its_path(rest: Rest) -> None:
    await change_some(rest)
    await done(rest, "DELETE", PROJECT)
    rest.services.audit.flush()
    group = await rest.get(GROUP, who="root")
    await done(rest, "POST", "/projects", path="app", namespace_id=group["id"])
    shown = await listed(rest, f"{PROJECT}{EVENTS}", "maintainer")
    assert [event["event_name"] for event in shown] == ["project_create"]


async def test_the_log_is_for_administrators(rest: Rest) -> None:
    for path in (EVENTS, f"{EVENTS}/1"):
        await rest.get(path, 403, who="maintainer")
        await rest.get(path, 401, who=None)


@pytest.mark.parametrize("swept", [False, True])
async def test_what_was_done_at_a_path_before_a_node_moved_there_is_not_shown(rest: Rest, swept: bool) -> None:
    await done(rest, "POST", "/projects/team%2Flib/members", username="stranger", access_level=10)
    await done(rest, "DELETE", "/projects/team%2Flib")
    rest.services.audit.flush()
    await done(rest, "PUT", PROJECT, "maintainer", path="lib")
    if swept:  # the log alone knows of the move; else the database, for the log is written later
        async with rest.database() as database, database.write() as connection:
            await old_paths.sweep(connection, rest.services.clock() + timedelta(days=365))
        rest.services.audit.flush()
    shown = await rest.get(f"/projects/team%2Flib{EVENTS}", who="maintainer")
    assert [event["event_name"] for event in shown] == (["project_move"] if swept else [])
    assert len(await rest.get(f"{EVENTS}?path=team%2Flib", who="root")) > len(shown)
