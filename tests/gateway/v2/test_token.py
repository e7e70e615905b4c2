"""The token endpoint, challenges and pings, as clients see them, at an app with a database."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
import pytest_asyncio
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from gateway.auth.authenticator import WRONG
from gateway.auth.login_delays import FREE_FAILURES
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.passwords import hash_password
from gateway.auth.scopes import SCOPE_LIMIT
from gateway.cli import folder
from gateway.db import groups, members, personal_tokens, users
from gateway.db.engine import DATABASE_FILE, Database
from gateway.keys.signing import rotate
from gateway.namespaces.credentials import (
    PREFIXES,
    CredentialKind,
    PersonalToken,
    Scope,
    hash_secret,
    new_secret,
)
from gateway.namespaces.locate import Root
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.role import Role
from gateway.server.request_head import AUTHORIZATION_LIMIT
from gateway.services import Services
from gateway.settings.tables import Settings
from gateway.v2.opener import RegistryOptions
from gateway.v2.root_selection import at_listener, root_table
from gateway.wiring.app import create_app
from gateway.wiring.lifespan import open_services
from tests.gateway.asgi import Client, Exchange, scope_of, send_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAIN, LISTENER, HOST = "http://127.0.0.1:8080", "http://127.0.0.1:5001", "mirror.localhost"
ROOTS = root_table(
    MAIN,
    {"docker.io": "https://registry-1.docker.io", "quay.io": "https://quay.io"},
    "hub",
    {HOST: Root("closed", "docker.io")},
    [(LISTENER, Root("hub", "docker.io"))],
)
SECRET = PREFIXES[CredentialKind.PERSONAL_TOKEN] + "s" * 43
OPEN = "hub/dependency_proxy/containers/library/alpine"
CLOSED = "closed/dependency_proxy/containers/library/alpine"
ABSENT = "absent/dependency_proxy/containers/library/alpine"
ALPINE = {"type": "repository", "name": OPEN, "actions": ["pull"]}


async def prepare(data: Path, *, with_users: bool) -> None:
    now = datetime.now(UTC)
    settings = Settings.model_validate({"data": str(data)})
    async with folder.open_made(settings) as database, database.write() as connection:
        closed = await groups.create(connection, "closed", now)
        if with_users:
            alice = await users.create(connection, "alice", now)
            alice = replace(alice, password_hash=hash_password("right"), password_changed_at=now)
            await users.update(connection, alice)
            for name in ("bob", "eve", "kim"):
                await users.create(connection, name, now, email=f"{name}@example.com")
            await members.add(connection, Member(NodeKey(NodeKind.GROUP, closed.id), alice.id, Role.GUEST, None, now))
            scopes, ends = frozenset({Scope.READ_REGISTRY}), now + timedelta(days=1)
            token = PersonalToken(0, alice.id, "laptop", scopes, now, ends)
            await personal_tokens.create(connection, token, hash_secret(SECRET))


@dataclass(frozen=True)
class Surface:
    """An app, and how a client speaks to its token endpoint."""

    app: ASGIApp
    services: Services
    data: Path

    async def get(self, *, login: str = "", app: ASGIApp | None = None, **query: Any) -> Exchange:
        target = f"/jwt/auth?{urlencode(query, doseq=True)}"
        return await send_request(app or self.app, "GET", target, basic(login) if login else ())

    async def post(self, **form: Any) -> Exchange:
        headers = [("Content-Type", "application/x-www-form-urlencoded")]
        return await self.post_raw(urlencode(form, doseq=True).encode(), headers)

    async def post_raw(self, body: bytes, headers: Any = ()) -> Exchange:
        return await Client(scope_of("POST", "/jwt/auth", headers), [body]).request(self.app)

    async def bearer(self, **query: Any) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {document(await self.get(**query))['token']}")]


def basic(login: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Basic {b64encode(login.encode()).decode()}")]


def document(found: Exchange) -> dict[str, Any]:
    assert found.status == 200, found.body
    read: dict[str, Any] = json.loads(found.body)
    return read


def access(found: Exchange) -> Any:
    return jwt.decode(document(found)["token"], options={"verify_signature": False})["access"]


async def opened(data: Path, *, with_users: bool) -> AsyncIterator[Surface]:
    await prepare(data, with_users=with_users)
    settings = Settings.model_validate({"data": str(data), "upstreams": {"quay.io": {}}})
    async with open_services(settings) as services:
        yield Surface(create_app(services, ROOTS, RegistryOptions(open_proxy=True)), services, data)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def surface(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surface]:
    async for made in opened(tmp_path_factory.mktemp("token") / "data", with_users=True):
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def without_users(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Surface]:
    async for made in opened(tmp_path_factory.mktemp("open") / "data", with_users=False):
        yield made


# What the log says of logins


async def logged(request: Awaitable[Exchange]) -> tuple[Exchange, list[Any], dict[str, Any]]:
    """A response, the events of refused logins, and the line of the request."""
    with capture_logs() as events:
        found = await request
    [line] = [event for event in events if event["event"] == "request"]
    return found, [event for event in events if event["event"] == "login_refused"], dict(line)


@pytest.mark.parametrize(
    ("login", "principal"),
    [
        ("alice:right", "user 'alice'"),
        (f"anybody:{SECRET}", "personal token 1 (laptop) of user 'alice'"),
        ("", None),
    ],
)
async def test_every_request_names_its_principal_in_the_log(
    surface: Surface, login: str, principal: str | None
) -> None:
    headers = basic(login) if login else ()
    for request in (send_request(surface.app, "GET", "/v2/", headers), surface.get(login=login)):
        _, refused, line = await logged(request)
        assert (line["principal"], line["reason"], refused) == (principal, None, [])
    token = await surface.bearer(login=login, scope=f"repository:{OPEN}:pull")
    _, _, line = await logged(send_request(surface.app, "GET", f"/v2/{CLOSED}/tags/list", token))
    assert line["principal"] == principal
    assert SECRET not in str(line) and "right" not in str(line)


TYPED = "a-password-in-the-wrong-field"


@pytest.mark.parametrize(
    ("login", "account", "reason"),
    [
        ("bob:wrong-1", "bob", "the password is wrong"),
        ("KIM@example.com:wrong-2", "kim", "the password is wrong"),
        (f"{TYPED}:{TYPED}", None, "no user has this name"),
        (f"bob:{PREFIXES[CredentialKind.PERSONAL_TOKEN]}{TYPED}", None, "there is no such token"),
    ],
)
async def test_a_refused_login_is_an_event_without_what_was_typed(
    surface: Surface, login: str, account: str | None, reason: str
) -> None:
    username, _, password = login.partition(":")
    form = {"grant_type": "password", "service": "registry-gateway", "username": username, "password": password}
    requests = [
        send_request(surface.app, "GET", "/v2/", [*basic(login), ("X-Request-Id", "one")]),
        surface.get(login=login),
        surface.post(**form),
    ]
    for number, request in enumerate(requests):
        found, [event], line = await logged(request)
        assert (found.status, event["account"], event["reason"]) == (401, account, reason)
        assert event["client"] == "127.0.0.1" and event["request_id"] == line["request_id"]
        assert (line["principal"], line["reason"]) == (None, reason)
        assert number or event["request_id"] == "one"
        for secret in (TYPED, "wrong-"):
            assert secret not in str(event) + str(line)


async def test_a_login_that_is_delayed_is_an_event_of_its_user(surface: Surface) -> None:
    for number in range(FREE_FAILURES):
        name = "eve" if number % 2 else "eve@example.com"
        assert (await surface.get(login=f"{name}:wrong-{number}")).status == 401
    for name in ("eve", "eve@example.com"):
        found, [event], line = await logged(surface.get(login=f"{name}:wrong-9"))
        assert (found.status, event["account"], line["reason"]) == (429, "eve", event["reason"])
        assert event["reason"].startswith("too many logins with a wrong password: try again after")


async def test_a_token_that_is_not_valid_is_explained_in_the_log_alone(surface: Surface) -> None:
    for header, reason in [("Bearer nonsense", "a text that is no token"), ("Bearer a.b.c", "a text that is no token")]:
        found, refused, line = await logged(
            send_request(surface.app, "GET", f"/v2/{OPEN}/tags/list", [("Authorization", header)])
        )
        assert (found.status, line["reason"], refused) == (401, reason, [])
        assert reason.encode() not in found.body
    found, [event], _ = await logged(surface.post(grant_type="refresh_token", refresh_token=TYPED))
    assert (found.status, event["account"]) == (401, None)
    assert event["reason"] == "a refresh token that this server did not issue"


async def test_a_ping_without_a_login_is_no_refusal_in_the_log(surface: Surface) -> None:
    found, refused, line = await logged(send_request(surface.app, "GET", "/v2/"))
    assert (found.status, line["reason"], refused) == (401, None, [])


# Pings and challenges


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_a_ping_is_challenged_once_there_is_a_user(path: str, surface: Surface, without_users: Surface) -> None:
    assert (await send_request(without_users.app, "GET", path)).status == 200
    found = await send_request(surface.app, "GET", path)
    assert (found.status, found.error["code"]) == (401, "UNAUTHORIZED")
    assert found.headers.all("www-authenticate") == [f'Bearer realm="{MAIN}/jwt/auth",service="registry-gateway"']


async def test_a_ping_with_a_credential_is_no_challenge(surface: Surface) -> None:
    for headers in (basic("alice:right"), basic(f"x:{SECRET}"), await surface.bearer()):
        assert (await send_request(surface.app, "GET", "/v2/", headers)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", f"/v2/{CLOSED}/manifests/latest", f"repository:{CLOSED}:pull"),
        ("HEAD", f"/v2/{CLOSED}/manifests/latest", f"repository:{CLOSED}:pull"),
        ("GET", f"/v2/{CLOSED}/tags/list", f"repository:{CLOSED}:pull"),
        ("PUT", f"/v2/{CLOSED}/manifests/latest", f"repository:{CLOSED}:pull,push"),
        ("POST", f"/v2/{CLOSED}/blobs/uploads/", f"repository:{CLOSED}:pull,push"),
        ("DELETE", f"/v2/{CLOSED}/blobs/uploads/x", f"repository:{CLOSED}:pull,push"),
        ("GET", f"/v2/{CLOSED}/blobs/uploads/x", f"repository:{CLOSED}:pull,push"),
        ("DELETE", f"/v2/{CLOSED}/tags/reference/x", f"repository:{CLOSED}:delete"),
        ("DELETE", f"/v2/{CLOSED}/manifests/latest", f"repository:{CLOSED}:delete"),
        (
            "GET",
            "/v2/absent/dependency_proxy/containers/a/manifests/b",
            "repository:absent/dependency_proxy/containers/a:pull",
        ),
    ],
)
async def test_a_challenge_names_realm_service_and_scope_and_nothing_else(
    method: str, path: str, scope: str, surface: Surface
) -> None:
    found = await send_request(surface.app, method, path)
    assert found.status == 401
    expected = f'Bearer realm="{MAIN}/jwt/auth",service="registry-gateway",scope="{scope}"'
    assert found.headers.all("www-authenticate") == [expected]


async def test_a_refused_credential_is_challenged_with_its_reason(surface: Surface) -> None:
    for headers in (basic("alice:wrong"), [("Authorization", "Bearer x")]):
        found = await send_request(surface.app, "GET", f"/v2/{OPEN}/manifests/latest", headers)
        assert found.status == 401
        assert found.headers["www-authenticate"].endswith(f'scope="repository:{OPEN}:pull"')
        assert found.error["message"] != "authentication required"


async def test_each_address_has_its_own_realm_and_names(surface: Surface) -> None:
    at_host = [("Host", HOST)]
    found = await send_request(surface.app, "GET", "/v2/library/alpine/manifests/latest", at_host)
    realm = f"http://{HOST}:8080/jwt/auth"
    expected = f'Bearer realm="{realm}",service="registry-gateway",scope="repository:library/alpine:pull"'
    assert found.headers["www-authenticate"] == expected
    listener = at_listener(surface.app, 1)
    found = await send_request(listener, "GET", "/v2/")
    assert found.headers["www-authenticate"] == f'Bearer realm="{LISTENER}/jwt/auth",service="registry-gateway"'


async def test_with_ns_the_scope_is_the_canonical_name(surface: Surface) -> None:
    target = "/v2/library/alpine/manifests/latest?ns=docker.io"
    found = await send_request(surface.app, "GET", target, [("Authorization", "Bearer x")])
    assert f'scope="repository:{OPEN}:pull"' in found.headers["www-authenticate"]
    target = "/v2/a/b/manifests/latest?ns=quay.io"
    found = await send_request(surface.app, "GET", target, [("Authorization", "Bearer x")])
    scope = "repository:hub/dependency_proxy/containers/quay.io/a/b:pull"
    assert f'scope="{scope}"' in found.headers["www-authenticate"]


# Tokens


async def test_a_token_response_has_what_clients_read(surface: Surface) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    found = await surface.get(login="alice:right", service="registry-gateway", scope=f"repository:{OPEN}:pull,push")
    read = document(found)
    assert read["token"] == read["access_token"]
    assert read["expires_in"] == 300
    assert before <= datetime.fromisoformat(read["issued_at"]) <= datetime.now(UTC)
    assert read["scope"] == f"repository:{OPEN}:pull"
    assert "refresh_token" not in read
    assert found.headers["cache-control"] == "no-store"
    claims = jwt.decode(read["token"], options={"verify_signature": False})
    assert (claims["iss"], claims["aud"], claims["sub"]) == ("registry-gateway", "registry-gateway", "alice")
    assert claims["access"] == [ALPINE]
    assert jwt.get_unverified_header(read["token"])["alg"] == "EdDSA"


@pytest.mark.parametrize("service", ["registry-gateway", "container_registry", "dependency_proxy", ""])
async def test_the_service_has_three_names(service: str, surface: Surface) -> None:
    assert (await surface.get(service=service)).status == 200


async def test_another_service_is_refused(surface: Surface) -> None:
    found = await surface.get(service="registry.docker.io")
    assert (found.status, found.error["code"]) == (400, "UNSUPPORTED")
    assert "use registry-gateway" in found.error["message"]


@pytest.mark.parametrize(
    "scope",
    [
        [f"repository:{OPEN}:pull", f"repository:{CLOSED}:pull"],
        f"repository:{OPEN}:pull repository:{CLOSED}:pull",
        [f"repository:127.0.0.1:8080/{OPEN}:*", f"repository:{CLOSED}:pull,push,delete", "registry:other:*", "x"],
        f"repository:{OPEN.replace('library', 'docker.io')}:pull repository:{CLOSED.replace('library/', '')}:pull",
    ],
)
async def test_the_intersection_is_granted_by_canonical_names(scope: Any, surface: Surface) -> None:
    assert access(await surface.get(login=f"x:{SECRET}", scope=scope)) == [ALPINE, {**ALPINE, "name": CLOSED}]
    assert access(await surface.get(scope=scope)) == [ALPINE]


async def test_nothing_granted_is_a_token_all_the_same(surface: Surface) -> None:
    assert access(await surface.get(scope=f"repository:{CLOSED}:pull")) == []
    assert access(await surface.get(login="alice:right", scope="repository:absent/x:pull")) == []
    assert access(await surface.get()) == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_more_scopes_than_clients_need_are_refused(method: str, surface: Surface) -> None:
    scope = [f"repository:invented{number}/x:pull" for number in range(SCOPE_LIMIT + 1)]
    asked = {"scope": scope, "service": "registry-gateway"}
    refused = await (surface.get(**asked) if method == "GET" else surface.post(grant_type="password", **asked))
    assert (refused.status, refused.error["code"]) == (400, "UNSUPPORTED")
    assert f"more than {SCOPE_LIMIT} repositories" in refused.error["message"]
    assert access(await surface.get(scope=scope[:SCOPE_LIMIT])) == []


async def test_every_token_that_is_issued_is_accepted(surface: Surface) -> None:
    folder, refused = OPEN.removesuffix("library/alpine"), 0
    longest = 255 - len(folder) - len("p00/")
    for length in (100, 190, 195, 200, 203, 206, 209, longest):
        scope = [f"repository:{folder}p{number:02}/{'x' * length}:pull" for number in range(SCOPE_LIMIT)]
        found = await surface.post(grant_type="password", scope=scope)
        if found.status == 400:
            assert "ask for fewer repositories" in found.error["message"]
            refused += 1
            continue
        assert len(access(found)) == SCOPE_LIMIT
        bearer = f"Bearer {document(found)['token']}"
        assert len(bearer) <= AUTHORIZATION_LIMIT
        assert (await send_request(surface.app, "GET", "/v2/", [("Authorization", bearer)])).status == 200
    assert 0 < refused < 8


async def test_an_address_maps_the_names_of_scopes_as_it_maps_paths(surface: Surface) -> None:
    listener = at_listener(surface.app, 1)
    assert access(await surface.get(app=listener, scope="repository:library/alpine:pull")) == [ALPINE]
    headers = [("Host", HOST), *basic("alice:right")]
    found = await send_request(surface.app, "GET", "/jwt/auth?scope=repository:alpine:pull", headers)
    assert access(found) == [{**ALPINE, "name": CLOSED}]


async def test_wrong_credentials_are_refused_with_a_text(surface: Surface) -> None:
    for login in ("alice:wrong", "bob:x", f"x:{new_secret(CredentialKind.JOB_TOKEN)}"):
        found = await surface.get(login=login, scope=f"repository:{OPEN}:pull")
        assert (found.status, found.error["code"], found.error["message"]) == (401, "UNAUTHORIZED", WRONG)
        assert found.headers["www-authenticate"] == 'Basic realm="registry-gateway"'


async def test_a_bearer_gives_no_other_tokens(surface: Surface) -> None:
    found = await send_request(surface.app, "GET", "/jwt/auth", await surface.bearer(login="alice:right"))
    assert found.status == 401


async def test_post_takes_a_password_and_a_token(surface: Surface) -> None:
    scope = f"repository:{CLOSED}:pull"
    for username, password in (("alice", "right"), ("anybody", SECRET)):
        found = await surface.post(
            grant_type="password",
            service="registry-gateway",
            client_id="t",
            username=username,
            password=password,
            scope=scope,
        )
        assert access(found) == [{**ALPINE, "name": CLOSED}]
    assert access(await surface.post(grant_type="password", scope=f"repository:{OPEN}:pull")) == [ALPINE]
    assert (await surface.post(grant_type="password", username="alice", password="wrong")).status == 401


async def test_logins_take_turns_by_the_address_of_their_peer(
    surface: Surface, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers: list[str] = []

    async def note(self: PasswordLogins, user: Any, name: str, password: str, address: Any, peer: str = "") -> bool:
        peers.append(peer)
        return True

    monkeypatch.setattr(PasswordLogins, "log_in", note)
    await surface.get(login="alice:right")
    await surface.post(grant_type="password", username="alice", password="right")
    assert peers == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize("login", ["alice:right", f"x:{SECRET}"])
async def test_a_refresh_token_stands_for_its_credential(login: str, surface: Surface) -> None:
    first = document(await surface.get(login=login, offline_token="true", service="registry-gateway"))
    refresh = first["refresh_token"]
    rotate(surface.data / "keys", datetime.now(UTC))
    found = await surface.post(
        grant_type="refresh_token", refresh_token=refresh, scope=f"repository:{CLOSED}:pull", access_type="offline"
    )
    assert access(found) == [{**ALPINE, "name": CLOSED}]
    assert "refresh_token" in document(found)
    assert "refresh_token" not in document(await surface.post(grant_type="refresh_token", refresh_token=refresh))


async def test_nobody_gets_no_refresh_token(surface: Surface) -> None:
    assert "refresh_token" not in document(await surface.get(offline_token="true"))


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"", (), "grant_type must be"),
        (b"grant_type=authorization_code", (), "grant_type must be"),
        (b"grant_type=password&grant_type=refresh_token", (), "more than once"),
        (b"grant_type=password&service=other", (), "use registry-gateway"),
        (b"{}", [("Content-Type", "application/json")], "must be a form"),
        (b"a=" + b"x" * 40_000, (), "more than 32768 bytes"),
        (b"&".join(b"a=b" for _ in range(600)), (), "more than 500 fields"),
    ],
)
async def test_a_malformed_form_is_refused(body: bytes, headers: Any, says: str, surface: Surface) -> None:
    found = await surface.post_raw(body, headers)
    assert (found.status, found.error["code"]) == (400, "UNSUPPORTED")
    assert says in found.error["message"]


@pytest.mark.parametrize("refresh", ["", "x", "v1.a.b"])
async def test_a_refresh_token_of_nobody_is_refused(refresh: str, surface: Surface) -> None:
    assert (await surface.post(grant_type="refresh_token", refresh_token=refresh)).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/jwt/auth", 405, "GET, POST"),
        ("HEAD", "/jwt/auth", 405, "GET, POST"),
        ("POST", "/jwt/jwks", 405, "GET, HEAD"),
        ("GET", "/jwt/", 404, None),
        ("GET", "/jwt/auth/", 404, None),
    ],
)
async def test_other_methods_and_paths_are_refused(
    method: str, path: str, status: int, allow: str | None, surface: Surface
) -> None:
    found = await send_request(surface.app, method, path)
    assert (found.status, found.error["code"], found.headers.get("allow")) == (status, "UNSUPPORTED", allow)


async def test_the_public_keys_verify_every_token(surface: Surface) -> None:
    token = document(await surface.get())["token"]
    found = await send_request(surface.app, "GET", "/jwt/jwks")
    keys = jwt.PyJWKSet.from_dict(document(found))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key.key, ["EdDSA"], audience="registry-gateway", issuer="registry-gateway")
    assert b'"d"' not in found.body


# What a Bearer token may do


async def test_a_bearer_opens_what_it_lists_and_nothing_else(surface: Surface) -> None:
    listed = await surface.bearer(login="alice:right", scope=f"repository:{CLOSED}:pull")
    unlisted = await surface.bearer(login="alice:right", scope=f"repository:{OPEN}:pull")
    missing = f"/v2/{CLOSED}/blobs/sha256:{'0' * 64}"
    app = replace(surface, app=create_app(refusing(surface.services), ROOTS, RegistryOptions(open_proxy=True))).app
    assert (await send_request(app, "GET", missing, listed)).status == 403
    assert (await send_request(app, "GET", missing, unlisted)).status == 401
    assert (await send_request(app, "GET", missing)).status == 401
    assert (await send_request(app, "GET", missing, basic(f"x:{SECRET}"))).status == 403


def refusing(services: Services) -> Services:
    """Services whose settings allow no image, so that a request that may pull is refused later than others."""
    upstreams = services.upstreams
    refused = replace(upstreams.get("docker.io"), deny=("*", "*/*"))

    class Refusing:
        names = upstreams.names

        def get(self, name: str) -> Any:
            return refused

    return replace(services, upstreams=Refusing())  # type: ignore[arg-type]


async def test_a_revoked_token_ends_its_bearer_and_refresh_token_at_once(surface: Surface) -> None:
    secret, now = new_secret(CredentialKind.PERSONAL_TOKEN), datetime.now(UTC)
    async with Database.open(surface.data / DATABASE_FILE) as other, other.write() as connection:
        alice = await users.get(connection, "alice")
        scopes = frozenset({Scope.READ_REGISTRY})
        token = PersonalToken(0, alice.id, "short", scopes, now, now + timedelta(days=1))
        token = await personal_tokens.create(connection, token, hash_secret(secret))
    issued = document(await surface.get(login=f"x:{secret}", offline_token="true"))
    bearer = [("Authorization", f"Bearer {issued['token']}")]
    assert (await send_request(surface.app, "GET", "/v2/", bearer)).status == 200
    async with Database.open(surface.data / DATABASE_FILE) as other, other.write() as connection:
        await personal_tokens.revoke(connection, token.id, datetime.now(UTC))

    async with asyncio.timeout(30):  # the server looks for commits of others every few milliseconds
        while (await send_request(surface.app, "GET", "/v2/", bearer)).status != 401:
            pass
    refreshed = await surface.post(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert refreshed.status == 401
    assert "'short' was revoked at" in refreshed.error["message"]
