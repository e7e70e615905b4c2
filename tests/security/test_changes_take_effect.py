"""What is revoked, closed, blocked, removed or over ends within a second, on every worker and in every scheme."""

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from gateway.auth.passwords import hash_password
from gateway.db import deploy_tokens, groups, jobs, members, personal_tokens, projects, users
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.role import Role
from tests.e2e.test_many_workers import worker_of
from tests.parts.canaries import CANARY, found_below, found_in, remember
from tests.parts.gateway import Gateway
from tests.parts.liar import Liar
from tests.parts.processes import wait_until

from .kept import (
    Answer,
    Header,
    Kept,
    basic,
    bearer,
    request_by_get,
    request_by_post,
    request_by_refresh,
    scope,
    token_of,
)
from .tree import PASSWORD, Login, Planter, run

WITHIN = 1.0
WORKERS = 2


@dataclass(frozen=True)
class Stored:
    """A tree of its own for one test: a user who is a developer of a group with a project, and credentials.

    The deploy token is the group's, and the job the project's.
    """

    group: str
    project: str
    password: Login
    personal: Login
    deploy: Login
    job: Login

    @property
    def image(self) -> str:
        return f"{self.project}/image"

    @property
    def proxied(self) -> str:
        return f"{self.group}/dependency_proxy/containers/library/none"


_numbers = count()


def plant(data: Path, *, expires_after: timedelta | None = None, open: bool = False) -> Stored:
    """Stores a tree whose names no other test uses. `expires_after`: of the membership, from now on."""

    async def planted(planter: Planter) -> Stored:
        number = next(_numbers)
        user = await planter.user(f"ann{number}")
        group = await planter.group(f"acme{number}", "public" if open else "private", open=open)
        project = await planter.project(f"{group.path}/app")
        expires_at = None if expires_after is None else planter.now + expires_after
        await planter.member(group.key, user, Role.DEVELOPER, expires_at)
        return Stored(
            group.path,
            project.path,
            Login(user.id, user.name, PASSWORD),
            await planter.personal(user, ["write_registry"]),
            await planter.deploy(group.key, ["write_registry"]),
            (await planter.job(project, user))[0],
        )

    return run(data, planted)


async def _plant_admin(planter: Planter) -> None:
    await planter.user("adele", admin=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Gateway]:
    with Liar() as upstream:
        config = {"workers": WORKERS, "upstreams": {"docker.io": upstream.settings()}, "cache": {"prefetch": False}}
        server = Gateway(tmp_path_factory.mktemp("changes"), config)
        run(server.data, _plant_admin)
        server.start()
        yield server
        server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


@pytest.fixture
def clients(server: Gateway) -> Iterator[list[Kept]]:
    """One kept connection to each worker."""
    with ExitStack() as stack:
        found: dict[int, Kept] = {}
        while len(found) < WORKERS:
            client = stack.enter_context(Kept(server.port))
            client.send("GET", "/-/health")
            found.setdefault(worker_of(server, client), client)
        yield list(found.values())


@dataclass(frozen=True)
class Access:
    """One way to use a credential, and whether it still opens a name."""

    label: str
    headers: tuple[Header, ...]
    refresh: str = ""

    def opens(self, client: Kept, name: str) -> bool:
        if self.refresh:
            answer = request_by_refresh(client, self.refresh, [scope(name)])
            return answer.status == 200 and name in json.loads(answer.body)["scope"]
        return is_open(client.send("GET", f"/v2/{name}/manifests/latest", self.headers))


def is_open(answer: Answer) -> bool:
    """Whether a pull was allowed; there is nothing to pull, which only who may pull is told."""
    allowed = answer.code == "MANIFEST_UNKNOWN" or answer.status >= 500
    assert allowed or answer.status in (401, 403, 404), answer
    return allowed


def accesses(client: Kept, login: Login, names: list[str]) -> list[Access]:
    """Every way to use a credential: itself, a Bearer token that is verified already, and a refresh token."""
    scopes = [scope(name) for name in names]
    document = json.loads(request_by_get(client, login.username, login.secret, scopes, ("offline_token", "true")).body)
    by_post = remember(token_of(request_by_post(client, login.username, login.secret, scopes)))
    return [
        Access("Basic", (basic(login.username, login.secret),)),
        Access("Bearer by GET", (bearer(remember(document["token"])),)),
        Access("Bearer by POST", (bearer(by_post),)),
        Access("refresh token", (), remember(document["refresh_token"])),
    ]


Change = Callable[[Planter, Stored], Awaitable[object]]


async def _revoke_personal(planter: Planter, stored: Stored) -> None:
    await personal_tokens.revoke(planter.connection, stored.personal.id, datetime.now(UTC))


async def _revoke_deploy(planter: Planter, stored: Stored) -> None:
    await deploy_tokens.revoke(planter.connection, stored.deploy.id, datetime.now(UTC))


async def _finish_job(planter: Planter, stored: Stored) -> None:
    await jobs.finish(planter.connection, stored.job.id, datetime.now(UTC))


async def _block(planter: Planter, stored: Stored) -> None:
    user = await users.get(planter.connection, stored.password.username)
    await users.update(planter.connection, replace(user, blocked=True))


async def _delete_user(planter: Planter, stored: Stored) -> None:
    await users.delete(planter.connection, stored.password.username)


async def _change_password(planter: Planter, stored: Stored) -> None:
    user = await users.get(planter.connection, stored.password.username)
    hashed = hash_password(f"another-{CANARY}")
    await users.update(planter.connection, user.with_password(hashed, datetime.now(UTC)))


