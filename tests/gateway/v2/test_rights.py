"""Rights at the surface: what a refused request is told, what it is not told, and what the log has of it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, event
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from cache.oci.names import RepositoryName
from gateway.auth.matrix import Action
from gateway.auth.principal import ANONYMOUS, AccessList, Principal, PrincipalKind
from gateway.auth.scopes import SCOPE_LIMIT
from gateway.cli import folder
from gateway.db import groups, members, projects, users
from gateway.db.sqlite_engine import SqliteTransactions
from gateway.namespaces.credentials import CredentialKind, CredentialRef, DeployToken, Job, Scope
from gateway.namespaces.locate import Root
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.role import Role
from gateway.namespaces.user import User
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2 import opener
from gateway.v2.opener import RegistryOptions, RepositoryOpener
from gateway.v2.root_selection import root_table
from gateway.wiring.app import create_app
from gateway.wiring.lifespan import open_services
from tests.gateway.asgi import Exchange, send_request
from tests.gateway.vectors import DIGEST

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
ROOTS = root_table("http://127.0.0.1:8080", {"docker.io": "https://registry-1.docker.io"}, "closed", {})
OPTIONS = RegistryOptions(open_proxy=True)
REQUESTS = [
    *(
        (method, f"manifests/{reference}")
        for method in ("GET", "HEAD", "PUT", "DELETE")
        for reference in ("v1", DIGEST)
    ),
    *((method, f"blobs/{DIGEST}") for method in ("GET", "HEAD", "DELETE")),
    *(("POST", "blobs/uploads/"), ("PATCH", "blobs/uploads/1"), ("PUT", "blobs/uploads/1")),
    *(("GET", "tags/list"), ("GET", f"referrers/{DIGEST}")),
]

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Presented:
    """Authenticator that takes the principal which a test presents."""

    principal = ANONYMOUS

    async def authenticate(self, scope: Mapping[str, Any]) -> Principal:
        return self.principal


@dataclass(frozen=True)
class Surface:
    services: Services
    presented: Presented
    people: dict[str, User]

    async def request(self, principal: Principal, method: str, path: str) -> Exchange:
        self.presented.principal = principal
        return await send_request(self._app, method, path, [("X-Request-Id", "one")])

    @cached_property
    def _app(self) -> ASGIApp:
        return create_app(self.services, ROOTS, OPTIONS)

    def person(self, name: str) -> Principal:
        user = self.people[name]
        return Principal(PrincipalKind.USER, name, user, None, CredentialRef(CredentialKind.PASSWORD, user.id))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surface]:
    data: Path = tmp_path_factory.mktemp("rights") / "data"
    settings = Settings.model_validate({"data": str(data)})
    people = {}
    async with folder.open_made(settings) as database, database.write() as connection:
        for name in ("root", "stranger", "guest", "reporter", "maintainer"):
            people[name] = await users.create(connection, name, NOW, admin=name == "root")
        for path in ("closed", "off", "open"):
            await groups.create(connection, path, NOW)
        off = await groups.get(connection, "off")
        await groups.update(connection, replace(off, proxy_enabled=False))
        shown = await groups.get(connection, "open")
        await groups.update(connection, replace(shown, visibility=Visibility.PUBLIC))
        app = await projects.create(connection, "closed/app", NOW)
        shut = await projects.create(connection, "open/shut", NOW, visibility=Visibility.PUBLIC)
        await projects.update(connection, replace(shut, registry=RegistryAccess.DISABLED))
        await projects.create(connection, "open/shown", NOW, visibility=Visibility.PUBLIC)
        for role in (Role.GUEST, Role.REPORTER, Role.MAINTAINER):
            await members.add(connection, Member(app.key, people[role.word].id, role, None, NOW))
        await members.add(
            connection, Member(NodeKey(NodeKind.GROUP, off.id), people["guest"].id, Role.GUEST, None, NOW)
        )
    async with open_services(settings) as services:
        presented: Any = Presented()
        yield Surface(replace(services, authenticator=presented), presented, people)


def strangers(surface: Surface) -> dict[str, Principal]:
    """Principals who must not know that the private group and project exist."""
    elsewhere = NodeKey(NodeKind.PROJECT, 99)
    token = DeployToken(1, elsewhere, "ci", "ci", frozenset(Scope), NOW)
    job = Job(1, elsewhere.id, surface.people["maintainer"].id, None, NOW, datetime(2999, 1, 1, tzinfo=UTC))
    listed = AccessList({"closed/app/image": frozenset({"pull", "push", "delete", "*"})}, job.expires_at)
    return {
        "anonymous": ANONYMOUS,
        "anonymous Bearer": replace(ANONYMOUS, limits=listed),
        "user": surface.person("stranger"),
        "user's Bearer": replace(surface.person("stranger"), limits=listed),
        "deploy token": Principal(PrincipalKind.DEPLOY_TOKEN, "ci", None, token, token.ref),
        "job": Principal(
            PrincipalKind.JOB_TOKEN,
            "maintainer",
            surface.people["maintainer"],
            job,
            CredentialRef(CredentialKind.JOB_TOKEN, 1),
        ),
    }


STRANGERS = ["anonymous", "anonymous Bearer", "user", "user's Bearer", "deploy token", "job"]
PAIRS = {  # hidden and absent, of one length
    "closed/app/image": "absent/ap/image",
    "closed/app": "absent/app",
    "closed/dependency_proxy/containers/alpine": "absent/dependency_proxy/containers/alpine",
    "closed/dependency_proxy/containers/nope.example/alpine": "absent/dependency_proxy/containers/nope.example/alpine",
    "off/dependency_proxy/containers/alpine": "abs/dependency_proxy/containers/alpine",
}


TOKEN_QUERY = "/jwt/auth?service=registry-gateway&scope=repository:"


ROUTES = [
    *(("GET", "/v2/{}/manifests/v1"), ("GET", "/v2/{}/blobs/" + DIGEST), ("GET", "/v2/{}/tags/list")),
    *(("GET", "/v2/{}/referrers/" + DIGEST), ("POST", "/v2/{}/blobs/uploads/"), ("DELETE", "/v2/{}/manifests/v1")),
    *(("GET", TOKEN_QUERY + "{}:pull"), ("GET", TOKEN_QUERY + "{0}:pull,push&scope=repository:{0}x:pull")),
]


@pytest.mark.parametrize("state", ["in memory", "on a fresh worker"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("hidden", PAIRS)
@pytest.mark.parametrize("who", ["anonymous", "user's Bearer", "deploy token", "job"])
async def test_a_hidden_name_costs_the_queries_of_an_absent_one(
    surface: Surface, who: str, hidden: str, method: str, path: str, state: str
) -> None:
    """By name: below a project each one is new. In memory are the principal, the group and the project, or nothing."""
    principal, directory = strangers(surface)[who], surface.services.directory
    presented = replace(principal, limits=None) if path.startswith(TOKEN_QUERY) else principal
    tree = (directory._groups, directory._projects, directory._located)
    counted: list[tuple[int, ...]] = []
    for name in (hidden, PAIRS[hidden]):
        below = "" if "dependency_proxy" in name else "/{}"
        await surface.request(presented, method, path.format(name + below.format("warm")))
        for memory in tree if state == "in memory" else (*tree, directory._memberships, directory._paths):
            memory.forget_absences() if state == "in memory" else memory.drop_all()
        with statements(surface) as seen:
            counts = []
            for repository in ("one", "one", "two"):
                await surface.request(presented, method, path.format(name + below.format(repository)))
                counts.append(len(seen))
            counted.append(tuple(counts))
    assert counted[0] == counted[1]
    assert 0 < counted[0][0] == counted[0][1]


async def test_many_scopes_cost_the_queries_of_one(surface: Surface) -> None:
    counted = []
    for number in (1, SCOPE_LIMIT):
        names = [f"{first}/new-{number}-{n}" for n in range(number) for first in ("closed/app", "absent")][:number]
        with statements(surface) as seen:
            scopes = "&scope=repository:".join(f"{name}:pull,push" for name in names)
            assert (await surface.request(surface.person("reporter"), "GET", TOKEN_QUERY + scopes)).status == 200
            counted.append(len(seen))
    assert counted[1] <= counted[0] + 3 and counted[1] <= 5


@contextmanager
def statements(surface: Surface) -> Iterator[list[str]]:
    """The queries that the directory sends to the database."""
    seen: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            seen.append(statement)

    transactions = surface.services.directory._database._transactions
    assert isinstance(transactions, SqliteTransactions)
    engine = transactions._reader._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("hidden", PAIRS)
@pytest.mark.parametrize("who", STRANGERS)
async def test_what_is_hidden_is_refused_as_if_it_did_not_exist(surface: Surface, who: str, hidden: str) -> None:
    principal, absent = strangers(surface)[who], PAIRS[hidden]
    for method, resource in REQUESTS:
        first = await surface.request(principal, method, f"/v2/{hidden}/{resource}")
        other = await surface.request(principal, method, f"/v2/{absent}/{resource}")
        assert first.status == other.status == (401 if principal.is_anonymous else 404), (method, resource)
        words = ((hidden, absent), (hidden.split("/")[0], absent.split("/")[0]))
        body, challenge = first.body, first.headers.get("www-authenticate") or ""
        for word, instead in words:
            body, challenge = body.replace(word.encode(), instead.encode()), challenge.replace(word, instead)
        assert body == other.body
        assert challenge == (other.headers.get("www-authenticate") or "")
        lengths = [("content-length", str(len(found.body))) for found in (first, other)]
        assert lengths[0] in first.headers.lines and lengths[1] in other.headers.lines
        named = ("content-length", "www-authenticate")  # compared above
        rest = [[line for line in found.headers.lines if line[0] not in named] for found in (first, other)]
        assert rest[0] == rest[1]


@pytest.mark.parametrize("who", ["anonymous", "user"])
async def test_what_is_hidden_is_refused_as_fast_as_what_does_not_exist(surface: Surface, who: str) -> None:
    principal = strangers(surface)[who]
    hidden, absent = "/v2/closed/app/image/manifests/v1", "/v2/absent/ap/image/manifests/v1"
    took: dict[str, list[float]] = {hidden: [], absent: []}
    for _ in range(300):
        for path, times in took.items():
            began = thread_time()
            await surface.request(principal, "GET", path)
            times.append(thread_time() - began)
    assert abs(median(took[hidden]) - median(took[absent])) < 200e-6


@pytest.mark.parametrize(
    ("who", "method", "name", "status", "code", "says"),
    [
        ("guest", "GET", "closed/app/x", 403, "DENIED", "guest of project 'closed/app'"),
        ("reporter", "GET", "closed/app/x", 404, "MANIFEST_UNKNOWN", "closed/app/x has no tag v1"),
        ("reporter", "PUT", "closed/app/x", 403, "DENIED", "developers and above may push"),
        ("reporter", "DELETE", "closed/app/x", 403, "DENIED", "maintainers and above may delete"),
        ("maintainer", "PUT", "closed/app/x", 400, "MANIFEST_INVALID", "not a JSON document"),
        ("maintainer", "DELETE", "closed/app/x", 404, "MANIFEST_UNKNOWN", "closed/app/x has no tag v1"),
        ("root", "GET", "closed/app/x", 404, "MANIFEST_UNKNOWN", "has no tag"),
        ("root", "GET", "open/shut/x", 403, "DENIED", "disabled"),
        ("root", "PUT", "open/shut/x", 403, "DENIED", "disabled"),
        ("root", "PUT", "closed/dependency_proxy/containers/x", 405, "UNSUPPORTED", "only be pulled"),
        ("stranger", "GET", "open/shut/x", 403, "DENIED", "disabled"),
        ("stranger", "GET", "open/shown/x", 404, "MANIFEST_UNKNOWN", "has no tag"),
        ("stranger", "GET", "open/dependency_proxy/containers/x", 403, "DENIED", "no member of group 'open'"),
        ("guest", "GET", "off/dependency_proxy/containers/x", 404, "NAME_UNKNOWN", "is off"),
        ("root", "GET", "closed/dependency_proxy/containers/nope.example/x", 404, "NAME_UNKNOWN", "not configured"),
        ("root", "PUT", "closed/dependency_proxy/containers/nope.example/x", 404, "NAME_UNKNOWN", "not configured"),
    ],
)
async def test_who_may_know_of_something_is_told_why(
    surface: Surface, who: str, method: str, name: str, status: int, code: str, says: str
) -> None:
    found = await surface.request(surface.person(who), method, f"/v2/{name}/manifests/v1")
    assert (found.status, found.error["code"]) == (status, code)
    assert says in found.error["message"]


async def test_a_bearer_token_that_lists_too_little_is_told_so(surface: Surface) -> None:
    listed = AccessList({"closed/app/x": frozenset({"pull"})}, datetime(2999, 1, 1, tzinfo=UTC))
    principal = replace(surface.person("maintainer"), limits=listed)
    for name, method, status in [("x", "GET", 404), ("x", "PUT", 401), ("y", "GET", 401)]:
        found = await surface.request(principal, method, f"/v2/closed/app/{name}/manifests/v1")
        assert found.status == status
    assert "does not list pull of 'closed/app/y'" in found.error["message"]


@pytest.mark.parametrize(
    ("who", "name", "reason"),
    [
        ("stranger", "closed/app/x", "project 'closed/app' is private, and user 'stranger' has no part in it"),
        ("stranger", "absent/app/x", "there is nothing at 'absent/app/x'"),
        ("guest", "closed/app/x", "user 'guest' is guest of project 'closed/app'"),
    ],
)
async def test_the_log_has_the_reason_also_where_the_client_is_not_told(
    surface: Surface, who: str, name: str, reason: str
) -> None:
    with capture_logs() as events:
        found = await surface.request(surface.person(who), "GET", f"/v2/{name}/manifests/v1")
    (line,) = [event for event in events if event["event"] == "request"]
    assert reason in line["reason"]
    assert (reason.encode() in found.body) is (who == "guest")
    assert line["principal"] == f"user {who!r}"


@pytest.mark.parametrize(
    ("method", "path", "kind", "subject"),
    [
        ("GET", "closed/app/x/manifests/v1", "manifest", {"project": "closed/app"}),
        ("POST", "closed/app/x/blobs/uploads/", "upload", {"project": "closed/app"}),
        ("PATCH", "closed/app/x/blobs/uploads/1", "upload", {"project": "closed/app"}),
        ("DELETE", f"closed/app/x/blobs/{DIGEST}", "blob", {"project": "closed/app"}),
        ("GET", "off/dependency_proxy/containers/alpine/tags/list", "tags", {"group": "off"}),
        (
            "GET",
            "closed/dependency_proxy/containers/alpine/tags/list",
            "tags",
            {"group": "closed", "upstream": "docker.io"},
        ),
        ("GET", "absent/x/manifests/v1", None, {}),
    ],
)
async def test_the_log_names_what_a_refused_request_was_about(
    surface: Surface, method: str, path: str, kind: str | None, subject: dict[str, str]
) -> None:
    with capture_logs() as events:
        await surface.request(surface.person("stranger"), method, f"/v2/{path}")
    (line,) = [event for event in events if event["event"] == "request"]
    assert (line["kind"], line["reason"] is None) == (kind, False)
    assert {name: line[name] for name in ("project", "group", "upstream") if line[name]} == subject


async def test_a_job_that_pushes_elsewhere_is_told_where_it_may(surface: Surface) -> None:
    job = strangers(surface)["job"]
    for name in ("closed/app/image", "closed/absent/image", "absent/image", "open/absent/image"):
        found = await surface.request(job, "POST", f"/v2/{name}/blobs/uploads/")
        assert found.status == 404
        assert "a job may push in its own project alone, at CI_REGISTRY_IMAGE or below" in found.error["message"]
    found = await surface.request(job, "POST", "/v2/open/shown/image/blobs/uploads/")
    assert (found.status, found.error["code"]) == (403, "DENIED")
    assert found.error["message"].endswith(
        "a job does so in its own project alone, so use a deploy token of that project"
    )


async def test_what_is_permitted_has_no_reason_in_the_log(surface: Surface) -> None:
    with capture_logs() as events:
        await surface.request(surface.person("reporter"), "GET", "/v2/")
    assert [event["reason"] for event in events if event["event"] == "request"] == [None]


async def test_clients_take_turns_by_the_name_of_their_login(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(opener, "open_repository", lambda location, services, client, path: names.append(client))
    opening, name = RepositoryOpener(surface.services, OPTIONS), RepositoryOpener(surface.services, OPTIONS)
    image = RepositoryName.parse("hub/dependency_proxy/containers/alpine")
    await opening.open(image, surface.person("root"), Action.PULL, None, "192.0.2.1")
    await name.open(image, ANONYMOUS, Action.PULL, None, "192.0.2.1")
    assert names == ["root", "192.0.2.1"]


async def test_what_is_permitted_is_known_by_the_canonical_name(surface: Surface) -> None:
    opening = RepositoryOpener(surface.services, OPTIONS)
    actions = list(Action)[:3]

    async def permitted(who: Principal, text: str, root: Root | None = None) -> tuple[str, list[str]] | None:
        parsed = RepositoryName.parse(text)
        found = (await opening.permitted({parsed: actions}, who, root)).get(parsed)
        return found and (found.name, sorted(action.value for action in found.actions))

    root = surface.person("root")
    hub = "hub/dependency_proxy/containers/library/alpine"
    assert await permitted(ANONYMOUS, "hub/dependency_proxy/containers/alpine") == (hub, ["pull"])
    assert await permitted(ANONYMOUS, "alpine", Root("hub", "docker.io")) == (hub, ["pull"])
    assert await permitted(root, "closed/app/x") == ("closed/app/x", ["delete", "pull", "push"])
    assert await permitted(surface.person("reporter"), "closed/app/x") == ("closed/app/x", ["pull"])
    assert await permitted(surface.person("stranger"), "closed/app/x") == ("closed/app/x", [])
    assert await permitted(root, "absent/x") is None
    assert await permitted(root, "off/dependency_proxy/containers/alpine") is None
