"""The matrix of the web pages: every page and form, for each person, at a running server."""

import sqlite3
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.gateway.web.browsing import Elements
from tests.gateway.web.listing import every_route
from tests.parts.canaries import found_below, found_in, remember
from tests.parts.gateway import Gateway

from .authorisation import ABSENT, Outcome, Party
from .kept import Answer, Header, Kept
from .parties import Groves, plant_all
from .test_authorisation import Differences, compare
from .test_rest_authorisation import plant_groups, read_table
from .tree import PASSWORD, run

pytestmark = pytest.mark.long

NO_ID = 999_999
PLACED = ("know", "members", "pull", "push", "delete-tag", "manage", "admin", "own")
"""Rights at a project."""
OF_REGISTRY = ("pull", "push", "delete-tag", "manage")
"""Rights at a registry, which is not found where it is off."""
TOKEN_KINDS = ("access_tokens", "deploy_tokens")
ALLOWED = {
    "GET /{project:path}/container_registry/{id}/remove_tags": 303,  # it leads to the tags
    "GET /{project:path}/container_registry/{id}/tags/{tag}": 404,  # there is no tag
    "POST /{project:path}/container_registry/{id}/tags/{tag}/restore": 409,  # there never was one
    "POST /{project:path}/container_registry/{id}/remove_tags": 400,  # none is marked
    "POST /{project:path}/container_registry/{id}/delete": 422,  # nothing is typed
    "POST /{project:path}/container_registry/{id}/restore": 404,  # nothing is deleted
    "POST /{project:path}/edit": 400,  # nothing is chosen
    "POST /{project:path}/-/settings/packages_and_registries": 422,
    **dict.fromkeys((f"POST /{{project:path}}/-/settings/{kind}" for kind in TOKEN_KINDS), 400),  # no role is named
    "POST /{project:path}/-/settings/deploy_tokens": 422,
    **{
        f"{method} /{{project:path}}/-/settings/{kind}/{{id}}/revoke": 404
        for method in ("GET", "POST")
        for kind in TOKEN_KINDS
    },
    "POST /{project:path}/container_registry/{id}/move": 422,
    "POST /{project:path}/-/settings/path": 422,
    "POST /{project:path}/-/settings/transfer": 422,
    "POST /{project:path}/-/settings/delete": 422,
    "POST /{project:path}/-/settings/protection_rules": 400,
    "POST /{project:path}/-/settings/protection_rules/{id}": 404,
    "GET /{project:path}/-/settings/protection_rules/{id}/delete": 404,
    "POST /{project:path}/-/settings/protection_rules/{id}/delete": 404,
    "POST /{project:path}/-/settings/quota": 422,
    "POST /{project:path}/-/project_members": 422,  # nobody is named
    "POST /{project:path}/-/project_members/{id}": 404,  # the user is no member, here and below
    "GET /{project:path}/-/project_members/{id}/remove": 404,
    "POST /{project:path}/-/project_members/{id}/remove": 404,
}
"""The status of an allowed request that is not 200; a form names nothing, so that it changes nothing."""

_PROXY, _MEMBERS = "/groups/{group:path}/-/dependency_proxy", "/groups/{group:path}/-/group_members"
_TOKENS = "/groups/{group:path}/-/settings"
ALLOWED_OF_GROUPS = {
    f"POST {_TOKENS}/quota": {422},
    f"POST {_TOKENS}/path": {422},
    f"POST {_TOKENS}/transfer": {422},
    f"POST {_TOKENS}/delete": {422},
    "POST /groups/{group:path}/-/edit": {400},
    f"POST {_TOKENS}/access_tokens": {400},
    f"POST {_TOKENS}/deploy_tokens": {422},
    **{f"{method} {_TOKENS}/{kind}/{{id}}/revoke": {404} for method in ("GET", "POST") for kind in TOKEN_KINDS},
    f"GET {_PROXY}/image": {200, 404},  # administrators see what nobody has pulled
    f"POST {_MEMBERS}": {422},  # nobody is named
    f"POST {_MEMBERS}/{{id}}": {404},
    f"GET {_MEMBERS}/{{id}}/remove": {404},
    f"POST {_MEMBERS}/{{id}}/remove": {404},
    f"POST {_PROXY}/purge": {303, 409},  # once an hour
    f"POST {_PROXY}/image/refresh": {404},
    f"POST {_PROXY}/image/evict": {404},
    f"POST {_PROXY}/image/pin": {303},
    f"POST {_PROXY}/image/unpin": {303, 400},
}
"""The statuses of an allowed request at a group, for an image that nobody has pulled."""


