"""The matrix of the REST API: every cell of rest.toml, for each credential and route, at a running server."""

import json
import sqlite3
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api.app import route_table
from gateway.api.options import ApiOptions
from gateway.namespaces.node import Visibility
from gateway.namespaces.role import Role
from tests.parts.canaries import found_below, found_in
from tests.parts.gateway import Gateway

from .authorisation import ABSENT, Cells, Outcome, Party, parse_cells
from .kept import Answer, Header, Kept
from .parties import Groves, plant_all
from .test_authorisation import Differences, compare
from .tree import Planter, run

pytestmark = pytest.mark.long

NO_ID = 999_999
CHANGED = ("push", "delete-tag", "manage")
"""Rights to change repositories; those that are named have an id that none has, so that nothing is changed."""
PLACED = ("know", "pull", "push", "delete-tag", "manage", "admin", "own", "members", "jobs", "audit", "hooks")
"""Rights at a project."""
CELLS_OF = {"anywhere": "pull", "members": "know", "hooks": "admin"}
"""Rights of which each has the cells of another one, but is for nobody without a token."""
HOOK_VALUES = {"hook_id": NO_ID, "hook_event_id": NO_ID, "trigger": "registry_push_events"}
BODIES = {
    "POST /projects/{id}/members": {"user_id": NO_ID, "access_level": 10},
    "PUT /projects/{id}/members/{user_id}": {"access_level": 10},
    "PUT /projects/{id}/transfer": {"namespace": NO_ID},
    "PUT /groups/{id}": {"visibility": None},
    "PATCH /projects/{id}/job_token_scope": {"enabled": True},
    "POST /projects/{id}/job_token_scope/allowlist": {"target_project_id": NO_ID},
    "POST /projects/{id}/job_token_scope/groups_allowlist": {"target_group_id": NO_ID},
    "POST /projects/{id}/jobs": {"expires_at": "2020-01-01"},
    "PUT /groups/{id}/dependency_proxy": {"enabled": True},
    "PUT /groups/{id}/dependency_proxy/image_ttl_policy": {"ttl": 90},
    "POST /groups/{id}/transfer": {"group_id": NO_ID},
    "POST /groups/{id}/members": {"user_id": NO_ID, "access_level": 10},
    "PUT /groups/{id}/members/{user_id}": {"access_level": 10},
}
UNKNOWN = {
    "POST /projects/{id}/members": "User",
    "PUT /projects/{id}/transfer": "Namespace",
    "POST /groups/{id}/transfer": "Group",
    "POST /groups/{id}/members": "User",
    "POST /projects/{id}/job_token_scope/allowlist": "Project",
    "POST /projects/{id}/job_token_scope/groups_allowlist": "Group",
    "DELETE /projects/{id}/job_token_scope/allowlist/{target_id}": "Target Project",
    "DELETE /projects/{id}/job_token_scope/groups_allowlist/{target_id}": "Target Group",
    "GET /projects/{id}/jobs/{job_id}": "Job",
    "POST /projects/{id}/jobs/{job_id}/cancel": "Job",
}
"""What an allowed request names that there is not, so that it changes nothing."""
DISPOSALS = ("DELETE /projects/{id}", "DELETE /groups/{id}")
"""Routes that are requested by nobody whom they obey."""


@dataclass(frozen=True)
class RestTable:
    """The whole table. `routes`: the right that each needs, by `METHOD PATTERN`."""

    cells: Mapping[tuple[str, str], Cells]
    routes: Mapping[str, str]
    jobs: frozenset[str]
    reading: frozenset[str]
    changing: frozenset[str]


@cache
def read_table() -> RestTable:
    document = tomllib.loads(Path(__file__).with_name("rest.toml").read_text())
    routes = {route: right for right, routes in document["routes"].items() for route in routes}
    cells = {
        (section, right): parse_cells(text)
        for section in ("people", "job", "group")
        for right, text in document[section].items()
    }
    scopes = document["personal"]
    jobs = frozenset(document["jobs"]["routes"])
    return RestTable(cells, routes, jobs, frozenset(scopes["read"]), frozenset(scopes["change"]))


