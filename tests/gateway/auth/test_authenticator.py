"""Principals of requests: every credential, what ends it, and the texts for those that are refused."""

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cache.oci.errors import RegistryError, TooManyRequests, Unauthorized
from gateway.auth.authenticator import (
    CLIENT_ADDRESS,
    LOGIN_AGAIN,
    MALFORMED,
    WRONG,
    Authenticator,
    backing_of,
    weight_of,
)
from gateway.auth.bearer_tokens import Bearer, TokenService
from gateway.auth.login_delays import FREE_FAILURES, FREE_FAILURES_OF_ADDRESS, LoginDelays
from gateway.auth.password_logins import PasswordLogins
from gateway.auth.passwords import Passwords, hash_password
from gateway.auth.principal import ANONYMOUS, AccessList, Principal, PrincipalKind
from gateway.keys.sealing import Sealer
from gateway.keys.signing import TOKEN_LIFETIME, SigningKeys
from gateway.namespaces.credentials import (
    PREFIXES,
    Credential,
    CredentialKind,
    CredentialRef,
    DeployToken,
    Job,
    JobDeployToken,
    PersonalToken,
    Scope,
    hash_secret,
)
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.user import User
from tests.gateway.asgi import scope_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
LATER = NOW + timedelta(days=1)
ALICE = User(1, "alice", "alice@example.com", False, False, False, hash_password("right"), BEFORE, BEFORE)
REGISTRY = frozenset({Scope.READ_REGISTRY})
PERSONAL = PersonalToken(7, ALICE.id, "laptop", REGISTRY, BEFORE, LATER)
DEPLOY = DeployToken(8, NodeKey(NodeKind.PROJECT, 3), "ci", "gitlab+deploy-token-8", REGISTRY, BEFORE, LATER)
JOB = Job(9, 3, ALICE.id, "main", BEFORE, LATER)
KINDS = {
    "personal": (CredentialKind.PERSONAL_TOKEN, PERSONAL, "anything"),
    "deploy": (CredentialKind.DEPLOY_TOKEN, DEPLOY, DEPLOY.username),
    "job": (CredentialKind.JOB_TOKEN, JOB, "gitlab-ci-token"),
    "job-deploy": (CredentialKind.JOB_DEPLOY_TOKEN, JobDeployToken(JOB, DEPLOY), DEPLOY.username),
}


def invented(kind: CredentialKind) -> str:
    """Make a secret that nobody has; workers that run tests must give each test one name."""
    return PREFIXES[kind] + "i" * 43


SECRETS = {name: PREFIXES[kind] + f"known-{name}".ljust(43, "k") for name, (kind, _, _) in KINDS.items()}
REFS = {
    "personal": PERSONAL.ref,
    "deploy": DEPLOY.ref,
    "job": CredentialRef(CredentialKind.JOB_TOKEN, JOB.id),
    "job-deploy": CredentialRef(CredentialKind.JOB_DEPLOY_TOKEN, JOB.id),
}


class Stored:
    """Users and credentials as a test leaves them."""

    def __init__(self) -> None:
        self.users = {ALICE.id: ALICE}
        self.concealed: list[str] = []
        credentials: list[Credential] = [PERSONAL, DEPLOY, JOB, JobDeployToken(JOB, DEPLOY)]
        self.credentials = dict(zip(REFS.values(), credentials, strict=True))
        self.hashes = {hash_secret(SECRETS[name]): REFS[name] for name in KINDS}

    async def find_user(self, name: str) -> User | None:
        return next((user for user in self.users.values() if user.name == name), None)

    async def find_user_by_email(self, email: str) -> User | None:
        return next((user for user in self.users.values() if user.email == email), None)

    async def conceal_user(self, name: str) -> None:
        self.concealed.append(name)

    async def user(self, user_id: int) -> User | None:
        return self.users.get(user_id)

    async def credential_of_hash(self, secret_hash: str) -> tuple[CredentialRef, Credential] | None:
        ref = self.hashes.get(secret_hash)
        credential = self.credentials.get(ref) if ref else None
        return (ref, credential) if ref and credential else None

    async def credential(self, ref: CredentialRef) -> Credential | None:
        return self.credentials.get(ref)

    def change_user(self, **changes: object) -> None:
        self.users[ALICE.id] = replace(self.users[ALICE.id], **changes)  # type: ignore[arg-type]

    def change(self, name: str, **changes: object) -> None:
        """Change a stored credential; of a job's deploy token the token."""
        found = self.credentials[REFS[name]]
        if isinstance(found, JobDeployToken):
            self.credentials[REFS[name]] = replace(found, token=replace(found.token, **changes))  # type: ignore[arg-type]
        else:
            self.credentials[REFS[name]] = replace(found, **changes)  # type: ignore[arg-type]


