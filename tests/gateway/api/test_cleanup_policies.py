"""Cleanup policies by the REST API, as attributes of projects."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.api.rest import Rest, open_rest
from tests.gateway.asgi import Exchange

PROJECT, POLICY, ATTRIBUTES = (
    "/projects/team%2Fapp",
    "container_expiration_policy",
    "container_expiration_policy_attributes",
)
DEFAULTS = {"enabled": False, "cadence": "1d", "keep_n": 10, "older_than": "90d", "name_regex_keep": None}
NAMES = {"name_regex": ".*", "name_regex_delete": ".*"}
NOT_RUN = {"next_run_at": None, "completed_at": None, "deleted": 0, "problem": None}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("policies") / "data") as rest:
        yield rest


async def put(rest: Rest, attributes: object, **options: Any) -> Exchange:
    return await rest.send_json("PUT", PROJECT, {ATTRIBUTES: attributes}, **options)


async def test_a_policy_is_changed_part_by_part_and_shown_to_whoever_may(rest: Rest) -> None:
    assert (await rest.get(PROJECT))[POLICY] == DEFAULTS | NAMES | NOT_RUN
    changed = await put(rest, {"enabled": True, "cadence": "7d", "keep_n": 5, "name_regex_keep": "v.*"})
    policy = json.loads(changed.body)[POLICY]
    expected = DEFAULTS | NAMES | {"enabled": True, "cadence": "7d", "keep_n": 5, "name_regex_keep": "v.*"}
    assert {name: policy[name] for name in expected} == expected
    assert policy["next_run_at"].endswith("Z")
    changed = await put(rest, {"keep_n": None, "older_than": "14d", "name_regex": "dev-.*", "name_regex_keep": ""})
    policy = json.loads(changed.body)[POLICY]
    changes = {"keep_n": None, "older_than": "14d", "name_regex_keep": None, "name_regex_delete": "dev-.*"}
    assert {name: policy[name] for name in changes} == changes
    assert (await rest.get(PROJECT))[POLICY] == policy
    assert POLICY not in await rest.get(PROJECT, who="reporter")
    assert (await put(rest, {"enabled": False}, who="developer")).status == 403


@pytest.mark.parametrize(
    ("attributes", "parameter", "reason"),
    [
        ({"cadence": "2d"}, "cadence", "is not included in the list"),
        ({"keep_n": 3}, "keep_n", "is not included in the list"),
        ({"older_than": "1h"}, "older_than", "is not included in the list"),
        ({"enabled": True, "name_regex_delete": "v("}, "name_regex_delete", "'v(' is no regular expression of RE2"),
        ({"enabled": True, "name_regex_delete": ""}, "name_regex_delete", "an empty pattern matches no tag"),
        ({"name_regex_keep": "v" * 256}, "name_regex_keep", "a pattern has at most 255 characters, not 256"),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_and_changes_nothing(
    rest: Rest, attributes: dict[str, Any], parameter: str, reason: str
) -> None:
    before = await rest.get(PROJECT)
    body = {ATTRIBUTES: attributes, "visibility": "private", "path": "renamed"}
    for refused in (
        await rest.send_json("PUT", PROJECT, body),
        await rest.send_json("POST", "/projects", {ATTRIBUTES: attributes, "path": "new"}),
    ):
        assert refused.status == 400
        [(name, [said])] = json.loads(refused.body)["message"].items()
        assert (name, said.startswith(reason)) == (f"{POLICY}.{parameter}", True)
    assert await rest.get(PROJECT) == before
    await rest.get("/projects/maintainer%2Fnew", 404)


async def test_attributes_of_no_kind_are_refused(rest: Rest) -> None:
    for attributes in ("1d", ["1d"], {"keep_n": "many"}, {"cadence": 1}):
        assert (await put(rest, attributes)).status == 400


async def test_a_project_is_made_with_a_policy(rest: Rest) -> None:
    body = {"path": "cleaned", ATTRIBUTES: {"enabled": True, "cadence": "1month"}}
    made = await rest.send_json("POST", "/projects", body)
    assert made.status == 201, made.body
    policy = json.loads(made.body)[POLICY]
    assert (policy["enabled"], policy["cadence"], policy["keep_n"]) == (True, "1month", 10)
