"""ID tokens as passwords, over real stores and an issuer on a real port with TLS: who is let in, as whom, how long."""

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from gateway.audit.event import EventKind, Subject
from gateway.audit.file import AuditQuery, read_events
from gateway.data_folder import audit_file
from gateway.db import members, users
from gateway.db.changes import Concern, announce
from gateway.db.engine import Database
from gateway.db.schema import id_token_logins
from gateway.namespaces.bot import issuer_bot_name
from gateway.namespaces.role import Role
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from gateway.wiring.lifespan import open_services
from tests.gateway.asgi import Client, Exchange, scope_of
from tests.gateway.v2.pushing import ROOTS, open_surface
from tests.parts.certs import Authority
from tests.parts.issuer import Issuer, SigningKeyOfTests, stall

APP = {"claims": {"repository": "acme/app"}, "project": "team/app", "role": "developer"}
OF_TEAM = {"claims": {"repository_owner": "acme"}, "group": "team", "role": "reporter"}
AS_USER = {"claims": {"sub": "as:*"}, "user": "developer"}
AS_ROOT = {"claims": {"sub": "root:*"}, "user": "root"}
LOST = {"claims": {"sub": "lost:*"}, "project": "team/gone", "role": "guest"}
REFUSED = "the ID token is not accepted"


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer(authority).start()
    yield issuer
    issuer.stop()


@pytest.fixture
def issuer(running: Issuer) -> Iterator[Issuer]:
    yield running
    running.respond = None
    running.rotate("first")
    running.requests.clear()


@dataclass(frozen=True)
class Server:
    services: Services
    data: Path
    issuer: Issuer

    async def call(self, method: str, target: str, *headers: tuple[str, str]) -> Exchange:
        client = Client(scope_of(method, target, headers))
        return await client.request(self._app)

    @cached_property
    def _app(self) -> ASGIApp:
        return create_app(self.services, ROOTS, RegistryOptions(open_proxy=False))

    async def ask(self, secret: str, *scopes: str, user: str = "oidc") -> tuple[int, Any]:
        """What the token endpoint answers to a login, and what it grants, by repository."""
        query = "&".join(f"scope={quote(scope)}" for scope in scopes)
        basic = ("Authorization", f"Basic {b64encode(f'{user}:{secret}'.encode()).decode()}")
        answer = await self.call("GET", f"/jwt/auth?service=registry-gateway&{query}", basic)
        document = json.loads(answer.body)
        return answer.status, document["scope"] if answer.status == 200 else document["errors"][0]["message"]

    async def refused(self, secret: str, reason: str) -> None:
        """Check that a login is refused, that the log has the reason, and the client and the log no more."""
        with capture_logs() as lines:
            status, message = await self.ask(secret)
        assert (status, REFUSED in message) == (401, True), message
        [line] = [line for line in lines if line["event"] == "login_refused"]
        assert reason in line["reason"] and secret not in str(lines), line

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        async with Database.open(self.data / "gateway.db") as database:
            yield database


@asynccontextmanager
async def serving(data: Path, issuer: Issuer, *rules: Any, **settings: Any) -> AsyncIterator[Server]:
    table = issuer.settings(*rules, **settings)
    async with open_surface(data, oidc={"ci": table}) as surface:
        yield Server(replace(surface.services, authenticator=surface.authenticator), data, issuer)


@pytest.fixture
async def server(tmp_path: Path, issuer: Issuer) -> AsyncIterator[Server]:
    async with serving(tmp_path / "data", issuer, AS_USER, AS_ROOT, LOST, APP, OF_TEAM) as server:
        yield server


SCOPES = ("repository:team/app:pull,push,delete", "repository:team/lib:pull,push", "repository:closed/secret:pull")


@pytest.mark.parametrize("user", ["oidc", "whoever", "root"])
async def test_a_token_is_a_login_with_exactly_the_role_of_its_rule(server: Server, user: str) -> None:
    assert await server.ask(server.issuer.token(), *SCOPES, user=user) == (200, "repository:team/app:pull,push")


async def test_the_first_rule_that_matches_counts(server: Server) -> None:
    status, granted = await server.ask(server.issuer.token(repository="acme/other"), *SCOPES)
    assert (status, granted) == (200, "repository:team/app:pull repository:team/lib:pull")
    _, granted = await server.ask(server.issuer.token(sub="as:me"), *SCOPES)
    assert granted == "repository:team/app:pull,push repository:team/lib:pull,push"