@cache
def rights() -> Mapping[str, str]:
    """The right that each page and form needs."""
    document = tomllib.loads(Path(__file__).with_name("pages.toml").read_text())
    return {route: right for right, routes in document["routes"].items() for route in routes}


@dataclass(frozen=True)
class Rig:
    """The server, with all that is stored in it, and the ids of its repositories by their names."""

    server: Gateway
    groves: Groves
    ids: Mapping[str, int]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Rig]:
    server = Gateway(tmp_path_factory.mktemp("pages-authorisation"), {"workers": 2})
    groves = run(server.data, plant_all)
    with closing(sqlite3.connect(server.data / "gateway.db")) as connection:
        ids = dict(connection.execute("SELECT path, id FROM repositories"))
    server.start()
    yield Rig(server, groves, ids)
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


class Visitor:
    """A person who is signed in, or a stranger, over one connection."""

    def __init__(self, client: Kept, server: Gateway, party: Party) -> None:
        self._client = client
        self._origin: Header = ("Origin", server.url)
        self._cookies: dict[str, str] = {}
        self.token = "none"
        if not party.anonymous:
            self.token = token_in(self.get("/users/sign_in"))
            answer = self.post("/users/sign_in", [("username", party.username), ("password", PASSWORD)])
            assert answer.status == 303, answer
            self.token = token_in(self.get("/-/profile"))

    def get(self, path: str) -> Answer:
        return self._send("GET", path, [], b"")

    def post(self, path: str, fields: list[tuple[str, str]]) -> Answer:
        body = urlencode([("csrf_token", self.token), *fields]).encode()
        return self._send("POST", path, [("Content-Type", "application/x-www-form-urlencoded"), self._origin], body)

    def _send(self, method: str, path: str, headers: list[Header], body: bytes) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        answer = self._client.send(method, path, [("Accept", "text/html"), ("Cookie", cookies), *headers], body)
        for name, line in answer.headers:
            if name == "set-cookie":
                key, _, value = line.partition(";")[0].partition("=")
                self._cookies[key] = remember(value) if len(value) > 10 else value
        return answer


def token_in(page: Answer) -> str:
    found = [e for e in Elements(page.body.decode()).found if e.attributes.get("name") == "csrf_token"]
    assert found, page
    return str(found[0].attributes["value"])


def test_the_table_names_every_page_and_form() -> None:
    assert sorted(rights()) == sorted(route.name for route in every_route())


def people(rig: Rig) -> list[Party]:
    """A person of each column of the table, and nobody; who is blocked does not sign in."""
    found = {party.column: party for party in rig.groves.parties if party.thorough and party.scopes is None}
    columns = {column for _, column in read_table().cells["people", "pull"]} - {"blocked"}
    return [party for column, party in found.items() if column in columns and party.section == "people"]


def expected(right: str, row: str, party: Party) -> Outcome:
    """The outcome at a project. What a stranger may not do leads to the sign-in page, also where it is denied."""
    cells = read_table().cells["people", "know" if right == "members" else right]
    outcome = Outcome.LOGIN if right == "members" and party.anonymous else cells[row, party.column]
    if row.endswith("/disabled") and right in OF_REGISTRY:
        outcome = Outcome.HIDDEN
    return Outcome.LOGIN if party.anonymous and outcome is not Outcome.YES else outcome


def shows(outcome: Outcome, route: str, answer: Answer) -> bool:
    """Whether a response is that of an outcome."""
    match outcome:
        case Outcome.YES:
            return answer.status == ALLOWED.get(route, 200)
        case Outcome.DENIED:
            return answer.status == 403 and b"You may not do this" in answer.body
        case Outcome.HIDDEN:
            return answer.status == 404
        case _:
            return answer.status == 303 and (answer.header("location") or "").startswith("/users/sign_in")


def path_of(rig: Rig, row: str, route: str) -> str:
    nine = rig.groves.group
    name = nine.name_of(row)
    project = nine.projects[row].path if row in nine.projects else name.rpartition("/")[0]
    is_restore = route.endswith("/restore") and "{tag}" not in route
    id = NO_ID if is_restore or "container_registry" not in route else rig.ids.get(name, NO_ID)
    path = route.split()[1].replace("{project:path}", project)
    return path.replace("{id}", str(id)).replace("{tag}", "absent")


