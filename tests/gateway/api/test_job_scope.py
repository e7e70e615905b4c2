"""Jobs by the REST API: the token of one, the scope of those that may pull, and jobs that are started and ended."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.event import EventKind
from gateway.auth.access import Access
from gateway.auth.matrix import Action
from gateway.db import jobs
from gateway.directory.places import Located
from tests.gateway.api.rest import Rest, open_rest

APP, LIB = "/projects/team%2Fapp", "/projects/team%2Flib"
SCOPE = f"{LIB}/job_token_scope"


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[Rest]:
    async with open_rest(tmp_path / "data") as rest:
        yield rest


def by(secret: str, header: str = "JOB-TOKEN") -> dict[str, Any]:
    return {"who": None, "headers": [(header, secret)]}


async def id_of(rest: Rest, place: str) -> int:
    return int((await rest.get(place, who="root"))["id"])


async def pulls(rest: Rest, secret: str, path: str = "team/lib") -> bool:
    """Whether a job may pull from a project, as the registry decides."""
    services = rest.services
    principal = await services.authenticator.token_principal(secret)
    place = await services.directory.find_project_place(path)
    assert place is not None
    decision = await Access(services.directory, False).decide(
        principal, Action.PULL, Located(path, place), services.clock()
    )
    return decision.allowed


async def test_a_job_is_shown_to_its_own_token(rest: Rest) -> None:
    secret = await rest.job("developer", "team/app")
    shown = await rest.get("/job", **by(secret))
    assert (shown["status"], shown["ref"], shown["finished_at"]) == ("running", "main", None)
    assert shown["user"]["username"] == "developer"
    assert shown["project"]["path_with_namespace"] == "team/app"
    assert await rest.get("/job", **by(f"Bearer {secret}", "Authorization")) == shown
    for who in ("developer", "root", None):
        assert (await rest.call("GET", "/job", who=who)).status == 401


async def test_a_project_is_added_to_the_list_and_taken_from_it(rest: Rest) -> None:
    secret, app = await rest.job("developer", "team/app"), await id_of(rest, APP)
    assert await rest.get(SCOPE) == {"inbound_enabled": True, "outbound_enabled": False}
    assert not await pulls(rest, secret)
    added = await rest.send_json("POST", f"{SCOPE}/allowlist", {"target_project_id": app})
    document = {"source_project_id": await id_of(rest, LIB), "target_project_id": app}
    assert (added.status, json.loads(added.body)) == (201, document)
    assert await pulls(rest, secret)
    [listed] = await rest.get(f"{SCOPE}/allowlist")
    assert (listed["id"], listed["path_with_namespace"]) == (app, "team/app")
    assert await rest.get(f"{SCOPE}/groups_allowlist") == []
    again = await rest.send_json("POST", f"{SCOPE}/allowlist", {"target_project_id": app})
    assert again.status == 400 and b"allowed already" in again.body
    assert (await rest.call("DELETE", f"{SCOPE}/allowlist/{app}")).status == 204
    assert not await pulls(rest, secret)
    gone = await rest.call("DELETE", f"{SCOPE}/allowlist/{app}")
    assert (gone.status, json.loads(gone.body)) == (404, {"message": "404 Target Project Not Found"})
    told = [(event.event, event.outcome) for kind in (EventKind.GRANT, EventKind.REVOKE) for event in rest.noted(kind)]
    assert told == [(EventKind.GRANT, "jobs of project team/app"), (EventKind.REVOKE, f"jobs of project {app}")]


async def test_a_group_is_added_to_the_list_and_taken_from_it(rest: Rest) -> None:
    secret, team = await rest.job("developer", "team/app"), await id_of(rest, "/groups/team")
    added = await rest.send_json("POST", f"{SCOPE}/groups_allowlist", {"target_group_id": team})
    assert added.status == 201 and json.loads(added.body)["target_group_id"] == team
    assert await pulls(rest, secret)
    [listed] = await rest.get(f"{SCOPE}/groups_allowlist")
    assert (listed["id"], listed["full_path"]) == (team, "team")
    assert (await rest.call("DELETE", f"{SCOPE}/groups_allowlist/{team}")).status == 204
    assert not await pulls(rest, secret)


async def test_without_a_limit_a_job_pulls_what_its_user_may_and_no_more(rest: Rest) -> None:
    secret, strangers = await rest.job("developer", "team/app"), await rest.job("stranger", "team/app")
    changed = await rest.send_json("PATCH", SCOPE, {"enabled": False})
    assert (changed.status, changed.body) == (204, b"")
    assert (await rest.get(SCOPE))["inbound_enabled"] is False
    assert await pulls(rest, secret) and not await pulls(rest, strangers)
    assert not await pulls(rest, secret, "closed/secret")
    assert (await rest.send_json("PATCH", SCOPE, {"enabled": True})).status == 204
    assert not await pulls(rest, secret)
    assert (await rest.send_json("PATCH", SCOPE, {})).status == 400


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        ("allowlist", {}, 400),
        ("allowlist", {"target_project_id": 0}, 400),
        ("allowlist", {"target_project_id": "team/app"}, 400),
        ("allowlist", {"target_project_id": 999_999}, 404),
        ("groups_allowlist", {"target_group_id": 999_999}, 404),
        ("groups_allowlist", {"target_project_id": 1}, 400),
    ],
)
async def test_what_cannot_be_allowed_is_refused(rest: Rest, path: str, document: dict[str, Any], status: int) -> None:
    assert (await rest.send_json("POST", f"{SCOPE}/{path}", document)).status == status
    assert await rest.get(f"{SCOPE}/{path}") == []


async def test_what_its_maintainer_may_not_know_of_is_neither_added_nor_named(rest: Rest) -> None:
    own, hidden = await id_of(rest, LIB), await id_of(rest, "/projects/closed%2Fsecret")
    refused = await rest.send_json("POST", f"{SCOPE}/allowlist", {"target_project_id": hidden})
    assert (refused.status, json.loads(refused.body)) == (404, {"message": "404 Project Not Found"})
    itself = await rest.send_json("POST", f"{SCOPE}/allowlist", {"target_project_id": own})
    assert itself.status == 400
    await rest.send_json("POST", f"{SCOPE}/allowlist", {"target_project_id": hidden}, who="root")
    [listed] = await rest.get(f"{SCOPE}/allowlist")
    assert listed["id"] == hidden and set(listed.values()) == {hidden, None}
    assert (await rest.call("DELETE", f"{SCOPE}/allowlist/{hidden}")).status == 204


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404), (None, 401)])
async def test_the_scope_is_for_maintainers(rest: Rest, who: str | None, status: int) -> None:
    for method, path, document in (
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("GET", "/allowlist", None),
        ("POST", "/allowlist", {"target_project_id": 1}),
        ("DELETE", "/allowlist/1", None),
        ("POST", "/groups_allowlist", {"target_group_id": 1}),
    ):
        answer = await rest.send_json(method, f"{SCOPE}{path}", document or {}, who=who)
        assert answer.status == status, (method, path)
    secret = await rest.job("maintainer", "team/lib")
    assert (await rest.call("GET", SCOPE, **by(secret))).status == 403


async def test_a_job_is_started_listed_and_ended(rest: Rest) -> None:
    answer = await rest.send_json("POST", f"{APP}/jobs", {"ref": "main", "expires_at": "30m"}, who="developer")
    assert answer.status == 201
    started = json.loads(answer.body)
    variables, one = started.pop("variables"), f"{APP}/jobs/{started['id']}"
    assert started["status"] == "running" and variables["CI_REGISTRY_IMAGE"].endswith(":8080/team/app")
    secret = variables["CI_JOB_TOKEN"]
    assert (await rest.get("/job", **by(secret)))["id"] == started["id"]
    for path in (one, f"{APP}/jobs", f"{APP}/jobs?scope=running"):
        answer = await rest.call("GET", path, who="developer")
        assert answer.status == 200 and secret.encode() not in answer.body
    assert [job["id"] for job in await rest.get(f"{APP}/jobs", who="developer")] == [started["id"]]
    ended = await rest.call("POST", f"{one}/cancel", who="developer")
    assert ended.status == 201 and json.loads(ended.body)["status"] == "success"
    assert (await rest.call("GET", "/job", **by(secret))).status == 401
    assert await rest.get(f"{APP}/jobs", who="developer", scope="running") == []
    assert [event.outcome for event in rest.noted(EventKind.GRANT)] == [f"job {started['id']}"]
    assert (await rest.call("POST", f"{one}/cancel", who="developer")).status == 201
    assert [event.outcome for event in rest.noted(EventKind.REVOKE)] == [f"job {started['id']}"]


async def test_a_job_does_not_outlive_the_token_that_starts_it(rest: Rest) -> None:
    ends = rest.services.clock() + timedelta(minutes=20)
    token = await rest.token("developer", "api", expires_at=ends)
    refused = await rest.call("POST", f"{APP}/jobs", expires_at="30m", **by(token, "PRIVATE-TOKEN"))
    assert refused.status == 400 and b"does not outlive" in refused.body
    started = await rest.call("POST", f"{APP}/jobs", **by(token, "PRIVATE-TOKEN"))
    assert started.status == 201
    async with rest.database() as database:
        job = await database.query(lambda connection: jobs.find(connection, json.loads(started.body)["id"]))
    assert job is not None and job.expires_at == ends
    assert (await rest.call("POST", f"{APP}/jobs", expires_at="10m", **by(token, "PRIVATE-TOKEN"))).status == 201


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"expires_at": "2020-01-01"}, "not in the future"),
        ({"expires_at": "31d"}, "the latest expiry is"),
        ({"expires_at": "soon"}, "is not a time"),
        ({"ref": "x" * 256}, "ref"),
        ({"ref": "---"}, "no letter or digit"),
    ],
)
async def test_a_job_that_cannot_be_is_not_started(rest: Rest, document: dict[str, Any], words: str) -> None:
    answer = await rest.send_json("POST", f"{APP}/jobs", document, who="developer")
    assert answer.status == 400 and words in answer.body.decode()
    assert await rest.get(f"{APP}/jobs", who="developer") == []


async def test_jobs_are_for_developers_and_those_of_others_for_maintainers(rest: Rest) -> None:
    answer = await rest.send_json("POST", f"{APP}/jobs", {}, who="maintainer")
    one = f"{APP}/jobs/{json.loads(answer.body)['id']}"
    for who, status in (("reporter", 403), ("stranger", 404), (None, 401)):
        for method, path in (("GET", f"{APP}/jobs"), ("POST", f"{APP}/jobs"), ("GET", one), ("POST", f"{one}/cancel")):
            assert (await rest.call(method, path, who=who)).status == status, (who, path)
    assert (await rest.call("POST", f"{one}/cancel", who="developer")).status == 403
    assert (await rest.call("POST", f"{one}/cancel", who="maintainer")).status == 201
    assert (await rest.call("GET", one.replace("app", "lib"), who="developer")).status == 404
    assert await rest.get(f"{APP}/jobs/nonsense", 404, who="developer") == {"message": "404 Job Not Found"}


async def test_a_search_does_not_tell_the_path_of_what_is_hidden(rest: Rest) -> None:
    await rest.send_json(
        "POST", f"{SCOPE}/allowlist", {"target_project_id": await id_of(rest, "/projects/closed%2Fsecret")}, who="root"
    )
    assert len(await rest.get(f"{SCOPE}/allowlist")) == 1
    assert await rest.get(f"{SCOPE}/allowlist", search="closed/s") == []
    assert len(await rest.get(f"{SCOPE}/allowlist", search="closed/s", who="root")) == 1


async def test_a_job_is_told_no_address_of_its_user(rest: Rest) -> None:
    shown = await rest.get("/job", **by(await rest.job("developer", "team/app")))
    assert shown["user"]["username"] == "developer" and "email" not in shown["user"]
