"""Deploy tokens of projects and groups: who sees them, who makes and ends them, and what is told of them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.db import credentials, members
from gateway.namespaces.credential_rules import find_ending
from gateway.namespaces.credentials import hash_secret
from gateway.namespaces.member import Member
from gateway.namespaces.role import Role
from tests.gateway.api.rest import Rest, open_rest

APP, TEAM = "/projects/team%2Fapp/deploy_tokens", "/groups/team/deploy_tokens"
NEW = {"name": "pull", "scopes": ["read_registry"]}
FIELDS = {"id", "name", "username", "expires_at", "scopes", "revoked", "expired"}


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def make(rest: Rest, path: str, who: str = "root", **changed: Any) -> Any:
    answer = await rest.send_json("POST", path, {**NEW, **changed}, who=who)
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


async def own_team(rest: Rest, who: str) -> None:
    """Make a person an owner of the group."""
    place = await rest.services.directory.find_group_place("team")
    assert place is not None
    async with rest.database() as database, database.write() as connection:
        owner = Member(place.way[-1], rest.surface.people[who].id, Role.OWNER, None, rest.services.clock())
        await members.add(connection, owner)


async def is_valid(rest: Rest, secret: str) -> bool:
    async with rest.database() as database, database.read() as connection:
        found = await credentials.find_by_hash(connection, hash_secret(secret))
        return found is not None and find_ending(found[1], rest.services.clock()) is None


@pytest.mark.parametrize("path", [APP, TEAM])
async def test_a_token_is_made_shown_and_ended(rest: Rest, path: str) -> None:
    made = await make(rest, path)
    assert set(made) == FIELDS | {"token"}
    assert made["username"] == f"gitlab+deploy-token-{made['id']}" and made["token"].startswith("rgdt-")
    assert (made["expires_at"], made["revoked"], made["expired"]) == (None, False, False)
    shown = {name: value for name, value in made.items() if name != "token"}
    assert await rest.get(f"{path}/{made['id']}", who="root") == shown
    assert await rest.get(path, who="root") == [shown]
    assert await is_valid(rest, made["token"])
    for _ in range(2):
        ended = await rest.call("DELETE", f"{path}/{made['id']}", who="root")
        assert (ended.status, ended.body) == (204, b"")
    assert not await is_valid(rest, made["token"])
    assert await rest.get(path, who="root") == [{**shown, "revoked": True}]
    assert await rest.get(path, who="root", active="true") == []


async def test_the_properties_that_are_given_are_kept(rest: Rest) -> None:
    made = await make(rest, APP, username="puller", scopes=["write_registry", "read_registry"], expires_at="2031-02-03")
    assert (made["username"], made["scopes"]) == ("puller", ["read_registry", "write_registry"])
    assert made["expires_at"] == "2031-02-03T00:00:00.000Z"
    timed = await make(rest, APP, username="", expires_at="2031-02-03T04:00:00+02:00")
    assert timed["expires_at"] == "2031-02-03T02:00:00.000Z" and timed["username"].startswith("gitlab+")
    assert (await make(rest, APP, expires_at=""))["expires_at"] is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scopes": []}, "needs a scope"),
        ({"scopes": ["api"]}, "cannot have the scope api"),
        ({"scopes": ["read_repository"]}, "scopes does not have a valid value"),
        ({"name": ""}, "is not a name for a token"),
        ({"username": "a b"}, "is not a user name for a deploy token"),
        ({"expires_at": "2020-01-01"}, "not in the future"),
        ({"expires_at": "soon"}, "expires_at is invalid"),
    ],
)
async def test_a_token_that_cannot_be_is_not_made(rest: Rest, changed: dict[str, Any], words: str) -> None:
    for path in (APP, TEAM):
        answer = await rest.send_json("POST", path, {**NEW, **changed}, who="root")
        assert answer.status == 400
        assert words in answer.body.decode()
        assert await rest.get(path, who="root") == []


async def test_a_token_is_found_where_it_belongs_alone(rest: Rest) -> None:
    made = await make(rest, APP)
    for path in (TEAM, "/projects/team%2Flib/deploy_tokens"):
        assert await rest.get(path, who="root") == []
        for method in ("GET", "DELETE"):
            answer = await rest.call(method, f"{path}/{made['id']}", who="root")
            assert (answer.status, json.loads(answer.body)) == (404, {"message": "404 Deploy Token Not Found"})
    assert (await rest.call("DELETE", f"{APP}/nonsense", who="root")).status == 404
    assert await is_valid(rest, made["token"])


async def test_administrators_list_the_tokens_of_all(rest: Rest) -> None:
    made = [await make(rest, path, name=name) for path, name in ((APP, "one"), (TEAM, "two"), (APP, "three"))]
    await rest.call("DELETE", f"{APP}/{made[0]['id']}", who="root")

    async def names(**query: Any) -> list[str]:
        return [token["name"] for token in await rest.get("/deploy_tokens", who="root", **query)]

    assert await names() == ["one", "two", "three"]
    assert await names(active="true") == ["two", "three"] and await names(active="false") == ["one"]
    assert await names(search="T") == ["two", "three"]
    assert await names(per_page=2, page=2) == ["three"]


@pytest.mark.parametrize(
    ("path", "who", "reads", "changes"),
    [
        (APP, "maintainer", 200, 201),
        (APP, "developer", 403, 403),
        (APP, "reporter", 403, 403),
        (APP, "stranger", 404, 404),
        (APP, None, 401, 401),
        (TEAM, "newcomer", 200, 201),
        (TEAM, "maintainer", 200, 403),
        (TEAM, "developer", 403, 403),
        (TEAM, "stranger", 404, 404),
        (TEAM, None, 401, 401),
    ],
)
async def test_tokens_are_for_those_who_look_after_a_place(
    rest: Rest, path: str, who: str | None, reads: int, changes: int
) -> None:
    made = await make(rest, path)
    if who == "newcomer":
        await own_team(rest, who)
    for target in (path, f"{path}/{made['id']}"):
        assert (await rest.call("GET", target, who=who)).status == reads
    assert (await rest.send_json("POST", path, NEW, who=who)).status == changes
    deleted = await rest.call("DELETE", f"{path}/{made['id']}", who=who)
    assert deleted.status == (204 if changes == 201 else changes)
    assert await is_valid(rest, made["token"]) is (changes != 201)


async def test_tokens_are_seen_with_a_token_that_reads(rest: Rest) -> None:
    reading = {"who": None, "headers": [("PRIVATE-TOKEN", await rest.token("maintainer", "read_api"))]}
    for path in (APP, TEAM):
        assert await rest.get(path, **reading) == []
        assert (await rest.send_json("POST", path, NEW, **reading)).status == 403
    job = [("JOB-TOKEN", await rest.job("maintainer", "team/app"))]
    assert (await rest.call("GET", APP, who=None, headers=job)).status == 403


async def test_a_disabled_registry_hides_no_token(rest: Rest) -> None:
    await rest.send_json("PUT", "/projects/team%2Fapp", {"container_registry_access_level": "disabled"})
    made = await make(rest, APP, who="maintainer")
    assert (await rest.get(f"{APP}/{made['id']}"))["name"] == "pull"