@dataclass(frozen=True)
class Rig:
    """The server, with all that is stored in it, and the ids of its repositories by their names."""

    server: Gateway
    groves: Groves
    ids: Mapping[str, int]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Rig]:
    server = Gateway(tmp_path_factory.mktemp("rest-authorisation"), {"workers": 2, "api": {"rate_limit": 0}})
    groves = run(server.data, plant_all)
    with closing(sqlite3.connect(server.data / "gateway.db")) as connection:
        ids = dict(connection.execute("SELECT path, id FROM repositories"))
    server.start()
    yield Rig(server, groves, ids)
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


def test_the_table_names_every_route_of_the_server() -> None:
    tree = SimpleNamespace(tree=None)
    native = SimpleNamespace(
        inventory=None, administration=SimpleNamespace(kept_until=None), bulk=None, protection_rules=None
    )
    names = "users personal_tokens deploy_tokens access_tokens jobs job_scopes webhooks virtual folder"
    accounts = dict.fromkeys(names.split())
    parts: Any = SimpleNamespace(directory=tree, native=native, audit=None, clock=None, **accounts)
    table = route_table(parts, ApiOptions("", "", None))  # type: ignore[arg-type]
    assert set(read_table().routes) == {f"{route.method} {route.pattern}" for route in table.routes}
    assert read_table().jobs == {f"{route.method} {route.pattern}" for route in table.routes if route.jobs}


def headers_of(party: Party) -> list[Header] | None:
    """The header with the token of a party; None for a password, which is not sent here."""
    if party.anonymous:
        return []
    if party.section == "job":
        return [("JOB-TOKEN", party.secret)]
    return [("PRIVATE-TOKEN", party.secret)] if party.section == "deploy" or party.scopes is not None else None


def expected(party: Party, row: str, route: str) -> Outcome:
    """The outcome of a route at a project."""
    table = read_table()
    right = table.routes[route]
    if party.section == "deploy":
        return Outcome.REFUSED
    placed = CELLS_OF.get(right, right)
    if party.section == "job":
        column = party.own.get(row, party.column)
        if column == "own" and party.label.endswith("by maintainer"):
            column = "own-maintainer"
        if column != "ended" and route not in table.jobs:
            return Outcome.DENIED
        return table.cells["job", placed if route in table.jobs else "pull"][row, column]
    cells = table.cells["people", placed]
    outcome = cells[row, party.column]
    if party.anonymous and (right in CELLS_OF or (right != "know" and not route.startswith("GET"))):
        return Outcome.LOGIN
    needed = table.reading if route.startswith("GET") else table.changing
    if party.scopes is not None and outcome is not Outcome.REFUSED and needed.isdisjoint(party.scopes):
        return Outcome.DENIED
    if party.scopes is not None and outcome is Outcome.YES and right == "manage":
        return Outcome.DENIED if table.changing.isdisjoint(party.scopes) else outcome
    return outcome


def shows(outcome: Outcome, answer: Answer, right: str) -> bool:
    """Whether a refusal shows as it should."""
    what = {"anywhere": "Repository"}.get(right, "Group" if right.startswith("group") else "Project")
    document = json.loads(answer.body)
    match outcome:
        case Outcome.DENIED:
            return answer.status == 403 and (
                document.get("error") == "insufficient_scope" or document["message"].startswith("403 Forbidden - ")
            )
        case Outcome.HIDDEN:
            return (answer.status, document) == (404, {"message": f"404 {what} Not Found"})
        case _:
            return answer.status == 401 and document["message"].startswith("401 Unauthorized")


