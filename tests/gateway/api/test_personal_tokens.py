"""Personal access tokens: whose are shown to whom, how they are made and rotated, and how one ends all."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.db import credentials
from gateway.namespaces.credentials import hash_secret
from tests.gateway.api.rest import Rest, open_rest

TOKENS = "/personal_access_tokens"
FIELDS = {
    *("id", "name", "description", "revoked", "created_at", "scopes", "user_id", "last_used_at", "active"),
    "expires_at",
}


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


def by(secret: str) -> dict[str, Any]:
    """The options of a request with a token."""
    return {"who": None, "headers": [("PRIVATE-TOKEN", secret)]}


async def make(rest: Rest, who: str = "developer", **changed: Any) -> Any:
    path = f"/users/{rest.surface.people[who].id}{TOKENS}"
    answer = await rest.send_json("POST", path, {"name": "ci", "scopes": ["api"], **changed}, who="root")
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


async def rotate(rest: Rest, which: object = "self", document: object = None, **options: Any) -> tuple[int, Any]:
    answer = await rest.send_json("POST", f"{TOKENS}/{which}/rotate", document or {}, **options)
    return answer.status, json.loads(answer.body)


async def status(rest: Rest, secret: str) -> int:
    return (await rest.call("GET", "/user", **by(secret))).status


async def test_an_administrator_makes_a_token_of_a_user(rest: Rest) -> None:
    today = datetime.now(UTC).date()
    made = await make(rest, description="of the build", scopes=["read_registry", "api"])
    assert set(made) == FIELDS | {"token"}
    assert (made["name"], made["description"], made["scopes"]) == ("ci", "of the build", ["api", "read_registry"])
    assert made["user_id"] == rest.surface.people["developer"].id
    assert made["active"] is True and made["revoked"] is False and made["last_used_at"] is None
    assert made["expires_at"] == str(today + timedelta(days=365))
    assert (await rest.get("/user", **by(made["token"])))["username"] == "developer"
    ending = await make(rest, expires_at=str(today + timedelta(days=9)), scopes="api,read_api")
    assert (ending["expires_at"], ending["scopes"]) == (str(today + timedelta(days=9)), ["api", "read_api"])


async def test_a_secret_is_in_the_answer_that_makes_it_alone(rest: Rest) -> None:
    made = await make(rest)
    _, rotated = await rotate(rest, **by(made["token"]))
    for secret in (made["token"], rotated["token"]):
        for path in (TOKENS, f"{TOKENS}/self", f"{TOKENS}/{made['id']}", f"{TOKENS}/{rotated['id']}"):
            answer = await rest.call("GET", path, **by(rotated["token"]))
            assert answer.status == 200 and secret.encode() not in answer.body
        assert secret.encode() not in (await rest.call("GET", TOKENS, who="root")).body


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({"scopes": ["api"]}, 400, "name is missing"),
        ({"name": "ci"}, 400, "scopes is missing"),
        ({"name": "ci", "scopes": ["read_user"]}, 400, "scopes does not have a valid value"),
        ({"name": "ci", "scopes": 7}, 400, "scopes does not have a valid value"),
        ({"name": "ci", "scopes": [{}]}, 400, "scopes does not have a valid value"),
        ({"name": "ci", "scopes": []}, 400, "needs a scope"),
        ({"name": " ", "scopes": ["api"]}, 400, "is not a name for a token"),
        ({"name": "ci", "scopes": ["api"], "expires_at": "tomorrow"}, 400, "expires_at is invalid"),
        ({"name": "ci", "scopes": ["api"], "expires_at": "0001-01-01T00:00+14:00"}, 400, "expires_at is invalid"),
        ({"name": "ci", "scopes": ["api"], "expires_at": 20300101}, 400, "expires_at is invalid"),
        ({"name": "ci", "scopes": ["api"], "expires_at": "2020-01-01"}, 400, "not in the future"),
        ({"name": "ci", "scopes": ["api"], "expires_at": "9999-01-01"}, 400, "the latest expiry is"),
        ({"name": "ci", "scopes": ["api"], "description": "x" * 256}, 400, "use up to 255"),
    ],
)
async def test_a_token_that_cannot_be_is_not_made(rest: Rest, wanted: dict[str, Any], status: int, words: str) -> None:
    before = await rest.get(TOKENS, who="root")
    answer = await rest.send_json("POST", f"/users/{rest.surface.people['developer'].id}{TOKENS}", wanted, who="root")
    assert answer.status == status
    document = json.loads(answer.body)
    assert words in str(document.get("error") or document["message"])
    assert await rest.get(TOKENS, who="root") == before


async def test_a_token_of_nobody_or_of_a_blocked_user_is_not_made(rest: Rest) -> None:
    document = {"name": "ci", "scopes": ["api"]}
    absent = await rest.send_json("POST", f"/users/999999{TOKENS}", document, who="root")
    assert (absent.status, json.loads(absent.body)) == (404, {"message": "404 User Not Found"})
    id = rest.surface.people["developer"].id
    await rest.call("POST", f"/users/{id}/block", who="root")
    assert (await rest.send_json("POST", f"/users/{id}{TOKENS}", document, who="root")).status == 400


async def test_people_see_their_own_tokens_and_administrators_all(rest: Rest) -> None:
    made = await make(rest)
    own = await rest.get(TOKENS, who="developer")
    developer = rest.surface.people["developer"].id
    assert {token["user_id"] for token in own} == {developer}
    assert [token["id"] for token in own][-1] == made["id"] and all(set(token) == FIELDS for token in own)
    assert await rest.get(TOKENS, who="developer", user_id=developer) == own
    everything = await rest.get(TOKENS, who="root", per_page=100)
    assert {token["user_id"] for token in everything} == {user.id for user in rest.surface.people.values()}
    assert await rest.get(TOKENS, who="root", user_id=developer) == own
    other = rest.surface.people["maintainer"].id
    for unknown in (other, 999_999):
        assert await rest.get(TOKENS, 401, who="developer", user_id=unknown) == {"message": "401 Unauthorized"}
    assert await rest.get(TOKENS, 404, who="root", user_id=999_999) == {"message": "404 User Not Found"}


async def test_whether_another_user_has_a_token_is_told_to_administrators_alone(rest: Rest) -> None:
    made = await make(rest)
    for id in (made["id"], 999_999, 10**17, "nonsense"):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = await rest.call(method, f"{TOKENS}/{id}{path}", who="maintainer")
            assert (answer.status, json.loads(answer.body)) == (401, {"message": "401 Unauthorized"})
    assert await status(rest, made["token"]) == 200
    for id in (999_999, "nonsense"):
        assert await rest.get(f"{TOKENS}/{id}", 404, who="root") == {"message": "404 Not Found"}
    assert (await rest.get(f"{TOKENS}/{made['id']}", who="root"))["name"] == "ci"
    assert (await rest.get(f"{TOKENS}/{made['id']}", who="developer"))["name"] == "ci"


@pytest.mark.parametrize("scope", ["api", "read_api", "read_registry", "write_registry"])
async def test_a_token_shows_and_ends_itself_whatever_its_scope(rest: Rest, scope: str) -> None:
    made = await make(rest, scopes=[scope])
    assert (await rest.get(f"{TOKENS}/self", **by(made["token"])))["id"] == made["id"]
    ended = await rest.call("DELETE", f"{TOKENS}/self", **by(made["token"]))
    assert (ended.status, ended.body) == (204, b"")
    assert await rest.get(f"{TOKENS}/self", 401, **by(made["token"]))
    shown = await rest.get(f"{TOKENS}/{made['id']}", who="developer")
    assert shown["revoked"] is True and shown["active"] is False


async def test_tokens_are_revoked_by_their_user_and_by_administrators(rest: Rest) -> None:
    for who in ("developer", "root"):
        made = await make(rest)
        assert await status(rest, made["token"]) == 200
        for _ in range(2):
            assert (await rest.call("DELETE", f"{TOKENS}/{made['id']}", who=who)).status == 204
        assert await status(rest, made["token"]) == 401


async def test_a_rotated_token_gives_way_to_one_like_it(rest: Rest) -> None:
    made = await make(rest, description="of the build", scopes=["api", "write_registry"])
    for which, options in (("self", by(made["token"])), (made["id"], {"who": "developer"})):
        made = made if which == "self" else await make(rest)
        which = which if which == "self" else made["id"]
        code, rotated = await rotate(rest, which, **options)
        assert code == 200 and set(rotated) == FIELDS | {"token"}
        for field in ("name", "description", "scopes", "user_id"):
            assert rotated[field] == made[field]
        assert rotated["expires_at"] == str(datetime.now(UTC).date() + timedelta(days=7))
        assert (await status(rest, made["token"]), await status(rest, rotated["token"])) == (401, 200)
    later = str(datetime.now(UTC).date() + timedelta(days=30))
    assert (await rotate(rest, rotated["id"], {"expires_at": later}, who="root"))[1]["expires_at"] == later


async def test_what_has_ended_is_not_rotated(rest: Rest) -> None:
    made = await make(rest)
    await rest.call("DELETE", f"{TOKENS}/{made['id']}", who="developer")
    code, refused = await rotate(rest, made["id"], who="developer")
    assert code == 400 and "was revoked" in refused["message"] and "make a new one" in refused["message"]
    code, refused = await rotate(rest, (await make(rest))["id"], {"expires_at": "2020-01-01"}, who="developer")
    assert code == 400 and "not in the future" in refused["message"]
    narrow = await make(rest, scopes=["read_api", "write_registry"])
    assert (await rotate(rest, **by(narrow["token"])))[0] == 403
    assert await status(rest, narrow["token"]) == 200


@pytest.mark.parametrize("at", ["self", "id"])
async def test_a_rotated_token_that_would_rotate_again_ends_its_family(rest: Rest, at: str) -> None:
    first, beside = await make(rest), await make(rest)
    _, second = await rotate(rest, **by(first["token"]))
    _, third = await rotate(rest, **by(second["token"]))
    which = "self" if at == "self" else third["id"]
    with capture_logs() as events:
        assert (await rotate(rest, which, **by(first["token"])))[0] == 401
    [event] = [event for event in events if event["event"] == "rotated_token_reused"]
    assert (event["token"], event["revoked"]) == (first["id"], third["id"])
    assert await status(rest, third["token"]) == 401
    assert await status(rest, beside["token"]) == 200
    assert (await rotate(rest, **by(second["token"])))[0] == 401


async def test_a_rotated_token_ends_nothing_elsewhere(rest: Rest) -> None:
    first = await make(rest)
    _, second = await rotate(rest, **by(first["token"]))
    assert await status(rest, first["token"]) == 401
    assert (await rest.call("DELETE", f"{TOKENS}/self", **by(first["token"]))).status == 401
    assert (await rest.call("GET", f"{TOKENS}/self/rotate", **by(first["token"]))).status == 401
    for secret in ("rgpat-of-nobody", f"{first['token']}x"):
        assert (await rotate(rest, **by(secret)))[0] == 401
    assert await status(rest, second["token"]) == 200


async def test_lists_are_filtered_and_sorted(rest: Rest) -> None:
    developer = rest.surface.people["developer"].id
    await rest.call("DELETE", f"{TOKENS}/{(await rest.get(TOKENS, who='developer'))[0]['id']}", who="developer")
    near = str(datetime.now(UTC).date() + timedelta(days=10))
    names = {"beta": near, "Alpha": None, "gamma": None}
    made = {name: await make(rest, name=name, expires_at=end) for name, end in names.items()}
    await rest.call("DELETE", f"{TOKENS}/{made['gamma']['id']}", who="root")
    async with rest.database() as database, database.write() as connection:
        found = await credentials.find_by_hash(connection, hash_secret(made["beta"]["token"]))
        assert found is not None
        await credentials.note_uses(connection, {found[0]: datetime.now(UTC)})

    async def listed(**query: Any) -> list[str]:
        return [token["name"] for token in await rest.get(TOKENS, who="root", user_id=developer, **query)]

    assert await listed(state="active") == ["beta", "Alpha"]
    assert await listed(state="inactive") == ["tests", "gamma"]
    assert await listed(revoked="true") == ["tests", "gamma"] and await listed(revoked="false") == ["beta", "Alpha"]
    assert await listed(search="LPH") == ["Alpha"]
    assert await listed(expires_before=str(datetime.now(UTC).date() + timedelta(days=11))) == ["beta"]
    assert await listed(expires_after=near, state="active") == ["beta", "Alpha"]
    assert await listed(last_used_after="2020-01-01T00:00:00Z") == ["beta"]
    assert await listed(last_used_before="2020-01-01") == []
    assert await listed(created_before="2020-01-01") == []
    assert await listed(created_after="2020-01-01", state="active") == ["beta", "Alpha"]
    assert await listed(sort="name_desc", state="active") == ["beta", "Alpha"]
    assert await listed(sort="name_asc", state="active") == ["Alpha", "beta"]
    assert await listed(sort="created_desc") == ["gamma", "Alpha", "beta", "tests"]
    assert (await listed(sort="expires_asc", state="active")) == ["beta", "Alpha"]
    assert (await listed(sort="last_used_desc"))[0] == "beta" and (await listed(sort="last_used_asc"))[0] == "beta"
    assert await rest.get(TOKENS, 400, sort="scopes_asc") == {"error": "sort does not have a valid value"}
    page = await rest.call("GET", TOKENS, who="root", user_id=developer, per_page=3, page=2)
    assert [token["name"] for token in json.loads(page.body)] == ["gamma"]
    assert (page.headers["x-total"], page.headers["x-total-pages"]) == ("4", "2")
