"""Users: who sees whom, and what administrators do with them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.db import personal_tokens
from gateway.keys import root_password
from gateway.keys.sealing import KEYS_DIRECTORY
from tests.gateway.api.rest import URL, Rest, open_rest

PASSWORD = "a password of some length"
NEW = {"username": "bob", "name": "Bob", "email": "Bob@example.com", "password": PASSWORD}
PUBLIC = {"id", "username", "name", "state", "locked", "avatar_url", "web_url"}
PRIVATE = {"email", "external", "is_admin"}


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def make(rest: Rest, **changed: Any) -> Any:
    answer = await rest.send_json("POST", "/users", {**NEW, **changed}, who="root")
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


async def id_of(rest: Rest, name: str) -> int:
    [found] = await rest.get("/users", username=name)
    return int(found["id"])


async def test_a_list_shows_of_others_what_is_public(rest: Rest) -> None:
    shown = await rest.get("/users", who="developer", per_page=100)
    assert {user["username"] for user in shown} >= {"root", "maintainer", "stranger", "developer"}
    for user in shown:
        assert set(user) == PUBLIC or user["username"] == "developer"
    assert [user["id"] for user in shown] == sorted((user["id"] for user in shown), reverse=True)
    everything = await rest.get("/users", who="root")
    assert all(set(user) >= PUBLIC | PRIVATE for user in everything)
    assert await rest.get("/users", 401, who=None) == {"message": "401 Unauthorized"}


async def test_one_user_is_shown_as_the_list_shows_it(rest: Rest) -> None:
    id = await id_of(rest, "stranger")
    shown = await rest.get(f"/users/{id}", who="developer")
    assert set(shown) == PUBLIC
    assert (shown["username"], shown["state"], shown["web_url"]) == ("stranger", "active", f"{URL}/stranger")
    assert (await rest.get(f"/users/{id}", who="stranger"))["email"] is None
    assert (await rest.get(f"/users/{id}", who="root"))["is_admin"] is False
    for absent in (999_999, 10**15):
        assert await rest.get(f"/users/{absent}", 404) == {"message": "404 User Not Found"}
    assert await rest.get("/users/stranger", 400) == {"error": "id is invalid"}


async def test_users_are_found_by_name_and_for_administrators_by_address(rest: Rest) -> None:
    await make(rest)
    assert [user["username"] for user in await rest.get("/users", username="Bob")] == ["bob"]
    assert await rest.get("/users", username="bo") == []
    assert [user["username"] for user in await rest.get("/users", search="BO")] == ["bob"]
    assert await rest.get("/users", search="bob@example.com") == []
    assert [user["username"] for user in await rest.get("/users", who="root", search="bob@Example.com")] == ["bob"]


async def test_lists_are_filtered_by_what_their_reader_may_know(rest: Rest) -> None:
    await make(rest, external=True)
    blocked = await make(rest, username="gone", email="gone@example.com")
    await rest.call("POST", f"/users/{blocked['id']}/block", who="root")

    async def names(who: str, **query: Any) -> set[str]:
        return {user["username"] for user in await rest.get("/users", who=who, per_page=100, **query)}

    everybody = await names("root")
    for who in ("root", "developer"):
        assert await names(who, blocked="true") == {"gone"}
        assert await names(who, active="true") == everybody - {"gone"}
    assert await names("root", external="true") == {"bob"}
    assert await names("root", exclude_external="true") == everybody - {"bob"}
    assert await names("root", admins="true") == {"root"}
    for hidden in ("external", "exclude_external", "admins"):
        assert await names("developer", **{hidden: "true"}) == everybody


async def test_pages_of_users_follow_each_other(rest: Rest) -> None:
    for order in ("id", "username"):
        first = await rest.call("GET", "/users", order_by=order, sort="asc", per_page=2)
        assert first.headers["x-total"] == str(len(await rest.get("/users", per_page=100)))
        second = await rest.get("/users", order_by=order, sort="asc", per_page=2, page=2)
        keyset = await rest.call("GET", "/users", order_by=order, sort="asc", per_page=2, pagination="keyset")
        assert keyset.body == first.body and 'rel="next"' in keyset.headers["link"]
        last = json.loads(first.body)[-1]["id" if order == "id" else "username"]
        after = await rest.get("/users", order_by=order, sort="asc", per_page=2, pagination="keyset", cursor=last)
        assert after == second
    assert await rest.get("/users", 400, pagination="keyset", cursor="x") == {"error": "cursor is invalid"}


async def test_an_administrator_makes_a_user(rest: Rest) -> None:
    made = await make(rest, admin=True, external="true", skip_confirmation=True)
    assert (made["username"], made["email"], made["state"]) == ("bob", "bob@example.com", "active")
    assert made["is_admin"] is True and made["external"] is True
    assert PASSWORD not in json.dumps(made)
    user = await rest.services.users.get(made["id"])
    assert user.password_hash is not None and user.password_hash.startswith("$argon2id$")
    assert await rest.get(f"/users/{made['id']}", who="root") == made


@pytest.mark.parametrize("way", ["reset_password", "force_random_password"])
async def test_a_user_without_a_password_has_none_that_anybody_knows(rest: Rest, way: str) -> None:
    made = await make(rest, password="ignored, as it is in GitLab", **{way: True})
    assert (await rest.services.users.get(made["id"])).password_hash is None


@pytest.mark.parametrize(
    ("changed", "status", "answer"),
    [
        ({"username": "maintainer"}, 409, {"message": "Username has already been taken"}),
        ({"username": "team"}, 409, {"message": "Username has already been taken"}),
        ({"email": "ADA@example.com"}, 409, {"message": "Email has already been taken"}),
        ({"username": None}, 400, {"error": "username is invalid"}),
        (
            {"password": None},
            400,
            {
                "error": "password, reset_password, force_random_password are missing, "
                "at least one parameter must be provided"
            },
        ),
        ({"admin": "perhaps", "password": 7}, 400, {"error": "password is invalid, admin is invalid"}),
    ],
)
async def test_a_user_that_cannot_be_is_not_made(
    rest: Rest, changed: dict[str, Any], status: int, answer: dict[str, Any]
) -> None:
    await make(rest, username="ada", email="ada@example.com")
    before = await rest.get("/users", who="root")
    refused = await rest.send_json("POST", "/users", {**NEW, **changed}, who="root")
    assert (refused.status, json.loads(refused.body)) == (status, answer)
    assert await rest.get("/users", who="root") == before


@pytest.mark.parametrize(
    ("changed", "attribute", "words"),
    [
        ({"username": "Bob Smith"}, "username", "use a name such as"),
        ({"username": "api"}, "username", "api"),
        ({"email": "nobody"}, "email", "write it as NAME@HOST"),
        ({"password": "short"}, "password", "use at least 8"),
        ({"password": "rgpat-1234567890"}, "password", "use another"),
    ],
)
async def test_a_value_that_is_refused_is_named_with_its_reason(
    rest: Rest, changed: dict[str, Any], attribute: str, words: str
) -> None:
    refused = await rest.send_json("POST", "/users", {**NEW, **changed}, who="root")
    assert refused.status == 400
    [reason] = json.loads(refused.body)["message"][attribute]
    assert words in reason
    assert str(changed.get("password", PASSWORD)) not in refused.body.decode()


async def test_an_administrator_changes_a_user(rest: Rest) -> None:
    made = await make(rest)
    path = f"/users/{made['id']}"
    before = await rest.services.users.get(made["id"])
    wanted = {"username": "bob", "name": "Robert", "email": "rob@example.com", "password": "quite another one"}
    answer = await rest.send_json("PUT", path, {**wanted, "external": True}, who="root")
    assert answer.status == 200, answer.body
    assert json.loads(answer.body) == {**made, "email": "rob@example.com", "external": True}
    user = await rest.services.users.get(made["id"])
    assert user.password_hash not in (None, before.password_hash)
    unchanged = await rest.send_json("PUT", path, {"name": "Rob"}, who="root")
    assert unchanged.status == 200 and await rest.services.users.get(made["id"]) == user


async def test_what_cannot_be_changed_of_a_user_is_refused(rest: Rest) -> None:
    made = await make(rest)
    path, root = f"/users/{made['id']}", await id_of(rest, "root")

    async def refused(path: str, document: object) -> tuple[int, Any]:
        answer = await rest.send_json("PUT", path, document, who="root")
        return answer.status, json.loads(answer.body)

    status, document = await refused(path, {"username": "rob"})
    assert status == 400 and "cannot be changed" in document["message"]["username"][0]
    status, document = await refused(path, {})
    assert status == 400 and "at least one parameter must be provided" in document["error"]
    assert await refused("/users/999999", {"admin": True}) == (404, {"message": "404 User Not Found"})
    status, document = await refused(f"/users/{root}", {"admin": False})
    assert status == 409 and "the last active administrator" in document["message"]
    await make(rest, username="ada", email="ada@example.com")
    assert await refused(path, {"email": "ada@example.com"}) == (409, {"message": "Email has already been taken"})


async def test_a_blocked_user_is_refused_until_it_is_unblocked(rest: Rest) -> None:
    path = f"/users/{await id_of(rest, 'developer')}"
    for word, status, state in (("block", 401, "blocked"), ("unblock", 200, "active")):
        answer = await rest.call("POST", f"{path}/{word}", who="root")
        assert (answer.status, json.loads(answer.body)) == (201, True)
        assert (await rest.get(path))["state"] == state
        assert (await rest.call("GET", "/user", who="developer")).status == status
    assert (await rest.call("POST", "/users/999999/block", who="root")).status == 404


async def test_nobody_blocks_oneself(rest: Rest) -> None:
    answer = await rest.call("POST", f"/users/{await id_of(rest, 'root')}/block", who="root")
    assert answer.status == 403 and "another administrator" in json.loads(answer.body)["message"]
    assert (await rest.call("GET", "/user", who="root")).status == 200


async def test_a_user_is_deleted_with_the_tokens_but_not_with_projects(rest: Rest) -> None:
    id = await id_of(rest, "stranger")
    deleted = await rest.call("DELETE", f"/users/{id}", who="root")
    assert (deleted.status, deleted.body) == (204, b"")
    assert await rest.get(f"/users/{id}", 404) == {"message": "404 User Not Found"}
    assert (await rest.call("GET", "/user", who="stranger")).status == 401
    async with rest.database() as database, database.read() as connection:
        assert await personal_tokens.list_all(connection, id) == []
    made = await make(rest)
    await rest.services.native.create_project("bob/app", made["id"])
    kept = await rest.call("DELETE", f"/users/{made['id']}", who="root")
    assert kept.status == 409 and "bob/app" in json.loads(kept.body)["message"]
    last = await rest.call("DELETE", f"/users/{await id_of(rest, 'root')}", who="root")
    assert last.status == 409


async def test_the_first_password_lies_in_no_file_once_it_is_changed(rest: Rest) -> None:
    keys = rest.services.folder.data / KEYS_DIRECTORY
    root_password.write(keys, "the generated one")
    await rest.send_json("PUT", f"/users/{await id_of(rest, 'root')}", {"external": False}, who="root")
    assert root_password.find(keys) == "the generated one"
    await rest.send_json("PUT", f"/users/{await id_of(rest, 'root')}", {"password": PASSWORD}, who="root")
    assert root_password.find(keys) is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/users", NEW),
        ("PUT", "/users/1", {"admin": True}),
        ("DELETE", "/users/1", {}),
        ("POST", "/users/1/block", {}),
        ("POST", "/users/1/unblock", {}),
        ("POST", "/users/1/personal_access_tokens", {"name": "ci", "scopes": ["api"]}),
        ("GET", "/deploy_tokens", {}),
    ],
)
async def test_the_server_is_administered_by_administrators_alone(
    rest: Rest, method: str, path: str, body: dict[str, Any]
) -> None:
    before = await rest.get("/users", who="root")
    for who in ("maintainer", "stranger"):
        answer = await rest.send_json(method, path, body, who=who)
        assert answer.status == 403 and "no administrator" in json.loads(answer.body)["message"]
    assert (await rest.send_json(method, path, body, who=None)).status == 401
    reading = [("PRIVATE-TOKEN", await rest.token("root", "read_api"))]
    if method != "GET":
        answer = await rest.call(method, path, who=None, headers=reading)
        assert answer.status == 403 and json.loads(answer.body)["error"] == "insufficient_scope"
    job = [("JOB-TOKEN", await rest.job("root", "team/app"))]
    assert (await rest.call(method, path, who=None, headers=job)).status == 403
    assert await rest.get("/users", who="root") == before


async def test_no_password_shows_in_the_log(rest: Rest) -> None:
    with capture_logs() as events:
        made = await make(rest)
        await rest.send_json("PUT", f"/users/{made['id']}", {"password": "short"}, who="root")
        await rest.send_json("POST", "/users", {**NEW, "admin": "perhaps"}, who="root")
    assert len([event for event in events if event["event"] == "request"]) == 3
    assert PASSWORD not in str(events) and "short" not in str(events)
