"""GraphQL documents that terraform and GitLab's own pages send, and documents that are refused."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from graphql import build_client_schema, get_introspection_query

from gateway.api.graphql.limits import LONGEST_DOCUMENT, MOST_FIELDS, MOST_ROOTS, MOST_TOKENS
from gateway.api.graphql.root import NOT_THERE
from gateway.audit.event import EventKind
from gateway.keys.upstream_login import open_login
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.api.rest import Rest, open_rest
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import ROOTS
from tests.parts.canaries import CANARY

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = f"{CANARY}-upstream-secret"
SETTING = 'query {group(fullPath: "team") {dependencyProxySetting {enabled, identity}}}'
DETAILS = """
query getDependencyProxyDetails($fullPath: ID!, $first: Int, $last: Int, $after: String, $before: String) {
  group(fullPath: $fullPath) {
    id
    dependencyProxyBlobCount
    dependencyProxyImageCount
    dependencyProxyImagePrefix
    dependencyProxyTotalSize
    dependencyProxyTotalSizeInBytes
    dependencyProxySetting { enabled }
    dependencyProxyImageTtlPolicy { ttl enabled }
    dependencyProxyManifests(first: $first, last: $last, after: $after, before: $before) {
      nodes { id createdAt updatedAt fileName imageName size digest status __typename }
      pageInfo { ...PageInfo }
    }
    dependencyProxyBlobs { nodes { fileName size createdAt updatedAt } edges { cursor node { fileName } } }
    __typename
  }
}
fragment PageInfo on PageInfo { hasNextPage hasPreviousPage startCursor endCursor __typename }
"""


@pytest_asyncio.fixture(loop_scope="module")
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


async def send(
    rest: Rest,
    document: object,
    who: str | None = "root",
    target: str = "",
    method: str = "POST",
    kind: str = "application/json",
    **headers: str,
) -> Exchange:
    """The response to a body of JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    sent = [("PRIVATE-TOKEN", rest.tokens[who])] if who is not None else []
    sent += [("Content-Type", kind), ("Content-Length", str(len(body)))]
    sent += [(name.replace("_", "-"), value) for name, value in headers.items()]
    app = create_app(rest.services, ROOTS, RegistryOptions(open_proxy=True))
    return await Client(scope_of(method, f"/api/graphql{target}", sent), [body]).request(app)


async def ask(rest: Rest, query: str, who: str | None = "root", **variables: Any) -> Any:
    """The data of a document that has no errors."""
    answer = await send(rest, {"query": query, "variables": variables}, who)
    document = json.loads(answer.body)
    assert (answer.status, list(document)) == (200, ["data"]), answer.body
    return document["data"]


async def refused(rest: Rest, query: str, **options: Any) -> list[str]:
    """The errors of a document, which was answered without data."""
    answer = await send(rest, {"query": query}, **options)
    document = json.loads(answer.body)
    assert document.get("data") in (None, {"updateDependencyProxySettings": None}), document
    assert answer.status == 200
    return [error["message"] for error in document["errors"]]


def updating(fields: str) -> str:
    """The mutation as terraform writes it."""
    return (
        f"mutation {{updateDependencyProxySettings(input: {{{fields}}}) "
        "{dependencyProxySetting {enabled, identity} errors}}"
    )


async def test_terraform_reads_changes_and_destroys_the_settings(rest: Rest) -> None:
    assert await ask(rest, SETTING) == {"group": {"dependencyProxySetting": {"enabled": True, "identity": None}}}
    wanted = f'groupPath: "team", enabled: true, identity: "robot", secret: "{SECRET}"'
    done = {"dependencyProxySetting": {"enabled": True, "identity": "robot"}, "errors": []}
    assert await ask(rest, updating(wanted)) == {"updateDependencyProxySettings": done}
    group = await rest.services.directory.find_group("team")
    assert group is not None
    login = open_login(group, rest.services.sealer)
    assert login is not None and login.password == SECRET
    assert await ask(rest, SETTING) == {"group": {"dependencyProxySetting": done["dependencyProxySetting"]}}
    destroyed = await ask(rest, updating('groupPath: "team", enabled: false, identity: "", secret: ""'))
    gone = {"dependencyProxySetting": {"enabled": False, "identity": None}, "errors": []}
    assert destroyed == {"updateDependencyProxySettings": gone}
    told = [event.outcome for event in rest.noted(EventKind.UPDATE)]
    assert told == ["upstream login robot, another upstream secret", "dependency proxy off, upstream login none"]


async def test_what_is_wrong_with_values_stands_in_the_answer(rest: Rest) -> None:
    for fields in ('identity: "robot"', f'identity: "", secret: "{SECRET}"', 'identity: "a\\nb", secret: "x"'):
        answer = (await ask(rest, updating(f'groupPath: "team", {fields}')))["updateDependencyProxySettings"]
        assert answer["dependencyProxySetting"] is None and len(answer["errors"]) == 1
        assert SECRET not in answer["errors"][0]


