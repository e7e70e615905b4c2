"""Protection rules by the REST API, and what they do to the next request."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.api.rest import Rest, open_rest
from tests.gateway.asgi import Exchange

BASE = "/projects/team%2Fapp/registry/protection"
REPOSITORY, FORMER, TAG = f"{BASE}/repository/rules", f"{BASE}/rules", f"{BASE}/tag/rules"
PUSH, DELETE = "minimum_access_level_for_push", "minimum_access_level_for_delete"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rules") / "data") as rest:
        yield rest


def told(answer: Exchange) -> Any:
    """The document of a response."""
    return json.loads(answer.body)


async def made(rest: Rest, path: str, document: dict[str, Any], who: str = "maintainer") -> dict[str, Any]:
    answer = await rest.send_json("POST", path, document, who=who)
    assert answer.status == 201, answer.body
    return told(answer)


async def test_a_rule_for_repositories_is_made_changed_and_deleted_and_counts_at_once(rest: Rest) -> None:
    begin = "team/app/web/blobs/uploads/"
    assert (await rest.surface.call("POST", begin)).status == 202
    rule = await made(rest, REPOSITORY, {"repository_path_pattern": "team/app/w*", PUSH: "owner"})
    project = (await rest.get("/projects/team%2Fapp"))["id"]
    expected = {"project_id": project, "repository_path_pattern": "team/app/w*", PUSH: "owner", DELETE: None}
    assert rule == {"id": rule["id"], **expected}
    assert await rest.get(REPOSITORY) == await rest.get(FORMER) == [rule]
    assert await rest.get(TAG) == []
    assert (await rest.surface.call("POST", begin)).status == 403
    one = f"{REPOSITORY}/{rule['id']}"
    changed = await rest.send_json("PATCH", one, {PUSH: "maintainer", DELETE: "admin"})
    assert (changed.status, told(changed)) == (200, rule | {PUSH: "maintainer", DELETE: "admin"})
    assert (await rest.surface.call("POST", begin)).status == 202
    unset = await rest.send_json("PATCH", one, {PUSH: "", "repository_path_pattern": "team/app*"})
    assert told(unset) == told(changed) | {PUSH: None, "repository_path_pattern": "team/app*"}
    assert (await rest.send_json("PATCH", one, {DELETE: ""})).status == 400
    assert (await rest.call("DELETE", one)).status == 204
    assert (await rest.call("DELETE", one)).status == 404
    assert await rest.get(REPOSITORY) == []


async def test_immutable_tags_are_made_and_ended_by_owners_alone(rest: Rest) -> None:
    refused = await rest.send_json("POST", TAG, {"tag_name_pattern": "v.*"})
    assert (refused.status, told(refused)["message"]) == (
        403,
        "403 Forbidden - owners make and delete rules for immutable tags",
    )
    rule = await made(rest, TAG, {"tag_name_pattern": "v.*", PUSH: "", DELETE: None}, who="root")
    assert (rule["immutable"], rule[PUSH], rule[DELETE]) == (True, None, None)
    one = f"{TAG}/{rule['id']}"
    assert (await rest.send_json("PATCH", one, {PUSH: "owner"}, who="root")).status == 403
    assert (await rest.call("DELETE", f"{REPOSITORY}/{rule['id']}", who="root")).status == 404
    assert (await rest.call("DELETE", one)).status == 403
    assert (await rest.call("DELETE", one, who="root")).status == 204


async def test_a_rule_for_tags_has_both_levels(rest: Rest) -> None:
    rule = await made(rest, TAG, {"tag_name_pattern": "main|latest", PUSH: "maintainer", DELETE: "owner"})
    assert (rule["tag_name_pattern"], rule["immutable"]) == ("main|latest", False)
    taken = await rest.send_json("POST", TAG, {"tag_name_pattern": "main|latest", PUSH: "owner", DELETE: "owner"})
    assert (taken.status, "has a tag rule with this pattern already" in told(taken)["message"]) == (422, True)
    for who, status in (("developer", 403), ("stranger", 404), (None, 401)):
        assert (await rest.call("GET", TAG, who=who)).status == status
    await rest.call("DELETE", f"{TAG}/{rule['id']}")


@pytest.mark.parametrize(
    ("path", "document", "says"),
    [
        (REPOSITORY, {PUSH: "owner"}, "repository_path_pattern is missing"),
        (REPOSITORY, {"repository_path_pattern": "team/app"}, "at least one parameter must be provided"),
        (REPOSITORY, {"repository_path_pattern": "x", PUSH: "owner"}, "matches nothing in project 'team/app'"),
        (REPOSITORY, {"repository_path_pattern": "team/app", PUSH: "developer"}, "does not have a valid value"),
        (TAG, {PUSH: "owner", DELETE: "owner"}, "tag_name_pattern is missing"),
        (TAG, {"tag_name_pattern": "v(", PUSH: "owner", DELETE: "owner"}, "is no regular expression of RE2"),
        (TAG, {"tag_name_pattern": "v", PUSH: "owner"}, "who may push them and who may delete them"),
        (TAG, {"tag_name_pattern": "v" * 101, PUSH: "owner", DELETE: "owner"}, "at most 100 characters"),
    ],
)
async def test_a_rule_that_cannot_be_is_refused(rest: Rest, path: str, document: dict[str, Any], says: str) -> None:
    refused = await rest.send_json("POST", path, document)
    assert refused.status == 400
    assert says in str(told(refused))
    assert await rest.get(path) == []