def shows_allowed(answer: Answer, route: str) -> bool:
    """Whether an allowed request shows so. What is deleted, moved and restored has an id that no repository has."""
    if route == "PATCH /projects/{id}/job_token_scope":
        return (answer.status, answer.body) == (204, b"")
    document = json.loads(answer.body)
    if route == "POST /projects/{id}/jobs":  # which would have ended long ago
        return answer.status == 400 and "expires_at" in document["message"]
    if "/packages" in route:
        return answer.status == 404 and "/registry/repositories" in document["message"]
    if read_table().routes[route] in CHANGED and "{repository_id}" in route:
        return (answer.status, document) == (404, {"message": "404 Repository Not Found"})
    if route in UNKNOWN or route.endswith("{user_id}"):
        what = UNKNOWN.get(route, "Member")
        return (answer.status, document) == (404, {"message": f"404 {what} Not Found"})
    if "{hook_id}" in route:
        return (answer.status, document) == (404, {"message": "404 Hook Not Found"})
    if route.endswith("/hooks") and route.startswith("POST"):  # whose URL is not given
        return (answer.status, document) == (400, {"error": "url is missing"})
    if route.endswith("{event_id}"):
        return (answer.status, document) == (404, {"message": "404 Audit Event Not Found"})
    if route.endswith("{protection_rule_id}"):
        return (answer.status, document) == (404, {"message": "404 Protection Rule Not Found"})
    if route.startswith("POST") and "/protection/" in route:  # whose pattern is not given
        return answer.status == 400 and "_pattern is missing" in document["error"]
    if route == "DELETE /groups/{id}/dependency_proxy/cache":  # once an hour
        return answer.status in (202, 409)
    if "{image}" in route:
        return (answer.status, document) == (404, {"message": "404 Image Not Found"})
    if route == "PUT /groups/{id}":  # of which no property is given
        return answer.status == 400 and "must be provided" in document["error"]
    if "{tag_name}" in route:
        return (answer.status, document) == (404, {"message": "404 Tag Not Found"})
    return answer.status == 200


def path_of(rig: Rig, row: str, route: str) -> str:
    nine, pattern = rig.groves.group, route.split()[1]
    name = nine.name_of(row)
    project = nine.projects[row].path if row in nine.projects else name.rpartition("/")[0]
    id = rig.ids.get(name, NO_ID) if read_table().routes[route] not in CHANGED else NO_ID
    encoded = str(id) if pattern.startswith("/registry") else project.replace("/", "%2F")
    return "/api/v4" + pattern.format(
        id=encoded,
        repository_id=id,
        tag_name="absent",
        package_id=1,
        user_id=NO_ID,
        protection_rule_id=NO_ID,
        job_id=NO_ID,
        target_id=NO_ID,
        event_id=NO_ID,
        **HOOK_VALUES,
    )


def send(client: Kept, route: str, path: str, headers: list[Header], row: str) -> Answer:
    method, body = route.split()[0], b""
    if route.endswith("/tags") and method == "DELETE":
        path += "?name_regex_delete=.*"
    if method in ("PUT", "POST", "PATCH") and (method != "PATCH" or route in BODIES):
        switch = {"name": "x"}
        if route == "PUT /projects/{id}":
            switch = {"container_registry_access_level": row.partition("/")[2] or "enabled"}
        body = json.dumps(BODIES.get(route, switch)).encode()
        headers = [*headers, ("Content-Type", "application/json")]
    return client.send(method, path, headers, body)


def test_each_route_is_for_whom_the_table_says(rig: Rig) -> None:
    parties = [party for party in rig.groves.parties if headers_of(party) is not None]
    work = [lambda client, differences, party=party: ask(client, differences, rig, party) for party in parties]
    compare(rig.server, work).check(at_least=len(parties) * 55)


def ask(client: Kept, differences: Differences, rig: Rig, party: Party) -> None:
    """Compares all that one party may do at the nine projects, and at one that does not exist."""
    headers = headers_of(party) or []
    for route, right in read_table().routes.items():
        if right not in (*PLACED, "anywhere") or "/packages" in route:
            continue
        for row in [*rig.groves.group.projects, ABSENT]:
            if right == "admin" and row == ABSENT and party.section == "job":
                continue
            outcome = expected(party, row, route)
            if outcome is Outcome.YES and route in DISPOSALS:
                continue
            answer = send(client, route, path_of(rig, row, route), headers, row)
            right_answer = shows_allowed(answer, route) if outcome is Outcome.YES else shows(outcome, answer, right)
            repeated = not party.anonymous and party.secret.encode() in answer.body
            where = f"{party.label} / {row} / {route}"
            differences.note(right_answer and not repeated, f"{where}: not {outcome}", answer)


def test_the_list_of_the_group_holds_what_may_be_pulled(rig: Rig) -> None:
    parties = [
        party
        for party in rig.groves.parties
        if party.anonymous or (party.scopes is not None and not party.scopes.isdisjoint(read_table().reading))
    ]
    work = [lambda client, differences, party=party: ask_group(client, differences, rig, party) for party in parties]
    compare(rig.server, work).check(at_least=len(parties) * 2)