async def test_the_bot_of_a_rule_is_one_member_with_its_role(server: Server) -> None:
    for _ in range(3):
        assert (await server.ask(server.issuer.token()))[0] == 200
    place = await server.services.directory.find_project_place("team/app")
    assert place is not None
    async with server.database() as database, database.write() as connection:
        [member] = await members.list_of(connection, [place.project.key])
        bot = await users.get_by_id(connection, member.user_id)
        assert bot.name == f"project_{place.project.id}_bot_oidc_ci_developer"
        assert (member.role, bot.external, bot.admin) == (Role.DEVELOPER, True, False)
        await members.update(connection, replace(member, role=Role.OWNER), server.services.clock())
    assert (await server.ask(server.issuer.token(), *SCOPES))[1] == "repository:team/app:pull,push"
    async with server.database() as database, database.write() as connection:
        assert (await members.get(connection, place.project.key, bot.id)).role is Role.DEVELOPER
        await members.remove(connection, place.project.key, bot.id)
    assert (await server.ask(server.issuer.token(), *SCOPES))[1] == "repository:team/app:pull,push"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"repository": None, "repository_owner": "evil"}, "no rule is for its claims"),
        ({"aud": "https://elsewhere.example.com"}, "another audience"),
        ({"iss": "https://evil.example.com"}, "no issuer that is configured"),
        ({"iss": None}, "no issuer that is configured"),
        ({"exp": 1}, "expired"),
        ({"iat": 4_000_000_000, "nbf": 4_000_000_000, "exp": 4_000_000_100}, "of the future"),
        ({"sub": "root:me"}, "an administrator"),
        ({"sub": "lost:me"}, "there is no group, project or user 'team/gone'"),
    ],
)
async def test_a_token_that_maps_to_nobody_is_refused(server: Server, changed: dict[str, Any], reason: str) -> None:
    await server.refused(server.issuer.token(**changed), reason)


async def test_forged_tokens_are_refused(server: Server) -> None:
    issuer = server.issuer
    await server.refused(SigningKeyOfTests("first").sign(issuer.claims()), "signature is wrong")
    await server.refused(SigningKeyOfTests("first", "RS256").sign(issuer.claims()), "signature is wrong")
    await server.refused(SigningKeyOfTests("other").sign(issuer.claims()), "a key that its issuer does not have")
    head, body, tail = issuer.token().split(".")
    await server.refused(f"{head}.{body}.{tail[:-4]}AAAA", "signature is wrong")
    assert (await server.ask(issuer.token()))[0] == 200


async def test_a_login_outlives_its_token_and_no_other_spelling_of_it_logs_in(server: Server) -> None:
    issuer = server.issuer
    claims = issuer.claims()
    token, again = issuer.key.sign(claims), issuer.key.sign({**claims, "iat": claims["iat"] - 1})
    other_signature = issuer.key.sign(claims)
    assert token != other_signature
    late = issuer.key.sign(issuer.claims(exp=int(time.time()) - 50, iat=int(time.time()) - 300))
    assert (await server.ask(token))[0] == 200
    for same in (again, other_signature):
        await server.refused(same, "presented before")
    assert (await server.ask(late))[0] == 200  # within the skew of the clocks
    issuer.respond = stall
    for _ in range(3):
        assert (await server.ask(token, *SCOPES))[1] == "repository:team/app:pull,push"
    async with server.database() as database, database.write() as connection:
        await connection.exec_driver_sql("UPDATE id_token_logins SET expires_at = '2020-01-01 00:00:00'")
        for number in await connection.scalars(select(id_token_logins.c.id)):
            await announce(connection, Concern.CREDENTIAL, f"oidc:{number}")
    status, message = await server.ask(token)
    assert status == 401 and "expired at" in message and "log in with a new ID token" in message


async def test_a_rule_that_is_gone_ends_its_logins(tmp_path: Path, issuer: Issuer) -> None:
    token = issuer.token()
    async with serving(tmp_path / "data", issuer, APP) as server:
        assert (await server.ask(token))[0] == 200
        stronger = {**APP, "role": "owner"}
        async with opened_again(server, stronger) as again:
            status, message = await again.ask(token)
            assert status == 401 and "ended with its rule" in message
            assert (await again.ask(issuer.token(), *SCOPES))[1] == "repository:team/app:pull,push,delete"
        async with opened_again(server) as without:
            assert (await without.ask(token))[0] == 401
            await without.refused(issuer.token(), "no rule is for its claims")


@asynccontextmanager
async def opened_again(server: Server, *rules: Any) -> AsyncIterator[Server]:
    settings = Settings.model_validate({"data": str(server.data), "oidc": {"ci": server.issuer.settings(*rules)}})
    async with open_services(settings) as services:
        yield Server(services, server.data, server.issuer)


async def test_without_an_issuer_a_token_is_a_wrong_password(tmp_path: Path, issuer: Issuer) -> None:
    async with open_surface(tmp_path / "data") as surface:
        server = Server(replace(surface.services, authenticator=surface.authenticator), tmp_path / "data", issuer)
        status, message = await server.ask(issuer.token())
        assert status == 401 and REFUSED not in message
        assert issuer.requests == []


