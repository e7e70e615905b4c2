"""The matrix of users and tokens in the REST API: every cell of rest_accounts.toml at a running server."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.namespaces.role import Role
from tests.parts.canaries import found_below, found_in, remember
from tests.parts.gateway import Gateway

from .authorisation import Outcome, parse_cells
from .kept import Answer, Header, Kept
from .tree import Planter, run

pytestmark = pytest.mark.long

NO_ID = 999_999
SCOPES = ("api", "read_api", "read_registry")
GROUP, PROJECT = "keep", "keep%2Fapp"
OTHER, OTHERS_TOKEN = "other", "other's"

BODIES: dict[str, dict[str, object]] = {
    "POST /users": {"username": "no name", "password": "a password of some length"},
    "PUT /users/{id}": {"external": True},
    "POST /users/{id}/personal_access_tokens": {"name": "matrix", "scopes": ["api"]},
    "POST /hooks": {"url": "https://hooks.example.com/"},
    "PUT /hooks/{hook_id}": {"registry_push_events": False},
    "POST /projects/{id}/deploy_tokens": {"name": "matrix", "scopes": ["read_registry"]},
    "POST /groups/{id}/deploy_tokens": {"name": "matrix", "scopes": ["read_registry"]},
    "POST /projects/{id}/access_tokens": {"name": "matrix", "scopes": ["read_registry"], "access_level": 10},
    "POST /groups/{id}/access_tokens": {"name": "matrix", "scopes": ["read_registry"], "access_level": 10},
}


@cache
def table() -> Any:
    return tomllib.loads(Path(__file__).with_name("rest_accounts.toml").read_text())


def routes() -> dict[str, str]:
    """The right that each route needs."""
    return {route: right for right, routes in table()["routes"].items() for route in routes}


@dataclass(frozen=True)
class Secrets:
    """Fresh tokens for each of several uses, by the column and the scope; `others`: of a job and a deploy token."""

    people: dict[tuple[str, str], list[str]]
    others: dict[str, Header]
    another: int


@dataclass(frozen=True)
class Rig:
    server: Gateway
    secrets: Secrets


async def plant(planter: Planter) -> Secrets:
    group = await planter.group(GROUP)
    project = await planter.project("keep/app")
    people: dict[tuple[str, str], list[str]] = {}
    users = {}
    for column in ["stranger", *(role.word for role in Role), "admin", "blocked"]:
        name = {"admin": "adele"}.get(column, column)
        users[column] = user = await planter.user(name, admin=column == "admin", blocked=column == "blocked")
        if column in (role.word for role in Role):
            await planter.member(group.key, user, next(role for role in Role if role.word == column))
        for scope in SCOPES:
            people[column, scope] = [(await planter.personal(user, [scope])).secret for _ in routes()]
    other = await planter.user(OTHER)
    another = [await planter.personal(other, ["api"]) for _ in range(1)]
    job, _ = await planter.job(project, users["maintainer"])
    deploy = await planter.deploy(project.key, ["read_registry"])
    others = {"job": ("JOB-TOKEN", job.secret), "deploy": ("PRIVATE-TOKEN", deploy.secret)}
    return Secrets(people, others, another[0].id)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Rig]:
    server = Gateway(tmp_path_factory.mktemp("rest-accounts"), {"workers": 2, "api": {"rate_limit": 0}})
    secrets = run(server.data, plant)
    server.start()
    yield Rig(server, secrets)
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


def send(client: Kept, rig: Rig, route: str, headers: list[Header]) -> Answer:
    method, pattern = route.split()
    id = {"/projects": PROJECT, "/groups": GROUP}.get(pattern[: pattern.index("/", 1)] if "{" in pattern else "", NO_ID)
    if routes()[route] == "another":
        id = rig.secrets.another
    values = {"hook_id": NO_ID, "hook_event_id": NO_ID, "trigger": "registry_push_events"}
    path = pattern.format(id=id, token_id=NO_ID, event_id=NO_ID, **values)
    body = json.dumps(BODIES.get(route, {})).encode() if method in ("POST", "PUT") else b""
    typed = [*headers, ("Content-Type", "application/json")] if body else headers
    answer = client.send(method, f"/api/v4{path}", typed, body)
    if answer.body and answer.status in (200, 201) and isinstance(document := json.loads(answer.body), dict):
        remember(document.get("token") or "nothing that is secret")
    return answer


def outcome_of(answer: Answer) -> Outcome:
    """What a response shows; a value or an id that is refused comes after the right."""
    document = json.loads(answer.body) if answer.body else None
    message = document.get("message") if isinstance(document, dict) else None
    if answer.status == 401:
        return Outcome.LOGIN
    if answer.status == 403:
        return Outcome.DENIED
    if answer.status == 404 and message in ("404 Project Not Found", "404 Group Not Found"):
        return Outcome.HIDDEN
    expected = answer.status < 300 or (answer.status, message) == (404, "404 User Not Found")
    expected |= (answer.status, message) == (404, "404 Deploy Token Not Found")
    expected |= (answer.status, message) == (404, "404 Access Token Not Found")
    expected |= (answer.status, message) in ((404, "404 Audit Event Not Found"), (404, "404 Hook Not Found"))
    assert expected or (answer.status == 400 and "username" in (message or "")), answer
    return Outcome.YES


def told(outcome: Outcome) -> Outcome:
    """An outcome as a status tells it: 401 is one, with a token and without."""
    return Outcome.LOGIN if outcome is Outcome.REFUSED else outcome


def expected(right: str, column: str, scope: str, method: str) -> Outcome:
    outcome = told(parse_cells(table()["people"]["cells"])[right, column])
    enough = right in table()["any-scope"]["rights"] or scope == "api" or (scope == "read_api" and method == "GET")
    return outcome if enough or column == "blocked" else Outcome.DENIED


@pytest.mark.parametrize("route", sorted(routes()))
def test_a_route_is_for_whom_the_table_says(rig: Rig, route: str) -> None:
    right, method, place = routes()[route], route.split()[0], list(routes()).index(route)
    # Whoever may end the other token does so last: an administrator.
    parties = sorted(rig.secrets.people.items(), key=lambda party: (party[0][0] == "admin", party[0][1] == "api"))
    with Kept(rig.server.port) as client:
        answer = send(client, rig, route, [])
        assert outcome_of(answer) is parse_cells(table()["people"]["cells"])[right, "anonymous"], answer
        for who, header in rig.secrets.others.items():
            answer = send(client, rig, route, [header])
            assert outcome_of(answer) is told(Outcome(table()["others"][who])), (who, answer)
        for (column, scope), secrets in parties:
            answer = send(client, rig, route, [("PRIVATE-TOKEN", secrets[place])])
            if right == "another" and column == "admin" and method == "POST" and answer.status == 400:
                assert b"was revoked" in answer.body  # by the route before
                continue
            assert outcome_of(answer) is expected(right, column, scope, method), (column, scope, answer)
            assert secrets[place].encode() not in answer.body


def test_the_table_names_every_route_of_users_and_tokens() -> None:
    others = tomllib.loads(Path(__file__).with_name("rest.toml").read_text())
    assert set(routes()) == set(others["routes"]["accounts"])
