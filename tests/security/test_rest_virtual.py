"""The matrix of virtual registries in the REST API: every cell of rest_virtual.toml at a running server."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.db import virtual_registries
from gateway.maintenance.virtual_caches import EntryName
from gateway.namespaces.role import Role
from tests.parts.canaries import found_below, found_in
from tests.parts.gateway import Gateway

from .authorisation import Outcome, parse_cells
from .kept import Answer, Header, Kept
from .test_rest_accounts import told
from .tree import Planter, run

pytestmark = pytest.mark.long

SCOPES = ("api", "read_api", "read_virtual_registry")
GROUP = "virtual"
UNKNOWN = [f"404 {what} Not Found" for what in ("Group", "Virtual Registry", "Upstream", "Registry Upstream")]
BODIES: dict[str, dict[str, object]] = {
    "registries": {"name": "all"},
    "upstreams": {"name": "up", "url": "http://unencrypted.example"},
    "registry_upstreams": {"position": 1},
}
"""What no request changes anything with, by the last word of the route: it is so, or it is refused."""


@cache
def table() -> Any:
    return tomllib.loads(Path(__file__).with_name("rest_virtual.toml").read_text())


def routes() -> dict[str, str]:
    """The right that each route needs."""
    return {route: right for right, routes in table()["routes"].items() for route in routes}


@dataclass(frozen=True)
class Secrets:
    """Tokens by the column and the scope, those of a job and of the group, and the ids of what there is."""

    people: dict[tuple[str, str], str]
    others: dict[str, Header]
    registry: int
    upstream: int
    share: int


@dataclass(frozen=True)
class Rig:
    server: Gateway
    secrets: Secrets


async def plant(planter: Planter) -> Secrets:
    group = await planter.group(GROUP)
    project = await planter.project(f"{GROUP}/app")
    people, users = dict[tuple[str, str], str](), dict[str, Any]()
    for column in ["stranger", "inside", *(role.word for role in Role), "admin", "blocked"]:
        name = {"admin": "adele"}.get(column, column)
        users[column] = user = await planter.user(name, admin=column == "admin", blocked=column == "blocked")
        if column == "inside":
            await planter.member(project.key, user, Role.GUEST)
        if column in (role.word for role in Role):
            await planter.member(group.key, user, next(role for role in Role if role.word == column))
        for scope in SCOPES:
            people[column, scope] = (await planter.personal(user, [scope])).secret
    job, _ = await planter.job(project, users["maintainer"])
    deploy = await planter.deploy(group.key, ["read_virtual_registry"])
    connection, now = planter.connection, planter.now
    registry = await virtual_registries.create_registry(connection, group.id, "all", "", now)
    values = {"url": "https://registry.example", "name": "up", "description": "", "cache_validity_hours": 24}
    login = {"username": None, "password_sealed": None}
    upstream, share = await virtual_registries.create_upstream(connection, registry, {**values, **login}, now)
    others = {"job": ("JOB-TOKEN", job.secret), "deploy": ("PRIVATE-TOKEN", deploy.secret)}
    return Secrets(people, others, registry.id, upstream.id, share.id)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Rig]:
    server = Gateway(tmp_path_factory.mktemp("rest-virtual"), {"workers": 2})
    secrets = run(server.data, plant)
    server.start()
    yield Rig(server, secrets)
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


def send(client: Kept, rig: Rig, route: str, headers: list[Header]) -> Answer:
    method, pattern = route.split()
    secrets, parts = rig.secrets, pattern.split("/")
    ids: dict[str, object] = {"groups": GROUP, "registries": secrets.registry, "upstreams": secrets.upstream}
    ids |= {"registry_upstreams": secrets.share, "cache_entries": EntryName(secrets.upstream, "a/manifests/b").id}
    id = ids[parts[parts.index("{id}") - 1]] if "{id}" in parts else ""
    document = BODIES[next(part for part in reversed(parts) if part in BODIES)] if method in ("POST", "PATCH") else {}
    document = document | {"registry_id": secrets.registry, "upstream_id": secrets.upstream}
    body = json.dumps(document).encode() if method in ("POST", "PATCH") else b""
    typed = [*headers, ("Content-Type", "application/json")] if body else headers
    return client.send(method, f"/api/v4{pattern.format(id=id)}", typed, body)


def outcome_of(answer: Answer) -> Outcome:
    """What a response shows; a value that is refused comes after the right."""
    document = json.loads(answer.body) if answer.body else None
    message = document.get("message") if isinstance(document, dict) else None
    if answer.status == 401:
        return Outcome.LOGIN
    if answer.status == 403:
        return Outcome.DENIED
    if answer.status == 404 and message in UNKNOWN:
        return Outcome.HIDDEN
    assert answer.status in (200, 204, 400) or message == "404 Not Found", answer
    return Outcome.YES


def expected(right: str, column: str, scope: str, method: str) -> Outcome:
    outcome = told(parse_cells(table()["people"]["cells"])[right, column])
    enough = scope in table()["scopes"]["reading" if method == "GET" else "changing"]
    return outcome if enough or column == "blocked" else Outcome.DENIED


@pytest.mark.parametrize("route", sorted(routes()))
def test_a_route_is_for_whom_the_table_says(rig: Rig, route: str) -> None:
    right, method = routes()[route], route.split()[0]
    with Kept(rig.server.port) as client:
        answer = send(client, rig, route, [])
        assert outcome_of(answer) is parse_cells(table()["people"]["cells"])[right, "anonymous"], answer
        for who, header in rig.secrets.others.items():
            answer = send(client, rig, route, [header])
            assert outcome_of(answer) is told(Outcome(table()["others"][who])), (who, answer)
        for (column, scope), secret in rig.secrets.people.items():
            wanted = expected(right, column, scope, method)
            if wanted is Outcome.YES and method == "DELETE" and "cache" not in route:
                continue  # it would end what the others are asked about
            answer = send(client, rig, route, [("PRIVATE-TOKEN", secret)])
            assert outcome_of(answer) is wanted, (column, scope, answer)
            assert secret.encode() not in answer.body


def test_the_table_names_every_route_of_virtual_registries() -> None:
    others = tomllib.loads(Path(__file__).with_name("rest.toml").read_text())
    assert set(routes()) == set(others["routes"]["virtual"])