async def test_a_policy_is_read_and_changed(rest: Rest) -> None:
    query = """
      mutation($input: UpdateDependencyProxyImageTtlGroupPolicyInput!) {
        updateDependencyProxyImageTtlGroupPolicy(input: $input) {
          dependencyProxyImageTtlPolicy { enabled ttl createdAt updatedAt } errors clientMutationId
        }
      }"""
    wanted = {"groupPath": "team", "enabled": True, "ttl": 30, "clientMutationId": "one"}
    [answer] = (await ask(rest, query, input=wanted)).values()
    assert answer["errors"] == [] and answer["clientMutationId"] == "one"
    assert (answer["dependencyProxyImageTtlPolicy"]["enabled"], answer["dependencyProxyImageTtlPolicy"]["ttl"]) == (
        True,
        30,
    )
    [answer] = (await ask(rest, query, input={"groupPath": "team", "ttl": 0})).values()
    assert answer["dependencyProxyImageTtlPolicy"] is None and "ttl must be from 1 to 400" in answer["errors"][0]
    read = await ask(rest, '{group(fullPath: "team") {dependencyProxyImageTtlPolicy {ttl enabled}}}')
    assert read == {"group": {"dependencyProxyImageTtlPolicy": {"ttl": 30, "enabled": True}}}


async def test_the_page_of_a_group_reads_its_cache(rest: Rest) -> None:
    digest = await rest.surface.cache_blob("library/alpine", b"a layer")
    for tag in ("3.18", "3.19", "3.20"):
        await rest.surface.cache_manifest("library/alpine", tag)
        await rest.surface.call("GET", f"team/dependency_proxy/containers/alpine/manifests/{tag}", who="reporter")
    rest.services.group_usage.flush()
    group = (await ask(rest, DETAILS, "reporter", fullPath="team", first=2))["group"]
    assert (group["dependencyProxyImageCount"], group["dependencyProxyBlobCount"]) == (3, 1)
    assert group["dependencyProxyImagePrefix"] == "127.0.0.1:8080/team/dependency_proxy/containers"
    assert group["dependencyProxyTotalSizeInBytes"] > 0 and "bytes" in group["dependencyProxyTotalSize"]
    assert group["dependencyProxySetting"] is group["dependencyProxyImageTtlPolicy"] is None  # for owners
    assert [blob["fileName"] for blob in group["dependencyProxyBlobs"]["nodes"]] == [f"{digest[7:]}.gz"]
    manifests = group["dependencyProxyManifests"]
    names = [f"library/alpine:{tag}" for tag in ("3.20", "3.19", "3.18")]
    assert [node["imageName"] for node in manifests["nodes"]] == names[:2]
    assert manifests["nodes"][0]["fileName"] == f"{names[0]}.json" and manifests["nodes"][0]["status"] == "DEFAULT"
    page = manifests["pageInfo"]
    assert (page["hasNextPage"], page["hasPreviousPage"]) == (True, False)
    after = await ask(rest, DETAILS, "reporter", fullPath="team", first=2, after=page["endCursor"])
    rest_of = after["group"]["dependencyProxyManifests"]
    assert [node["imageName"] for node in rest_of["nodes"]] == names[2:]
    assert (rest_of["pageInfo"]["hasNextPage"], rest_of["pageInfo"]["hasPreviousPage"]) == (False, True)
    before = rest_of["pageInfo"]["startCursor"]
    back = await ask(rest, DETAILS, "reporter", fullPath="team", last=1, before=before)
    shown = back["group"]["dependencyProxyManifests"]
    assert [node["imageName"] for node in shown["nodes"]] == names[1:2]
    assert shown["pageInfo"]["hasPreviousPage"] is True


@pytest.mark.parametrize("who", [None, "stranger"])
@pytest.mark.parametrize("path", ["team", "absent", "1", "", "a" * 3000])
async def test_a_group_that_the_caller_may_not_know_of_is_null(rest: Rest, who: str | None, path: str) -> None:
    assert await ask(rest, DETAILS, who, fullPath=path) == {"group": None}
    assert await refused(rest, updating(f'groupPath: "{path}", enabled: false'), who=who) == [NOT_THERE]


async def test_who_may_know_of_a_group_sees_only_what_its_role_may(rest: Rest) -> None:
    group = (await ask(rest, DETAILS, None, fullPath="open"))["group"]
    assert group["id"].startswith("gid://gitlab/Group/")
    assert {name for name, value in group.items() if value is not None} == {"id", "__typename"}
    assert await refused(rest, updating('groupPath: "team", enabled: false'), who="maintainer") == [NOT_THERE]


async def test_tokens_are_those_of_the_rest_api(rest: Rest) -> None:
    bearer = await send(rest, {"query": SETTING}, None, Authorization=f"Bearer {rest.tokens['root']}")
    assert json.loads(bearer.body)["data"]["group"] is not None
    wrong = await send(rest, {"query": SETTING}, None, PRIVATE_TOKEN="rgpat-wrong")
    assert (wrong.status, json.loads(wrong.body)) == (401, {"message": "401 Unauthorized"})
    reading = await rest.token("root", "read_api")
    assert json.loads((await send(rest, {"query": SETTING}, None, PRIVATE_TOKEN=reading)).body)["data"]["group"]
    change = {"query": updating('groupPath: "team", enabled: false')}
    assert (await send(rest, change, None, PRIVATE_TOKEN=reading)).status == 403
    registry = await rest.token("root", "read_registry")
    assert (await send(rest, {"query": SETTING}, None, PRIVATE_TOKEN=registry)).status == 403
    job = await rest.job("maintainer", "team/app")
    assert (await send(rest, {"query": SETTING}, None, JOB_TOKEN=job)).status == 403