async def test_keys_are_rotated_without_a_restart(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = server.issuer
    assert (await server.ask(issuer.token()))[0] == 200
    issuer.rotate("second", "RS256")
    await server.refused(issuer.token(), "a key that its issuer does not have")
    monkeypatch.setattr("gateway.oidc.key_set.PAUSE", 0.0)
    assert (await server.ask(issuer.token()))[0] == 200
    issuer.rotate("third", "EdDSA")
    assert (await server.ask(issuer.token()))[0] == 200


async def test_an_issuer_that_stalls_stops_nobody_else(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.wiring.oidc.PATIENCE", 0.2)
    server.issuer.respond = stall
    async with opened_again(server, APP) as again:
        began = time.monotonic()
        await again.refused(server.issuer.token(), "in time")
        assert time.monotonic() - began < 5
        assert (await again.call("GET", "/jwt/auth?service=registry-gateway")).status == 200


async def test_a_login_opens_of_the_rest_api_what_a_job_may(server: Server) -> None:
    bearer = ("Authorization", f"Bearer {server.issuer.token()}")
    for path, status in (
        ("/projects/team%2Fapp", 200),
        ("/projects/team%2Fapp/registry/repositories", 200),
        ("/projects/team%2Flib", 404),
        ("/projects/closed%2Fsecret/registry/repositories", 404),
        ("/projects/team%2Fapp/members", 403),
        ("/projects/team%2Fapp/deploy_tokens", 403),
        ("/user", 403),
        ("/users", 403),
    ):
        answer = await server.call("GET", f"/api/v4{path}", bearer)
        assert answer.status == status, (path, answer.body)
    for header in ("PRIVATE-TOKEN", "JOB-TOKEN"):
        answer = await server.call("GET", "/api/v4/projects/team%2Fapp", (header, server.issuer.token()))
        assert answer.status == 401


async def test_an_owner_by_a_rule_administers_nothing(tmp_path: Path, issuer: Issuer) -> None:
    async with serving(tmp_path / "data", issuer, {**APP, "role": "owner"}) as server:
        bearer = ("Authorization", f"Bearer {issuer.token()}")
        assert (await server.call("PUT", "/api/v4/projects/team%2Fapp?visibility=public", bearer)).status == 403
        assert (await server.call("DELETE", "/api/v4/projects/team%2Fapp", bearer)).status == 403
        assert (await server.ask(issuer.token(), *SCOPES))[1] == "repository:team/app:pull,push,delete"


async def test_a_login_creates_no_project_by_a_push(tmp_path: Path, issuer: Issuer) -> None:
    group = {**OF_TEAM, "role": "maintainer"}
    async with serving(tmp_path / "data", issuer, group) as server:
        assert (await server.ask(issuer.token(), "repository:team/new:pull,push"))[1] == ""


async def test_who_logged_in_is_an_event_and_in_the_log_without_the_token(server: Server) -> None:
    token = server.issuer.token()
    with capture_logs() as lines:
        for _ in range(2):
            assert (await server.ask(token))[0] == 200
    [line] = [line for line in lines if line["event"] == "id_token_login"]
    assert (line["issuer"], line["subject"]) == ("ci", "repo:acme/app:ref:refs/heads/main")
    assert line["maps_to"] == "developer of project team/app" and token not in str(lines)
    server.services.audit.flush()
    query = AuditQuery(event=EventKind.GRANT)
    [event] = [found.event for found in read_events(audit_file(server.data), query, None, 10)]
    assert (event.subject, event.path) == (Subject.TOKEN, "team/app")
    assert "ci (repo:acme/app:ref:refs/heads/main)" in str(event.who)
    assert event.outcome == "login as developer of project team/app" and token not in str(event)


async def test_a_blocked_user_is_let_in_by_no_token(server: Server) -> None:
    token = server.issuer.token(sub="as:me")
    assert (await server.ask(token))[0] == 200
    async with server.database() as database, database.write() as connection:
        user = await users.get(connection, "developer")
        await users.update(connection, replace(user, blocked=True))
    status, message = await server.ask(token)
    assert status == 401 and "is blocked" in message
    status, message = await server.ask(server.issuer.token(sub="as:me"))
    assert status == 401 and "is blocked" in message


async def test_a_bot_of_a_rule_goes_with_its_project(server: Server) -> None:
    token = server.issuer.token()
    assert (await server.ask(token))[0] == 200
    place = await server.services.directory.find_project_place("team/app")
    assert place is not None
    name = issuer_bot_name(place.project.key, "ci", Role.DEVELOPER)
    assert await server.services.directory.find_user(name) is not None
    await server.services.native.administration.delete_project(place.project.id)
    assert (await server.ask(token))[0] == 401
    assert await server.services.directory.find_user(name) is None