def ask_group(client: Kept, differences: Differences, rig: Rig, party: Party) -> None:
    nine, headers = rig.groves.group, headers_of(party) or []
    group = f"/api/v4/groups/{nine.place.replace('/', '%2F')}"
    outcomes = {
        nine.name_of(row): expected(party, row, "GET /projects/{id}/registry/repositories") for row in nine.projects
    }
    answer = client.send("GET", f"{group}/registry/repositories?per_page=100", headers)
    shown = client.send("GET", group, headers)
    if Outcome.REFUSED in outcomes.values():
        differences.note(answer.status == shown.status == 401, party.label, answer)
        differences.note(shown.status == 401, party.label, shown)
        return
    names = sorted(name for name, outcome in outcomes.items() if outcome is Outcome.YES)
    listed = [entry["path"] for entry in json.loads(answer.body)]
    differences.note(listed == names, f"{party.label}: not {names}", answer)
    differences.note(shown.status == 200, party.label, shown)


def test_the_server_shows_itself_to_every_token_of_the_api(rig: Rig) -> None:
    with Kept(rig.server.port) as client:
        for route in (route for route, right in read_table().routes.items() if right == "self"):
            for party in rig.groves.parties:
                if (headers := headers_of(party)) is None:
                    continue
                answer = client.send("GET", f"/api/v4{route.split()[1]}", headers)
                ended = party.column in ("ended", "blocked") or party.section == "deploy" or party.anonymous
                narrow = party.section == "job" or read_table().reading.isdisjoint(party.scopes or ())
                assert answer.status == (401 if ended else 403 if narrow else 200), (route, party.label, answer)


def test_a_job_is_shown_to_its_own_token_alone(rig: Rig) -> None:
    with Kept(rig.server.port) as client:
        for party in rig.groves.parties:
            if (headers := headers_of(party)) is None:
                continue
            answer = client.send("GET", "/api/v4/job", headers)
            assert answer.status == (200 if party.section == "job" and party.column != "ended" else 401), party.label


async def plant_groups(planter: Planter) -> dict[str, str]:
    """A group of each visibility with a member of each role; the secret of a token of each column."""
    columns = dict.fromkeys(column for _, column in read_table().cells["group", "know"] if column != "anonymous")
    people = {
        column: await planter.user(
            f"grouped-{column}", admin=column == "admin", external=column == "outsider", blocked=column == "blocked"
        )
        for column in columns
    }
    for visibility in Visibility:
        group = await planter.group(f"grouped-in-{visibility}", visibility)
        for role in Role:
            await planter.member(group.key, people[role.word], role)
        await planter.member(group.key, people["blocked"], Role.OWNER)
    return {column: (await planter.personal(user, ["api"])).secret for column, user in people.items()}


def test_each_route_of_a_group_is_for_whom_the_table_says(rig: Rig) -> None:
    secrets = run(rig.server.data, plant_groups)
    table, asked = read_table(), 0
    with Kept(rig.server.port) as client:
        for route, right in table.routes.items():
            section = right.removeprefix("group-")
            if section == right:
                continue
            for (row, column), outcome in table.cells["group", section].items():
                if outcome is Outcome.YES and route in DISPOSALS:
                    continue
                headers = [("PRIVATE-TOKEN", secrets[column])] if column != "anonymous" else []
                values = {
                    "id": f"grouped-in-{row}",
                    "user_id": NO_ID,
                    "event_id": NO_ID,
                    "image": "absent",
                    **HOOK_VALUES,
                }
                path = "/api/v4" + route.split()[1].format(**values)
                answer = send(client, route, path, headers, row)
                allowed = outcome is Outcome.YES and shows_allowed(answer, route)
                assert allowed or shows(outcome, answer, right), (route, row, column, outcome, answer)
                asked += 1
    assert asked > 400


def test_lists_of_the_tree_are_for_everybody_and_new_nodes_for_people(rig: Rig) -> None:
    with Kept(rig.server.port) as client:
        for route in (route for route, right in read_table().routes.items() if right in ("lists", "new")):
            method, pattern = route.split()
            answer = client.send(method, f"/api/v4{pattern}", [], b"")
            assert answer.status == (200 if method == "GET" else 401), (route, answer)