class Bench:
    """An authenticator at a time that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.stored = Stored()
        self.tokens = TokenService(SigningKeys(folder), Sealer(folder))
        self.passwords = Passwords(2)
        self.used: list[CredentialRef] = []
        self.authenticator = Authenticator(
            self.stored,
            self.tokens,
            PasswordLogins(self.passwords, LoginDelays(), self.clock),
            self.clock,
            lambda ref, at: self.used.append(ref),
        )

    def clock(self) -> datetime:
        return self.now

    async def with_header(self, *values: str, address: str | None = None) -> Principal:
        scope = scope_of("GET", "/v2/", [("Authorization", value) for value in values])
        if address:
            scope[CLIENT_ADDRESS] = address
        return await self.authenticator.authenticate(scope)

    async def basic(self, username: str, secret: str, address: str | None = None) -> Principal:
        return await self.with_header(basic(username, secret), address=address)

    async def refused(self, *values: str) -> str:
        with pytest.raises(Unauthorized) as caught:
            await self.with_header(*values)
        return str(caught.value.detail)

    def bearer(self, principal: Principal) -> str:
        issued = self.tokens.issue(backing_of(principal), principal.name, {"a": frozenset({"pull"})}, self.now)
        return f"Bearer {issued.text}"


def basic(username: str, secret: str) -> str:
    return f"Basic {b64encode(f'{username}:{secret}'.encode()).decode()}"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.passwords.close()


async def test_without_a_credential_a_request_is_nobodys(bench: Bench) -> None:
    assert await bench.authenticator.authenticate(scope_of("GET", "/v2/")) is ANONYMOUS


@pytest.mark.parametrize("username", ["alice", "Alice", "alice@example.com", "Alice@Example.com"])
async def test_a_password_is_that_of_a_name_or_an_address(bench: Bench, username: str) -> None:
    principal = await bench.basic(username, "right")
    assert principal == Principal(
        PrincipalKind.USER, "alice", ALICE, None, CredentialRef(CredentialKind.PASSWORD, ALICE.id)
    )


@pytest.mark.parametrize("name", KINDS)
async def test_a_token_stands_for_itself(bench: Bench, name: str) -> None:
    _, credential, username = KINDS[name]
    principal = await bench.basic(username, SECRETS[name])
    expected = {"personal": PrincipalKind.PERSONAL_TOKEN, "job": PrincipalKind.JOB_TOKEN}
    assert principal.kind is expected.get(name, PrincipalKind.DEPLOY_TOKEN)
    assert principal.ref == REFS[name]
    assert principal.user == (ALICE if name in ("personal", "job") else None)
    assert principal.credential == credential
    assert principal.name == (username if "deploy" in name else "alice")
    assert bench.used == [REFS[name]]


@pytest.mark.parametrize("username", ["", "nobody", "alice", "<token>", "gitlab-ci-token", "ä"])
async def test_the_user_name_beside_a_personal_or_job_token_is_not_compared(bench: Bench, username: str) -> None:
    assert (await bench.basic(username, SECRETS["personal"])).user == ALICE
    assert (await bench.basic(username, SECRETS["job"])).user == ALICE


@pytest.mark.parametrize("name", ["deploy", "job-deploy"])
async def test_the_user_name_beside_a_deploy_token_must_match(bench: Bench, name: str) -> None:
    assert "another user name" in await bench.refused(basic("gitlab-ci-token", SECRETS[name]))
    assert "another user name" in await bench.refused(basic(DEPLOY.username.upper(), SECRETS[name]))


@pytest.mark.parametrize(
    ("username", "secret"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("bob", "right"),
        ("", "right"),
        ("bob@example.com", "right"),
        ("alice", invented(CredentialKind.PERSONAL_TOKEN)),
        ("alice", SECRETS["personal"] + "x"),
        ("alice", SECRETS["personal"].removeprefix("rgpat-")),
        ("alice", "rgpat-"),
        (DEPLOY.username, invented(CredentialKind.DEPLOY_TOKEN)),
        ("gitlab-ci-token", invented(CredentialKind.JOB_TOKEN)),
        (DEPLOY.username, invented(CredentialKind.JOB_DEPLOY_TOKEN)),
    ],
)
async def test_unknown_and_wrong_secrets_get_one_text(bench: Bench, username: str, secret: str) -> None:
    assert await bench.refused(basic(username, secret)) == WRONG


async def test_a_user_without_a_password_has_none(bench: Bench) -> None:
    bench.stored.change_user(password_hash=None, password_changed_at=None)
    assert await bench.refused(basic("alice", "")) == WRONG
    assert await bench.refused(basic("alice", "None")) == WRONG


ENDED = [
    ("personal", {"revoked_at": NOW}, "'laptop' was revoked at 2026-01-01T12:00:00Z: make a new one"),
    ("personal", {"expires_at": NOW}, "'laptop' expired at 2026-01-01T12:00:00Z: make a new one"),
    ("deploy", {"revoked_at": NOW}, "was revoked at 2026-01-01T12:00:00Z: ask a maintainer of its project"),
    ("deploy", {"expires_at": NOW}, "expired at 2026-01-01T12:00:00Z: ask a maintainer of its project"),
    ("job", {"finished_at": NOW}, "the token of job 9 was finished at 2026-01-01T12:00:00Z: start a new job"),
    ("job", {"expires_at": NOW}, "the token of job 9 expired at 2026-01-01T12:00:00Z: start a new job"),
    ("job-deploy", {"revoked_at": NOW}, "of job 9 was revoked at 2026-01-01T12:00:00Z: start a new job"),
]


@pytest.mark.parametrize(("name", "changes", "text"), ENDED)
async def test_a_token_that_has_ended_says_so_and_takes_its_bearers_and_refresh_tokens_along(
    bench: Bench, name: str, changes: dict[str, object], text: str
) -> None:
    credential = basic(KINDS[name][2], SECRETS[name])
    principal = await bench.with_header(credential)
    backing = backing_of(principal)
    assert backing is not None
    bearer, refresh = bench.bearer(principal), bench.tokens.issue_refresh(backing)
    assert (await bench.with_header(bearer)).ref == (await bench.authenticator.refreshed(refresh)).ref == REFS[name]
    bench.stored.change(name, **changes)
    assert text in await bench.refused(credential)
    assert text in await bench.refused(bearer)
    with pytest.raises(Unauthorized, match="2026-01-01"):
        await bench.authenticator.refreshed(refresh)


@pytest.mark.parametrize("name", KINDS)
async def test_a_token_that_was_deleted_is_as_one_that_never_was(bench: Bench, name: str) -> None:
    credential = basic(KINDS[name][2], SECRETS[name])
    principal = await bench.with_header(credential)
    bearer = bench.bearer(principal)
    del bench.stored.credentials[REFS[name]]
    assert await bench.refused(credential) == WRONG
    assert await bench.refused(bearer) == LOGIN_AGAIN
    with pytest.raises(Unauthorized, match=LOGIN_AGAIN):
        await bench.authenticator.renewed(principal)


@pytest.mark.parametrize("name", ["password", "personal", "job", "job-deploy"])
async def test_a_block_ends_everything_of_a_user_at_once(bench: Bench, name: str) -> None:
    credential = basic("alice", "right") if name == "password" else basic(KINDS[name][2], SECRETS[name])
    principal = await bench.with_header(credential)
    backing = backing_of(principal)
    assert backing is not None
    bearer, refresh = bench.bearer(principal), bench.tokens.issue_refresh(backing)
    await bench.with_header(bearer)
    bench.stored.change_user(blocked=True)
    for value in (credential, bearer):
        assert "user 'alice' is blocked: ask an administrator" in await bench.refused(value)
    with pytest.raises(Unauthorized, match="is blocked"):
        await bench.authenticator.renewed(principal)
    with pytest.raises(Unauthorized, match="is blocked"):
        await bench.authenticator.refreshed(refresh)


async def test_a_wrong_password_of_a_blocked_user_tells_nothing(bench: Bench) -> None:
    bench.stored.change_user(blocked=True)
    assert await bench.refused(basic("alice", "wrong")) == WRONG


async def test_a_changed_password_ends_what_was_made_with_the_old_one(bench: Bench) -> None:
    principal = await bench.basic("alice", "right")
    backing = backing_of(principal)
    assert backing is not None
    bearer, refresh = bench.bearer(principal), bench.tokens.issue_refresh(backing)
    assert (await bench.with_header(bearer)).user == ALICE
    bench.stored.change_user(password_hash=hash_password("new"), password_changed_at=NOW)
    assert "has changed: log in again" in await bench.refused(bearer)
    with pytest.raises(Unauthorized, match="has changed"):
        await bench.authenticator.refreshed(refresh)
    assert await bench.refused(basic("alice", "right")) == WRONG
    assert (await bench.basic("alice", "new")).user is not None


async def test_a_deleted_user_is_nobody(bench: Bench) -> None:
    of_password = bench.bearer(await bench.basic("alice", "right"))
    of_token = bench.bearer(await bench.basic("alice", SECRETS["personal"]))
    bench.stored.users.clear()
    assert await bench.refused(of_password) == LOGIN_AGAIN
    assert await bench.refused(of_token) == WRONG


async def test_a_bearer_limits_its_principal_and_ends_by_the_clock(bench: Bench) -> None:
    principal = await bench.basic("x", SECRETS["personal"])
    bearer = bench.bearer(principal)
    found = await bench.with_header(bearer)
    assert found.limits is not None
    assert (dict(found.limits.actions), found.limits.expires_at) == ({"a": frozenset({"pull"})}, NOW + TOKEN_LIFETIME)
    assert replace(found, limits=None) == principal
    bench.now = NOW + TOKEN_LIFETIME
    assert await bench.refused(bearer) == LOGIN_AGAIN


async def test_a_bearer_is_verified_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bearer = bench.bearer(await bench.basic("x", SECRETS["personal"]))
    first = await bench.with_header(bearer)
    monkeypatch.delattr(TokenService, "verify")
    assert await bench.with_header(bearer) == first


async def test_an_anonymous_bearer_is_nobody_with_limits(bench: Bench) -> None:
    found = await bench.with_header(bench.bearer(ANONYMOUS))
    assert found.is_anonymous
    assert found.limits is not None


@pytest.mark.parametrize("value", ["Bearer x", "Bearer ", "Bearer", "bearer a.b.c", "Bearer \xff"])
async def test_a_bearer_that_is_none_gets_one_text(bench: Bench, value: str) -> None:
    assert await bench.refused(value) == LOGIN_AGAIN


@pytest.mark.parametrize(
    "value",
    ["", "Basic", "Basic !", "Basic YWxpY2U", "Basic YWxpY2U=", "Basic gA==", "Digest x", "x", "\x00", "Basic\tYTpi"],
)
async def test_a_malformed_header_is_refused(bench: Bench, value: str) -> None:
    assert await bench.refused(value) == MALFORMED


async def test_two_credentials_are_refused(bench: Bench) -> None:
    value = basic("x", SECRETS["personal"])
    assert await bench.refused(value, value) == MALFORMED


@pytest.mark.parametrize("name", KINDS)
async def test_a_token_gives_nothing_where_another_credential_was_given_its_id(bench: Bench, name: str) -> None:
    """After a restored backup, ids that were given since it was made are given once more."""
    principal = await bench.basic(KINDS[name][2], SECRETS[name])
    backing = backing_of(principal)
    assert backing is not None
    bearer, refresh = bench.bearer(principal), bench.tokens.issue_refresh(backing)
    bench.stored.change(name, created_at=BEFORE + timedelta(microseconds=1))
    assert await bench.refused(bearer) == LOGIN_AGAIN
    with pytest.raises(Unauthorized, match=LOGIN_AGAIN):
        await bench.authenticator.refreshed(refresh)


async def test_a_refresh_token_is_no_bearer_and_a_bearer_no_refresh_token(bench: Bench) -> None:
    principal = await bench.basic("x", SECRETS["personal"])
    backing = backing_of(principal)
    assert backing is not None
    assert await bench.refused(f"Bearer {bench.tokens.issue_refresh(backing)}") == LOGIN_AGAIN
    with pytest.raises(Unauthorized):
        await bench.authenticator.refreshed(bench.bearer(principal).removeprefix("Bearer "))


async def test_failures_delay_passwords_and_never_tokens(bench: Bench) -> None:
    await bench.basic("alice", "right")
    for number in range(FREE_FAILURES):
        await bench.refused(basic("alice@example.com", f"wrong{number}"))
    with pytest.raises(TooManyRequests):
        await bench.basic("alice@example.com", "wrong")
    assert (await bench.basic("alice@example.com", "right")).user == ALICE
    assert (await bench.basic("alice@example.com", SECRETS["personal"])).user == ALICE


async def test_failures_delay_the_address_where_it_is_known(bench: Bench) -> None:
    for number in range(FREE_FAILURES_OF_ADDRESS):
        with pytest.raises(Unauthorized):
            await bench.basic(f"user{number}", "x", address="10.0.0.1")
    with pytest.raises(TooManyRequests):
        await bench.basic("alice", "right", address="10.0.0.1")
    assert (await bench.basic("alice", "right", address="10.0.0.2")).user == ALICE


async def test_no_refusal_holds_a_secret(bench: Bench) -> None:
    secret = "canary-5f1c"
    for value in (basic("alice", secret), basic(secret, "x"), f"Bearer {secret}", f"Basic {secret}", secret):
        with pytest.raises(RegistryError) as caught:
            await bench.with_header(value)
        assert secret not in json.dumps([str(caught.value), caught.value.headers])


def test_a_token_with_a_long_list_takes_the_room_of_many() -> None:
    lists = {count: {f"name{number}": frozenset({"pull"}) for number in range(count)} for count in (0, 1, 50)}
    assert [weight_of(Bearer(None, AccessList(actions, LATER))) for actions in lists.values()] == [1, 2, 51]


async def test_a_user_whose_login_fails_is_concealed(bench: Bench) -> None:
    assert await bench.basic("Alice", "right")
    assert bench.stored.concealed == []
    for number in range(FREE_FAILURES):
        assert await bench.refused(basic("Alice", f"wrong{number}")) == WRONG
    with pytest.raises(TooManyRequests):
        await bench.basic("alice", "another")
    assert bench.stored.concealed == ["alice"] * (FREE_FAILURES + 1)
    assert await bench.refused(basic("nobody", "wrong")) == WRONG
    assert "nobody" not in bench.stored.concealed


async def test_what_was_let_in_by_a_bearer_token_is_renewed_after_that_has_expired(bench: Bench) -> None:
    principal = await bench.with_header(bench.bearer(await bench.with_header(basic("alice", "right"))))
    assert principal.limits is not None
    bench.now += TOKEN_LIFETIME
    assert await bench.authenticator.renewed(principal) == replace(principal, limits=None)
    assert await bench.authenticator.renewed(ANONYMOUS) == ANONYMOUS


async def test_a_bearer_token_of_a_clock_that_was_ahead_is_refused_once_that_is_put_back(bench: Bench) -> None:
    """It was remembered as verified, and would last as long as the clock was ahead."""
    bench.now += timedelta(days=400)
    header = bench.bearer(await bench.with_header(basic("alice", "right")))
    await bench.with_header(header)
    bench.now -= timedelta(days=400)
    assert await bench.refused(header) == LOGIN_AGAIN


async def test_a_token_that_was_revoked_by_a_clock_that_was_ahead_stays_revoked(bench: Bench) -> None:
    bench.stored.change("personal", revoked_at=bench.now + timedelta(days=400))
    assert "was revoked" in str(await bench.refused(basic("alice", SECRETS["personal"])))
