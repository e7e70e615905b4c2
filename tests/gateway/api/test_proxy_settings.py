"""Settings of the dependency proxy of a group by the REST API, and the policy by which its images expire."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.audit.event import EventKind
from gateway.keys.upstream_login import open_login
from gateway.namespaces.group import Group, Login
from tests.gateway.api.rest import Rest, open_rest
from tests.gateway.asgi import Exchange
from tests.parts.canaries import CANARY

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEAM = "/groups/team/dependency_proxy"
POLICY = f"{TEAM}/image_ttl_policy"
SECRET = f"{CANARY}-upstream-secret"


@pytest_asyncio.fixture(loop_scope="module")
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def put(rest: Rest, path: str = TEAM, who: str | None = "root", **document: Any) -> Exchange:
    return await rest.send_json("PUT", path, document, who=who)


async def changed(rest: Rest, path: str = TEAM, **document: Any) -> Any:
    answer = await put(rest, path, **document)
    assert answer.status == 200, answer.body
    assert SECRET.encode() not in answer.body
    return json.loads(answer.body)


async def group_of(rest: Rest) -> Group:
    found = await rest.services.directory.find_group("team")
    assert found is not None
    return found


async def login_of(rest: Rest) -> Login | None:
    return open_login(await group_of(rest), rest.services.sealer)


async def test_settings_are_shown_as_a_new_group_has_them(rest: Rest) -> None:
    shown = await rest.get(TEAM, who="root")
    policy = shown.pop("image_ttl_policy")
    assert (policy["enabled"], policy["ttl"], policy["completed_at"]) == (False, 90, None)
    assert shown == {
        "enabled": True,
        "identity": None,
        "default_upstream": "docker.io",
        "anonymous_pull": False,
        "fresh_only": False,
        "gate": {
            "allow": [],
            "deny": [],
            "cooldown_seconds": 0,
            "cooldown_action": "older",
            "trusts_created": False,
            "pins": [],
        },
        "image_prefix": "127.0.0.1:8080/team/dependency_proxy/containers",
    }


async def test_a_login_is_sealed_changed_and_dropped_and_its_secret_never_shown(rest: Rest) -> None:
    assert (await changed(rest, identity="robot", secret=SECRET))["identity"] == "robot"
    assert await login_of(rest) == Login("robot", SECRET)
    await changed(rest, enabled=False)
    await changed(rest, identity="robot")
    await changed(rest, secret=f"{SECRET}2")
    assert await login_of(rest) == Login("robot", f"{SECRET}2")
    assert SECRET not in json.dumps(await rest.get(TEAM, who="root"))
    assert (await changed(rest, enabled=False, identity="", secret=""))["identity"] is None
    assert await login_of(rest) is None
    told = [(event.path, event.former, event.outcome) for event in rest.noted(EventKind.UPDATE)]
    assert told == [
        ("team", "upstream login none", "upstream login robot, another upstream secret"),
        ("team", "dependency proxy on", "dependency proxy off"),
        ("team", None, "another upstream secret"),
        ("team", "upstream login robot", "upstream login none"),
    ]


@pytest.mark.parametrize(
    "document", [{"identity": "robot"}, {"secret": SECRET}, {"identity": "", "secret": SECRET}], ids=str
)
async def test_half_a_login_is_refused(rest: Rest, document: dict[str, Any]) -> None:
    refused = await put(rest, **document)
    assert refused.status == 400 and list(json.loads(refused.body)["message"]) == ["secret"]
    assert SECRET.encode() not in refused.body and await login_of(rest) is None


async def test_a_login_is_not_sent_to_another_upstream(tmp_path: Path) -> None:
    upstreams: dict[str, dict[str, str]] = {"quay.io": {}}
    async with open_rest(tmp_path / "two", upstreams=upstreams) as rest:
        await changed(rest, identity="robot", secret=SECRET)
        refused = await put(rest, default_upstream="quay.io")
        assert refused.status == 400 and "must not see" in json.loads(refused.body)["message"]["secret"][0]
        assert (await changed(rest, default_upstream="quay.io", identity="", secret=""))[
            "default_upstream"
        ] == "quay.io"


async def test_the_gate_and_freshness_are_changed_and_what_is_not_given_stays(rest: Rest) -> None:
    document = await changed(rest, allow=["library/*"], deny=["*/secret"], cooldown="7d", fresh_only=True)
    gate = document["gate"]
    assert (gate["allow"], gate["deny"], gate["cooldown_seconds"]) == (["library/*"], ["*/secret"], 7 * 86400)
    document = await changed(rest, cooldown_action="refuse", trusts_created=True)
    assert document["fresh_only"] is True
    assert (document["gate"]["allow"], document["gate"]["cooldown_action"]) == (["library/*"], "refuse")
    denied = await rest.surface.call("GET", "team/dependency_proxy/containers/acme/app/manifests/1", who="reporter")
    assert denied.status == 403
    document = await changed(rest, allow=[], deny=[], cooldown="0s", cooldown_action="older", trusts_created=False)
    assert (await group_of(rest)).gate is None and document["gate"]["allow"] == []


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({}, "at least one parameter must be provided"),
        ({"allow": ["Upper/*"]}, "is no glob on image names"),
        ({"allow": ["a"] * 501}, "allow does not have a valid value"),
        ({"cooldown": "soon"}, "not a duration"),
        ({"cooldown": "400d"}, "longer than the age of a tag is remembered"),
        ({"cooldown_action": "wait"}, "cooldown_action does not have a valid value"),
        ({"default_upstream": "absent.example"}, "is not configured"),
        ({"default_upstream": "UPPER"}, "is not the name of an upstream"),
        ({"enabled": "perhaps"}, "enabled is invalid"),
        ({"identity": "a\nb", "secret": "x"}, "identity is invalid"),
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused_and_changes_nothing(rest: Rest, document: dict[str, Any], says: str) -> None:
    before = await group_of(rest)
    refused = await put(rest, **document)
    assert refused.status == 400 and says in refused.body.decode()
    assert await group_of(rest) == before


async def test_a_policy_is_set_and_changed_within_its_bounds(rest: Rest) -> None:
    document = await changed(rest, POLICY, enabled=True)
    assert (document["enabled"], document["ttl"]) == (True, 90)
    document = await changed(rest, POLICY, ttl=30)
    assert (document["enabled"], document["ttl"]) == (True, 30)
    assert document["updated_at"] >= document["created_at"]
    for ttl in (0, -1, 401, 10**17):
        refused = await put(rest, POLICY, ttl=ttl)
        assert refused.status == 400 and b"ttl" in refused.body
    assert (await put(rest, POLICY)).status == 400
    assert await rest.get(POLICY, who="root") == document
    assert [event.outcome for event in rest.noted(EventKind.UPDATE)] == ["image TTL policy on", "30 days"]


async def test_settings_are_for_owners_alone(rest: Rest) -> None:
    for path in (TEAM, POLICY):
        for who, status in (("maintainer", 403), ("stranger", 404), (None, 401)):
            assert (await put(rest, path, who, enabled=False)).status == status
            assert (await rest.call("GET", path, who=who)).status == status
    assert (await group_of(rest)).proxy_enabled