async def _remove_member(planter: Planter, stored: Stored) -> None:
    acme = await groups.get(planter.connection, stored.group)
    await members.remove(planter.connection, acme.key, stored.password.id)


async def _disable(planter: Planter, stored: Stored) -> None:
    project = await projects.get(planter.connection, stored.project)
    await projects.update(planter.connection, replace(project, registry=RegistryAccess.DISABLED))


async def _delete_project(planter: Planter, stored: Stored) -> None:
    await projects.delete(planter.connection, stored.project, planter.now)


async def _turn_proxy_off(planter: Planter, stored: Stored) -> None:
    acme = await groups.get(planter.connection, stored.group)
    await groups.update(planter.connection, replace(acme, proxy_enabled=False))


EVERYTHING = ("password", "personal", "deploy", "job")
OF_USER = ("password", "personal", "job")
BOTH, IMAGE, PROXIED = ("image", "proxied"), ("image",), ("proxied",)
CHANGES: dict[str, tuple[Change, tuple[str, ...], tuple[str, ...]]] = {
    "a personal token is revoked": (_revoke_personal, ("personal",), BOTH),
    "a deploy token is revoked": (_revoke_deploy, ("deploy",), BOTH),
    "a job is finished": (_finish_job, ("job",), BOTH),
    "a user is blocked": (_block, OF_USER, BOTH),
    "a user is deleted": (_delete_user, OF_USER, BOTH),
    "a password is changed": (_change_password, ("password",), BOTH),
    "a member is removed": (_remove_member, OF_USER, BOTH),
    "a registry is disabled": (_disable, EVERYTHING, IMAGE),
    "a project is deleted": (_delete_project, EVERYTHING, IMAGE),
    "a dependency proxy is turned off": (_turn_proxy_off, EVERYTHING, PROXIED),
}
"""Each change, the credentials that it ends, and the names that they open no more."""


@dataclass(frozen=True)
class Probe:
    """One way to use a credential, a name, and a worker."""

    label: str
    client: Kept
    access: Access
    name: str

    @property
    def opens(self) -> bool:
        return self.access.opens(self.client, self.name)


def probes_of(clients: list[Kept], stored: Stored, kinds: tuple[str, ...], names: tuple[str, ...]) -> list[Probe]:
    ways = [
        (kind, access)
        for kind in kinds
        for access in accesses(clients[0], getattr(stored, kind), [stored.image, stored.proxied])
    ]
    return [
        Probe(f"worker {number}: {name} by {access.label} of {kind}", client, access, getattr(stored, name))
        for number, client in enumerate(clients)
        for kind, access in ways
        for name in names
    ]


def late_ones(probes: list[Probe], begun: float) -> list[str]:
    """Probes that are still open WITHIN seconds after the change; each is asked until it is closed."""
    late = []
    for probe in probes:
        while probe.opens:
            if time.time() - begun > WITHIN:
                late.append(probe.label)
                break
    return late


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_takes_effect_at_once_everywhere(server: Gateway, clients: list[Kept], change: str) -> None:
    alter, kinds, names = CHANGES[change]
    stored = plant(server.data)
    probes = probes_of(clients, stored, kinds, names)
    assert [probe.label for probe in probes if not probe.opens] == []
    run(server.data, lambda planter: alter(planter, stored))
    assert late_ones(probes, time.time()) == []
    assert [probe.label for probe in probes if probe.opens] == []


def test_a_membership_ends_by_the_clock_everywhere(server: Gateway, clients: list[Kept]) -> None:
    lifetime = timedelta(seconds=8)
    begun = time.time()
    stored = plant(server.data, expires_after=lifetime)
    probes = probes_of(clients, stored, ("password", "personal", "job"), BOTH)
    opened = [probe.opens for probe in probes]
    if time.time() < begun + lifetime.total_seconds():  # else the machine was too slow to ask before the end
        assert all(opened)
    ends = time.time() + lifetime.total_seconds()
    wait_until(lambda: time.time() >= min(ends, begun + lifetime.total_seconds() + 0.5))
    assert late_ones(probes, time.time()) == []


def test_a_group_that_is_closed_is_closed_to_everybody_at_once(server: Gateway, clients: list[Kept]) -> None:
    stored = plant(server.data, open=True)
    anonymous = bearer(remember(token_of(request_by_get(clients[0], "", "", [scope(stored.proxied)]))))
    ways = [Access("nobody", ()), Access("an anonymous Bearer", (anonymous,))]
    probes = [Probe(access.label, client, access, stored.proxied) for client in clients for access in ways]
    assert all(probe.opens for probe in probes)

    async def close(planter: Planter) -> None:
        group = await groups.get(planter.connection, stored.group)
        await groups.update(planter.connection, replace(group, anonymous_pull=False))

    run(server.data, close)
    assert late_ones(probes, time.time()) == []


def test_what_is_given_back_opens_again(server: Gateway, clients: list[Kept]) -> None:
    stored = plant(server.data)
    probes = probes_of(clients, stored, EVERYTHING, IMAGE)
    run(server.data, lambda planter: _disable(planter, stored))
    assert late_ones(probes, time.time()) == []

    async def enable(planter: Planter) -> None:
        project = await projects.get(planter.connection, stored.project)
        await projects.update(planter.connection, replace(project, registry=RegistryAccess.ENABLED))

    run(server.data, enable)
    wait_until(lambda: all(probe.opens for probe in probes))