def test_each_page_is_for_whom_the_table_says(rig: Rig) -> None:
    parties = people(rig)
    assert len(parties) == 10
    work = [lambda client, differences, party=party: ask(client, differences, rig, party) for party in parties]
    compare(rig.server, work).check(at_least=len(parties) * 130)


def ask(client: Kept, differences: Differences, rig: Rig, party: Party) -> None:
    """Compares all that one person may do at the nine projects, and at one that does not exist."""
    visitor = Visitor(client, rig.server, party)
    for route, right in rights().items():
        if right not in PLACED:
            continue
        for row in [*rig.groves.group.projects, ABSENT]:
            path = path_of(rig, row, route)
            answer = visitor.get(path) if route.startswith("GET") else visitor.post(path, [("quota", "absent")])
            outcome = expected(right, row, party)
            where = f"{party.label} / {row} / {route}"
            differences.note(shows(outcome, route, answer), f"{where}: not {outcome}", answer)


def test_what_is_ones_own_is_for_who_is_signed_in(rig: Rig) -> None:
    with Kept(rig.server.port) as client:
        stranger = Visitor(client, rig.server, Party("anonymous"))
        for route, right in rights().items():
            if right == "self" or right.startswith("group"):
                method, path = route.replace("{group:path}", "hidden").replace("{id}", "1").split()
                answer = stranger.get(path) if method == "GET" else stranger.post(path, [])
                assert shows(Outcome.LOGIN, route, answer), (route, answer)


def test_each_page_of_a_group_is_for_whom_the_table_says(rig: Rig) -> None:
    secrets, table, asked = run(rig.server.data, plant_groups), read_table(), 0
    with Kept(rig.server.port) as client:
        for column in ["anonymous", *(column for column in secrets if column != "blocked")]:
            party = Party(column, f"grouped-{column}", secrets.get(column, ""))
            visitor = Visitor(client, rig.server, party)
            for route, right in rights().items():
                if not right.startswith("group-"):
                    continue
                cells = table.cells["group", "own" if right == "group-pin" else right.removeprefix("group-")]
                for (row, of), outcome in cells.items():
                    if of != column:
                        continue
                    answer = of_group(visitor, route, f"grouped-in-{row}")
                    if right == "group-pin" and column == "owner" and outcome is Outcome.YES:
                        outcome = Outcome.DENIED
                    if party.anonymous and outcome is not Outcome.YES:
                        outcome = Outcome.LOGIN
                    allowed = outcome is Outcome.YES and answer.status in ALLOWED_OF_GROUPS.get(route, {200})
                    assert allowed or shows(outcome, route, answer), (route, row, column, outcome, answer)
                    asked += 1
    assert asked > 300


def of_group(visitor: Visitor, route: str, group: str) -> Answer:
    """The response to a request for a page of a group, where it names an image that nobody has pulled."""
    method, path = route.replace("{group:path}", group).replace("{id}", str(NO_ID)).split()
    if method == "POST":
        return visitor.post(path, [(field, "absent") for field in ("image", "quota", "above")])
    return visitor.get(f"{path}?image=absent")


def test_pages_of_administrators_are_for_nobody_else(rig: Rig) -> None:
    routes = [route for route, right in rights().items() if right == "administrators"]
    with Kept(rig.server.port) as client:
        for party in people(rig):
            visitor = Visitor(client, rig.server, party)
            for route in routes:
                method, path = route.replace("{id}", str(NO_ID)).split()
                answer = visitor.get(path) if method == "GET" else visitor.post(path, [])
                if party.column == "admin":
                    begun = 303 if path == "/admin/doctor" else 422
                    assert answer.status == (404 if "{id}" in route else begun if method == "POST" else 200), route
                else:
                    outcome = Outcome.LOGIN if party.anonymous else Outcome.DENIED
                    assert shows(outcome, route, answer), (party.label, route, answer)


def test_the_registry_of_a_group_holds_what_may_be_pulled(rig: Rig) -> None:
    nine = rig.groves.group
    with Kept(rig.server.port) as client:
        for party in people(rig):
            visitor = Visitor(client, rig.server, party)
            page = visitor.get(f"/groups/{nine.place}/-/container_registries").body.decode()
            cells = read_table().cells["people", "pull"]
            for row in nine.projects:
                shown = f">{nine.name_of(row)}</a>" in page
                assert shown == (cells[row, party.column] is Outcome.YES), (party.label, row)
