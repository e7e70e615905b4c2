"""What every request to the REST API meets: tokens, scopes, methods, headers and the forms of errors."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from gateway.api.errors import HEADERS
from gateway.namespaces.credentials import CredentialKind, new_secret
from tests.gateway.api.rest import REPOSITORIES, Rest, open_rest

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAST = datetime(2025, 1, 1, tzinfo=UTC)
UNAUTHORIZED = {"message": "401 Unauthorized"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path_factory.mktemp("rest") / "data") as rest:
        await rest.surface.push_image("team/app/web", "v1")
        yield rest


async def test_a_token_is_taken_in_its_headers(rest: Rest) -> None:
    personal, job = rest.tokens["developer"], await rest.job("developer", "team/app")
    project = f"/projects/team%2Fapp{REPOSITORIES}"
    for name, value in (("Private-Token", personal), ("Authorization", f"Bearer {personal}")):
        assert (await rest.get("/user", who=None, headers=[(name, value)]))["username"] == "developer"
    for name, value in (("Job-Token", job), ("Authorization", f"bearer {job}")):
        assert len(await rest.get(project, who=None, headers=[(name, value)])) == 1


async def test_what_is_no_token_of_this_api_is_refused(rest: Rest) -> None:
    personal, job = rest.tokens["developer"], await rest.job("developer", "team/app")
    unknown = new_secret(CredentialKind.PERSONAL_TOKEN)
    for headers in (
        [("PRIVATE-TOKEN", unknown)],
        [("PRIVATE-TOKEN", "")],
        [("PRIVATE-TOKEN", "a password")],
        [("PRIVATE-TOKEN", "x" * 100_000)],
        [("Authorization", f"Bearer {unknown}")],
        [("JOB-TOKEN", new_secret(CredentialKind.JOB_TOKEN))],
        [("Deploy-Token", new_secret(CredentialKind.DEPLOY_TOKEN))],
    ):
        answer = await rest.call("GET", "/version", who=None, headers=headers)
        assert (answer.status, json.loads(answer.body)) == (401, UNAUTHORIZED), headers
    for headers, words in (
        ([("PRIVATE-TOKEN", job)], "JOB-TOKEN"),
        ([("JOB-TOKEN", personal)], "PRIVATE-TOKEN"),
        ([("Authorization", "Basic eDp5")], "Bearer"),
        ([("PRIVATE-TOKEN", personal), ("JOB-TOKEN", job)], "one token"),
        ([("PRIVATE-TOKEN", personal), ("PRIVATE-TOKEN", personal)], "one token"),
    ):
        answer = await rest.call("GET", "/version", who=None, headers=headers)
        message = json.loads(answer.body)["message"]
        assert answer.status == 401 and message.startswith("401 Unauthorized - ") and words in message


async def test_an_ended_token_is_told_why(rest: Rest) -> None:
    ended = await rest.token("developer", "api", expires_at=PAST)
    with capture_logs() as lines:
        answer = await rest.call("GET", "/user", who=None, headers=[("PRIVATE-TOKEN", ended)])
    assert answer.status == 401
    assert "expired" in json.loads(answer.body)["message"]
    [line] = [line for line in lines if line["event"] == "login_refused"]
    assert "developer" in line["account"]


async def test_an_unknown_path_is_not_found_and_a_wrong_method_not_allowed(rest: Rest) -> None:
    for path in ("/", "/projects/1/unknown", "/projects/team%2Fapp/registry", "/version/x", "/%2e%2e/-/metrics"):
        assert await rest.get(path, 404) == {"message": "404 Not Found"}
    answer = await rest.call("POST", "/version")
    assert (answer.status, json.loads(answer.body)) == (405, {"message": "405 Method Not Allowed"})
    assert answer.headers["allow"] == "GET, HEAD"
    assert (await rest.call("PATCH", "/projects/1")).status == 405


async def test_a_slash_at_the_end_means_nothing(rest: Rest) -> None:
    assert await rest.get("/version/") == await rest.get("/version")


async def test_head_is_a_get(rest: Rest) -> None:
    whole, head = await rest.call("GET", "/version"), await rest.call("HEAD", "/version")
    assert head.status == 200
    assert head.headers["content-length"] == whole.headers["content-length"]


async def test_every_response_is_no_page_for_one_reader(rest: Rest) -> None:
    for method, path, who in (
        ("GET", "/version", "developer"),
        ("GET", "/nothing", "developer"),
        ("GET", "/version", None),
        ("PUT", "/version", "developer"),
        ("GET", f"/projects/team%2Fapp{REPOSITORIES}", "developer"),
    ):
        answer = await rest.call(method, path, who=who)
        assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("scope", "method", "path", "refused"),
    [
        ("api", "GET", "/version", False),
        ("read_api", "GET", "/version", False),
        ("read_registry", "GET", "/version", True),
        ("write_registry", "GET", "/version", True),
        ("read_registry", "GET", f"/projects/team%2Fapp{REPOSITORIES}", True),
        ("read_registry", "GET", f"/projects/open%2Fshown{REPOSITORIES}", True),
        ("read_api", "PUT", "/projects/team%2Fapp", True),
        ("write_registry", "PUT", "/projects/team%2Fapp", True),
    ],
)
async def test_scopes_of_a_token_are_those_of_the_api(
    rest: Rest, scope: str, method: str, path: str, refused: bool
) -> None:
    token = await rest.token("maintainer", scope)
    answer = await rest.call(method, path, who=None, headers=[("PRIVATE-TOKEN", token)])
    assert (answer.status == 403) is refused
    if refused:
        document = json.loads(answer.body)
        assert document["error"] == "insufficient_scope"
        assert document["scope"] == ("api read_api" if method == "GET" else "api")
        assert "make a token with that scope" in document["error_description"]


async def test_the_log_says_who_and_what(rest: Rest) -> None:
    id = await rest.id_of("team/app/web")
    with capture_logs() as lines:
        await rest.get(f"/projects/team%2Fapp{REPOSITORIES}/{id}/tags/v1", who="reporter")
        await rest.get(f"/projects/closed%2Fsecret{REPOSITORIES}", 404, who="reporter")
    found, hidden = [line for line in lines if line["event"] == "request"]
    assert "reporter" in found["principal"]
    assert (found["project"], found["kind"], found["status"]) == ("team/app", "tag", 200)
    assert hidden["refusal"] == "name_unknown" and "closed/secret" in hidden["reason"]


async def test_a_fault_of_the_server_is_told_in_the_form_of_the_api(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("secret cause")

    monkeypatch.setattr("gateway.api.server.ServerFacts.version", fail)
    answer = await rest.call("GET", "/version")
    assert (answer.status, json.loads(answer.body)) == (500, {"message": "500 Internal Server Error"})