async def test_the_schema_is_shown_to_whoever_asks(rest: Rest) -> None:
    schema = build_client_schema(await ask(rest, get_introspection_query(), None))
    assert schema.mutation_type is not None and "updateDependencyProxySettings" in schema.mutation_type.fields


FRAGMENTS = "".join(f"fragment f{number} on Group {{...f{number + 1} ...f{number + 1}}} " for number in range(10))
BOUNDED = {
    "characters": ("{" + " " * LONGEST_DOCUMENT + "}", "characters"),
    "tokens": ("{" + "a " * MOST_TOKENS + "}", "tokens"),
    "nesting": ("{a" * 400 + "}" * 400, "nested too deeply"),
    "nested lists": (f"{{a(b: {'[' * 450}{']' * 450})}}", ""),
    "nested types": (f"query($a: {'[' * 450}Int{']' * 450}) {{a}}", ""),
    "levels": ("{a" * 21 + "}" * 21, "levels"),
    "fields": ("{" + "a " * (MOST_FIELDS + 1) + "}", f"more than {MOST_FIELDS} fields"),
    "roots": (
        "{" + "".join(f'a{number}: group(fullPath: "x") {{id}} ' for number in range(MOST_ROOTS + 1)) + "}",
        f"more than {MOST_ROOTS} fields",
    ),
    "fragments": (
        f'{{group(fullPath: "x") {{...f0}}}} {FRAGMENTS} fragment f10 on Group {{id}}',
        f"more than {MOST_FIELDS} fields",
    ),
    "circles": ('{group(fullPath: "x") {...f}} fragment f on Group {...f}', "levels"),
    "introspection": ("{__schema{types{fields{type{fields{type{fields{type{fields{name}}}}}}}}}}", "depth"),
    "no operation": ("fragment f on Group {id}", "operation"),
    "two operations": ("query a {__typename} query b {__typename}", "operation"),
    "unknown field": ("{groups {id}}", "Cannot query field"),
    "syntax": ("{", "Syntax Error"),
    "subscription": ("subscription {a}", ""),
}


@pytest.mark.parametrize(("query", "says"), BOUNDED.values(), ids=BOUNDED)
async def test_a_document_beyond_its_bounds_is_refused(rest: Rest, query: str, says: str) -> None:
    answer = await send(rest, {"query": query})
    document = json.loads(answer.body)
    assert answer.status == 200 and "data" not in document
    assert says in document["errors"][0]["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b'{"query": 1}', 400),
        (b"{}", 400),
        (b'{"query": "{__typename}", "variables": []}', 400),
        (b'{"query": "{__typename}", "operationName": 1}', 400),
        (b"{", 400),
        (b"[" * 1000, 400),
        (b" " * 100_000, 413),
    ],
)
async def test_a_body_that_is_no_request_is_refused(rest: Rest, body: bytes, status: int) -> None:
    answer = await send(rest, body)
    assert answer.status == status and "errors" not in json.loads(answer.body)


async def test_documents_are_taken_by_post_and_from_the_body_alone(rest: Rest) -> None:
    assert (await send(rest, {"query": SETTING}, method="GET")).status == 405
    assert (await send(rest, {}, target="?query=%7B__typename%7D")).status == 400
    assert (await send(rest, {"query": SETTING}, kind="text/plain")).status == 415


async def test_an_error_of_the_server_is_not_told(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr("gateway.api.graphql.groups.GroupImages.count", fail)
    answer = await send(rest, {"query": '{group(fullPath: "team") {id dependencyProxyImageCount}}'})
    document = json.loads(answer.body)
    assert [error["message"] for error in document["errors"]] == ["Internal server error"]
    assert document["data"]["group"]["id"] and document["data"]["group"]["dependencyProxyImageCount"] is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('{group(fullPath: "x") {' + "id " * 400 + "}}", "the same fields too often"),
        ('{group(fullPath: "x") {id}} fragment F on Group {' + "id " * 400 + "}", "the same fields too often"),
        ("{" + 'group(fullPath: "x") {id id id id id id id id} ' * 15 + "}", "the same fields too often"),
        (
            '{group(fullPath: "x") {id}} ' + " ".join(f"fragment F{n} on Group {{id}}" for n in range(20)),
            "more than 20 operations and fragments",
        ),
        (
            '{group(fullPath: "x") {' + " ".join(f"a{n}: dependencyProxyTotalSize" for n in range(61)) + "}}",
            "more than 60 fields of dependency proxies",
        ),
    ],
)
async def test_a_document_that_costs_more_than_it_shows_is_refused(rest: Rest, document: str, said: str) -> None:
    [fault] = json.loads((await send(rest, {"query": document}, who=None)).body)["errors"]
    assert said in fault["message"]
