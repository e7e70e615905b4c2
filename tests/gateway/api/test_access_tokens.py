"""Access tokens of projects and groups: their bots, who looks after them, and what they open."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.audit.event import EventKind, Subject
from gateway.db import bots, members, users
from gateway.namespaces.member import Member
from gateway.namespaces.role import Role
from tests.gateway.api.rest import Rest, open_rest

APP, TEAM = "/projects/team%2Fapp", "/groups/team"
TOKENS = "/access_tokens"
FIELDS = {
    *("id", "name", "description", "revoked", "created_at", "scopes", "user_id", "last_used_at", "active"),
    *("expires_at", "access_level"),
}


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


def by(secret: str) -> dict[str, Any]:
    """The options of a request with a token."""
    return {"who": None, "headers": [("PRIVATE-TOKEN", secret)]}


async def make(rest: Rest, place: str = APP, who: str = "root", **changed: Any) -> Any:
    answer = await rest.send_json("POST", place + TOKENS, {"name": "ci", "scopes": ["api"], **changed}, who=who)
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


async def rotate(rest: Rest, which: object, document: object = None, place: str = APP, **who: Any) -> tuple[int, Any]:
    answer = await rest.send_json("POST", f"{place}{TOKENS}/{which}/rotate", document or {}, **who)
    return answer.status, json.loads(answer.body)


async def member_names(rest: Rest, place: str = APP) -> list[str]:
    return [member["username"] for member in await rest.get(f"{place}/members", who="root")]


async def own_team(rest: Rest, who: str) -> None:
    """Make a person an owner of the group."""
    place = await rest.services.directory.find_group_place("team")
    assert place is not None
    async with rest.database() as database, database.write() as connection:
        owner = Member(place.way[-1], rest.surface.people[who].id, Role.OWNER, None, rest.services.clock())
        await members.add(connection, owner)


@pytest.mark.parametrize(("place", "kind"), [(APP, "project"), (TEAM, "group")])
async def test_a_token_acts_for_a_bot_with_its_role(rest: Rest, place: str, kind: str) -> None:
    made = await make(rest, place, access_level=30, description="of the build")
    assert set(made) == FIELDS | {"token"} and made["token"].startswith("rgpat-")
    assert (made["access_level"], made["active"], made["description"]) == (30, True, "of the build")
    assert made["expires_at"] == str(datetime.now(UTC).date() + timedelta(days=365))
    shown = {name: value for name, value in made.items() if name not in ("token", "last_used_at")}
    one = await rest.get(f"{place}{TOKENS}/{made['id']}", who="root")
    assert {**one, "last_used_at": None} == {**shown, "last_used_at": None}
    assert [token["id"] for token in await rest.get(place + TOKENS, who="root")] == [made["id"]]
    bot = await rest.get("/user", **by(made["token"]))
    id = (await rest.get(place, who="root"))["id"]
    assert bot["id"] == made["user_id"] and bot["username"].startswith(f"{kind}_{id}_bot_")
    [member] = [member for member in await rest.get(f"{place}/members", who="root") if member["id"] == bot["id"]]
    assert (member["access_level"], member["expires_at"]) == (30, made["expires_at"])
    assert (await rest.get(APP, **by(made["token"])))["path_with_namespace"] == "team/app"


async def test_a_role_that_is_not_given_is_that_of_a_maintainer(rest: Rest) -> None:
    assert (await make(rest))["access_level"] == 40


async def test_bots_are_in_no_list_of_users(rest: Rest) -> None:
    bot = (await rest.get("/user", **by((await make(rest))["token"])))["username"]
    for who in ("root", "developer"):
        for query in ({}, {"search": "bot"}, {"username": bot}):
            assert bot not in {user["username"] for user in await rest.get("/users", who=who, per_page=100, **query)}
    for query in ({"search": "bot"}, {"username": bot}):
        assert await rest.get("/users", who="root", **query) == []


@pytest.mark.parametrize(
    ("place", "who", "reads", "changes"),
    [
        (APP, "maintainer", 200, 201),
        (APP, "developer", 403, 403),
        (APP, "stranger", 404, 404),
        (APP, None, 401, 401),
        (TEAM, "newcomer", 200, 201),
        (TEAM, "maintainer", 403, 403),
        (TEAM, "developer", 403, 403),
        (TEAM, "stranger", 404, 404),
        (TEAM, None, 401, 401),
    ],
)
async def test_tokens_are_for_those_who_look_after_a_place(
    rest: Rest, place: str, who: str | None, reads: int, changes: int
) -> None:
    made = await make(rest, place, access_level=20)
    if who == "newcomer":
        await own_team(rest, who)
    for target in (place + TOKENS, f"{place}{TOKENS}/{made['id']}"):
        assert (await rest.call("GET", target, who=who)).status == reads
    new = {"name": "mine", "scopes": ["read_api"], "access_level": 20}
    assert (await rest.send_json("POST", place + TOKENS, new, who=who)).status == changes
    one = f"{place}{TOKENS}/{made['id']}"
    rotated = await rest.call("POST", f"{one}/rotate", who=who)
    assert rotated.status == (200 if changes == 201 else changes)
    if changes == 201:
        one = f"{place}{TOKENS}/{json.loads(rotated.body)['id']}"
    assert (await rest.call("DELETE", one, who=who)).status == (204 if changes == 201 else changes)


async def test_nobody_is_given_a_role_above_the_own_one(rest: Rest) -> None:
    new = {"name": "owner", "scopes": ["api"], "access_level": 50}
    refused = await rest.send_json("POST", APP + TOKENS, new, who="maintainer")
    assert refused.status == 403 and b"above your own" in refused.body
    owners = await make(rest, access_level=50)
    for method, path in (("POST", "/rotate"), ("DELETE", "")):
        answer = await rest.call(method, f"{APP}{TOKENS}/{owners['id']}{path}", who="maintainer")
        assert answer.status == 403 and b"above your own" in answer.body
    assert (await rest.call("GET", "/user", **by(owners["token"]))).status == 200
    assert (await make(rest, who="maintainer", access_level=40))["access_level"] == 40


@pytest.mark.parametrize("level", [0, 5, 15, 60, "owner", None])
async def test_a_level_that_is_no_role_is_refused(rest: Rest, level: object) -> None:
    new = {"name": "ci", "scopes": ["api"], "access_level": level}
    assert (await rest.send_json("POST", APP + TOKENS, new, who="root")).status == 400
    assert await rest.get(APP + TOKENS, who="root") == []


@pytest.mark.parametrize(
    "changed", [{"scopes": []}, {"name": ""}, {"expires_at": "2020-01-01"}, {"expires_at": "9999-01-01"}]
)
async def test_a_token_that_cannot_be_leaves_no_bot(rest: Rest, changed: dict[str, Any]) -> None:
    before = await member_names(rest)
    new = {"name": "ci", "scopes": ["api"], **changed}
    assert (await rest.send_json("POST", APP + TOKENS, new, who="root")).status == 400
    assert await member_names(rest) == before


async def test_a_token_reaches_its_project_alone(rest: Rest) -> None:
    made = await make(rest, access_level=40)
    for other in ("/projects/team%2Flib", "/projects/closed%2Fsecret"):
        assert (await rest.call("GET", other, **by(made["token"]))).status == 404
    elsewhere = await rest.send_json(
        "POST", "/projects/team%2Flib/members", {"user_id": made["user_id"], "access_level": 30}, who="root"
    )
    assert elsewhere.status == 400 and b"a member there alone" in elsewhere.body
    for path in (f"/projects/team%2Flib{TOKENS}", TEAM + TOKENS):
        assert await rest.get(path, who="root") == []
        assert await rest.get(f"{path}/{made['id']}", 404, who="root") == {"message": "404 Access Token Not Found"}
    own = {"name": "mine"}
    assert (await rest.send_json("POST", "/projects", own, **by(made["token"]))).status == 400
    listed = await rest.get("/namespaces", **by(made["token"]))
    assert {namespace["kind"] for namespace in listed} <= {"group"}  # it has none of its own


async def test_a_bot_is_no_person(rest: Rest) -> None:
    made = await make(rest, access_level=50)
    new = {"name": "more", "scopes": ["api"], "access_level": 10}
    assert (await rest.send_json("POST", APP + TOKENS, new, **by(made["token"]))).status == 403
    user = f"/users/{made['user_id']}"
    for method, path, document in (
        ("POST", f"{user}/personal_access_tokens", {"name": "more", "scopes": ["api"]}),
        ("PUT", user, {"admin": True}),
        ("PUT", user, {"password": "a password of some length"}),
    ):
        answer = await rest.send_json(method, path, document, who="root")
        assert answer.status == 400 and b"bot of an access token" in answer.body
    assert (await rest.get("/user", **by(made["token"])))["external"] is True


async def test_a_revoked_token_takes_its_bot_out_of_the_members(rest: Rest) -> None:
    before = await member_names(rest)
    made = await make(rest)
    assert len(await member_names(rest)) == len(before) + 1
    for _ in range(2):
        assert (await rest.call("DELETE", f"{APP}{TOKENS}/{made['id']}", who="maintainer")).status == 204
    assert await member_names(rest) == before
    assert (await rest.call("GET", "/user", **by(made["token"]))).status == 401
    [ended] = await rest.get(APP + TOKENS, state="inactive")
    assert (ended["id"], ended["revoked"], ended["access_level"]) == (made["id"], True, None)
    assert await rest.get(APP + TOKENS, state="active") == []
    code, refused = await rotate(rest, made["id"])
    assert code == 400 and "was revoked" in refused["message"]


@pytest.mark.parametrize("path", ["/personal_access_tokens/self", "/personal_access_tokens/{id}"])
async def test_a_bot_leaves_by_whichever_way_its_token_ends(rest: Rest, path: str) -> None:
    before, made = await member_names(rest), await make(rest)
    who: dict[str, Any] = by(made["token"]) if path.endswith("self") else {"who": "root"}
    assert (await rest.call("DELETE", path.format(id=made["id"]), **who)).status == 204
    assert await member_names(rest) == before


@pytest.mark.parametrize("which", ["self", "id"])
async def test_a_rotated_token_gives_way_to_one_of_the_same_bot(rest: Rest, which: str) -> None:
    made = await make(rest, access_level=20)
    day = str(datetime.now(UTC).date() + timedelta(days=30))
    if which == "self":
        code, rotated = await rotate(rest, "self", {"expires_at": day}, **by(made["token"]))
    else:
        code, rotated = await rotate(rest, made["id"], {"expires_at": day})
    assert code == 200 and set(rotated) == FIELDS | {"token"}
    assert (rotated["user_id"], rotated["access_level"], rotated["expires_at"]) == (made["user_id"], 20, day)
    statuses = [(await rest.call("GET", "/user", **by(one["token"]))).status for one in (made, rotated)]
    assert statuses == [401, 200]
    [member] = [one for one in await rest.get(f"{APP}/members") if one["id"] == made["user_id"]]
    assert member["expires_at"] == day
    code, refused = await rotate(rest, rotated["id"], {"expires_at": "2020-01-01"})
    assert code == 400 and "not in the future" in refused["message"]["expires_at"][0]


async def test_only_an_access_token_of_the_place_rotates_itself_there(rest: Rest) -> None:
    made = await make(rest, TEAM)
    assert (await rotate(rest, "self", who="maintainer"))[0] == 401
    assert (await rotate(rest, "self", **by(made["token"])))[0] == 401  # it is one of the group
    assert (await rotate(rest, "self", place=TEAM, **by(made["token"])))[0] == 200


async def test_a_rotated_token_that_would_rotate_again_ends_its_family_and_its_bot(rest: Rest) -> None:
    before, first = await member_names(rest), await make(rest)
    _, second = await rotate(rest, "self", **by(first["token"]))
    with capture_logs() as events:
        assert (await rotate(rest, "self", **by(first["token"])))[0] == 401
    [event] = [event for event in events if event["event"] == "rotated_token_reused"]
    assert (event["token"], event["revoked"]) == (first["id"], second["id"])
    assert (await rest.call("GET", "/user", **by(second["token"]))).status == 401
    assert await member_names(rest) == before


async def test_what_is_made_rotated_and_revoked_is_an_event(rest: Rest) -> None:
    made = await make(rest, who="maintainer")
    _, rotated = await rotate(rest, made["id"])
    await rest.call("DELETE", f"{APP}{TOKENS}/{rotated['id']}")
    granted, revoked = rest.noted(EventKind.GRANT), rest.noted(EventKind.REVOKE)
    assert [event.outcome for event in granted] == [f"access token {one['id']}: api" for one in (made, rotated)]
    assert [event.outcome for event in revoked] == [f"access token {one['id']}: api" for one in (made, rotated)]
    for event in (*granted, *revoked):
        assert (event.subject, event.path, event.user) == (Subject.TOKEN, "team/app", "maintainer")
        assert made["token"] not in str(event) and rotated["token"] not in str(event)


async def test_a_deleted_project_takes_its_bots_along(rest: Rest) -> None:
    made = await make(rest)
    assert (await rest.call("DELETE", APP, who="root")).status == 202
    assert (await rest.call("GET", "/user", **by(made["token"]))).status == 401
    async with rest.database() as database, database.read() as connection:
        assert await users.find_by_id(connection, made["user_id"]) is None
        assert await bots.find(connection, made["user_id"]) is None


async def test_a_bot_rotates_its_own_token_alone(rest: Rest) -> None:
    made, other = await make(rest, access_level=50), await make(rest, access_level=20)
    code, refused = await rotate(rest, other["id"], **by(made["token"]))
    assert code == 403 and "makes no other tokens" in refused["message"]
    assert (await rest.get("/user", **by(other["token"])))["id"] == other["user_id"]
    code, new = await rotate(rest, made["id"], **by(made["token"]))
    assert code == 200 and new["user_id"] == made["user_id"]
