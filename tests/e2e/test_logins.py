"""Real clients log in with each credential, pull from a closed group by what they stored, and are told why not.

The first test prints a table (pytest -s) with a row for each client and a column for each credential.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import Publish
from tests.parts import logins, raw
from tests.parts.canaries import found_in
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.logins import CLIENTS, LoginClient, Outcome, every_client, manifest_url
from tests.parts.registry import Registry

from .closed_group import GROUP, NATIVE, PROJECT, ClosedGroup, Login
from .conftest import LongLived

CREDENTIALS = ("password", "read_registry", "write_registry", "deploy token", "job token", "job's deploy token")
AT_ONCE = 3
"""Clients that run at the same time: more would only wait for the cores."""

LOSES_WITHIN = 1.0
"""Seconds in which a credential that has ended is refused by every worker."""


@pytest.fixture(scope="module")
def dockerd(workplace: Path, processes: None) -> Iterator[Dockerd]:
    engine = Dockerd(workplace / "dockerd-of-logins", "{}")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def clients(workplace: Path, dockerd: Dockerd) -> Iterator[dict[str, LoginClient]]:
    containerd = Containerd(workplace / "containerd-of-logins")
    yield every_client(workplace / "logins", dockerd, containerd)
    containerd.stop()


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish) -> Iterator[Gateway]:
    published("tiny")
    server = long_lived({"workers": 2, "upstreams": {"docker.io": registry.settings()}})
    yield server
    assert not found_in(server.log_text().encode()), "the log holds a secret"


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


def is_refused(outcome: Outcome) -> bool:
    """Whether a client was refused for want of a login, and said so."""
    return not outcome.done and "there is no group 'team', or not for everybody; log in to pull" in outcome.text


def printed_table(names: Sequence[str], kinds: Sequence[str], cell: Callable[[str, str], str]) -> dict[str, list[str]]:
    """Fills and prints a table with a row for each client; a client does one thing at a time."""

    def row(name: str) -> list[str]:
        return [cell(name, kind) for kind in kinds]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        table = dict(zip(names, threads.map(row, names), strict=True))
    print(f"\n{'':12}", *(f"{kind:>18}" for kind in kinds))
    for name, words in table.items():
        print(f"{name:12}", *(f"{word.strip().partition(chr(10))[0][:60]:>18}" for word in words))
    return table


def test_every_client_pulls_from_a_closed_group_by_every_credential(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    host, image, credentials = team.server.host, team.image(), team.every_credential()
    assert tuple(credentials) == CREDENTIALS

    def cell(name: str, kind: str) -> str:
        """What came of a login, a pull, a logout and another pull: `yes`, or the first step that was wrong."""
        client, login, folder = clients[name], credentials[kind], scratch / name / kind.replace(" ", "-")
        given = client.login(folder, host, login.user, login.secret)
        if not given.done:
            return f"login: {given.text}"
        pulled = client.pull(folder, image)
        if not pulled.done:
            return f"pull: {pulled.text}"
        client.logout(folder, host)
        after = client.pull(folder, image)
        return "yes" if is_refused(after) else f"after logout: {after}"

    for name, client in clients.items():
        assert is_refused(client.pull(scratch / name / "nobody", image)), f"{name} without a login"
    table = printed_table(CLIENTS, CREDENTIALS, cell)
    assert {word for words in table.values() for word in words} == {"yes"}


def test_docker_stores_a_refresh_token_instead_of_the_secret(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    docker, host = clients["docker"], team.server.host
    for number, login in enumerate([team.ann, team.personal_token("read_registry")]):
        folder = scratch / f"login-{number}"
        assert docker.login(folder, host, login.user, login.secret).done
        stored = (folder / "config.json").read_text()
        assert json.loads(stored)["auths"][host]["identitytoken"]
        assert login.secret not in stored
        assert base64.b64encode(f"{login.user}:{login.secret}".encode()).decode() not in stored
        assert docker.pull(folder, team.image()).done


WRONG = "access denied: the user name, the password or the token is wrong"
REFUSED_LOGINS = {
    "wrong password": WRONG,
    "unknown token": WRONG,
    "revoked": "the personal access token 'tests' was revoked at",
    "expired": "the personal access token 'tests' expired at",
    "finished job": "start a new job",
    "blocked": "is blocked: ask an administrator of this server",
    "another user name": "this deploy token belongs to another user name: use the one that it was made with",
}
"""The sentence that a client must print for each credential that is not accepted."""

WHERE_SHOWN = {"skopeo": "pull", "podman": "pull", "crane": "pull", "ctr": "pull"}
"""Clients whose login prints a text of their own, or asks nobody."""


def refused_logins(team: ClosedGroup) -> dict[str, Login]:
    """A login of each kind that is not accepted. A wrong password is of another account for each client: delays come
    after some failures."""
    token = team.personal_token("read_registry")
    revoked, expired = team.personal_token("read_registry"), team.personal_token("read_registry", expires="1s")
    team.commands.run("token", "revoke", str(revoked.id))
    job, variables = team.job()
    team.commands.run("job", "finish", str(job))
    team.new_member("bob")
    blocked = team.personal_token("api", user="bob")
    team.commands.run("user", "update", "bob", "--block")
    return {
        "wrong password": replace(team.ann, secret="wrong"),
        "unknown token": replace(token, secret=token.secret[:-4] + "0000"),
        "revoked": revoked,
        "expired": expired,
        "finished job": Login("gitlab-ci-token", variables["CI_REGISTRY_PASSWORD"]),
        "blocked": blocked,
        "another user name": replace(team.deploy_token(f"--group={GROUP}"), user="ann"),
    }


def test_every_client_prints_why_a_credential_is_not_accepted(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    refused = refused_logins(team)
    for name in CLIENTS:
        team.commands.run("user", "create", f"of-{name.split()[0].lower()}")

    def cell(name: str, kind: str) -> str:
        """The command that prints the sentence: the login, or else the pull with the pair stored beforehand."""
        client, login, folder = clients[name], refused[kind], scratch / name / kind.replace(" ", "-")
        user = f"of-{name.split()[0].lower()}" if kind == "wrong password" else login.user
        given = client.login(folder, team.server.host, user, login.secret)
        if REFUSED_LOGINS[kind] in given.text and not given.done:
            return "login"
        if isinstance(client, logins.Program):
            client.store(folder, team.server.host, user, login.secret)
        pulled = client.pull(folder, team.image())
        if pulled.done:
            return "PULLED"
        return "pull" if REFUSED_LOGINS[kind] in pulled.text else "nothing"

    table = printed_table(CLIENTS, tuple(REFUSED_LOGINS), cell)
    assert {name: set(words) for name, words in table.items()} == {
        name: {WHERE_SHOWN.get(name, "login")} for name in CLIENTS
    }


REFUSED_PUSHES = {
    "read_registry": "has the scopes read_registry, and push needs api or write_registry: make a token with that scope",
    "deploy token": "has the scopes read_registry, and push needs write_registry: make a token with that scope",
    "reporter": "developers and above may push",
    "no project": "there is no project 'team/absent', or not for everybody",
    "proxied": "images of an upstream can only be pulled",
}
PUSHING = ("docker", "skopeo", "oras", "crane")


def test_every_client_prints_why_a_push_is_refused(
    team: ClosedGroup, clients: dict[str, LoginClient], dockerd: Dockerd, published: Publish, scratch: Path
) -> None:
    native, layout = f"{team.server.host}/{NATIVE}", published("tiny")
    absent = f"{team.server.host}/team/absent/built:latest"
    carl = team.new_user("carl")
    team.commands.run("member", "add", PROJECT, "carl", "reporter")
    pushed = {
        "read_registry": (team.personal_token("read_registry"), native),
        "deploy token": (team.deploy_token(f"--project={PROJECT}"), native),
        "reporter": (carl, native),
        "no project": (team.personal_token("write_registry"), absent),
        "proxied": (team.personal_token("write_registry"), team.image("pushed")),
    }
    open_image = team.server.proxied("library/tiny:latest")
    dockerd.run("pull", "--quiet", open_image)
    for reference in (native, absent, team.image("pushed")):
        dockerd.run("tag", open_image, reference)

    def cell(name: str, kind: str) -> str:
        client, (login, reference) = clients[name], pushed[kind]
        folder = scratch / name / kind.replace(" ", "-")
        assert isinstance(client, logins.Program)
        assert client.login(folder, team.server.host, login.user, login.secret).done
        outcome = client.push(folder, layout.path, reference)
        return "yes" if REFUSED_PUSHES[kind] in outcome.text and not outcome.done else outcome.text

    table = printed_table(PUSHING, tuple(REFUSED_PUSHES), cell)
    assert {word for words in table.values() for word in words} == {"yes"}


def test_every_client_prints_why_a_member_of_nothing_may_not_pull_from_a_group_that_it_may_know(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    team.commands.run("group", "create", "inner", "--visibility", "internal")
    dan = team.new_user("dan")
    reason = "user 'dan' is no member of group 'inner': guests and above, here or above, may pull"
    shown = {}
    for name in CLIENTS:
        client, folder = clients[name], scratch / name
        client.login(folder, team.server.host, dan.user, dan.secret)
        outcome = client.pull(folder, team.server.proxied("library/tiny:latest", "inner"))
        shown[name] = reason in outcome.text or outcome.text
    assert shown == dict.fromkeys(shown, True)


NOT_FOUND_OF_ORAS = "latest: not found"
"""What oras prints for every status 404, because it resolves tags by HEAD."""


def test_what_is_stored_is_refused_by_both_workers_within_a_second_of_its_end(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    """Each client goes on with what its login stored, among it the refresh tokens of docker and of POST, and a Bearer
    token that was issued before."""
    host, run = team.server.host, team.commands.run
    eve, fay = team.new_member("eve"), team.new_member("fay")
    token, (job, variables) = team.personal_token("read_registry"), team.job()
    ends: dict[str, tuple[Login, list[str], str]] = {
        "token revoke": (token, ["token", "revoke", str(token.id)], "was revoked at"),
        "job finish": (
            Login(variables["CI_REGISTRY_USER"], variables["CI_REGISTRY_PASSWORD"]),
            ["job", "finish", str(job)],
            "start a new job",
        ),
        "user update --block": (eve, ["user", "update", "eve", "--block"], "user 'eve' is blocked"),
        "member remove": (fay, ["member", "remove", GROUP, "fay"], "there is no group 'team', or not for everybody"),
    }
    stored = ("docker", "skopeo", "crane", "oras", "Basic only", "POST only")
    for kind, (login, words, reason) in ends.items():
        folders = {name: scratch / kind.replace(" ", "-") / name for name in stored}
        for name, folder in folders.items():
            assert clients[name].login(folder, host, login.user, login.secret).done
            assert clients[name].pull(folder, team.image()).done
        bearer = {"Authorization": f"Bearer {logins.bearer_of(team.image(), login.user, login.secret)}"}
        assert {raw.head(manifest_url(team.image()), bearer).status for _ in range(8)} == {200}
        run(*words)
        ended = monotonic()
        refused = 0
        while refused < 20:  # in a row, of connections that the kernel spreads over both workers
            asked = monotonic()
            refused = refused + 1 if raw.head(manifest_url(team.image()), bearer).status in (401, 404) else 0
            assert refused or asked - ended < LOSES_WITHIN, f"{kind}: a Bearer token is served after a second"
        for name, folder in folders.items():
            outcome = clients[name].pull(folder, team.image())
            assert not outcome.done, f"{kind}: {name} pulls after the end"
            told = NOT_FOUND_OF_ORAS if name == "oras" and kind == "member remove" else reason
            assert told in outcome.text, f"{kind}, {name}: {outcome.text}"


def test_one_login_is_enough_for_the_registry_and_the_dependency_proxy(
    team: ClosedGroup, clients: dict[str, LoginClient], scratch: Path
) -> None:
    """The variables of a job are used as GitLab's guide uses them: one login, by either variable, and pulls by both."""
    _, variables = team.job()
    image = f"{variables['CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX']}/library/tiny:latest"
    built = f"{variables['CI_REGISTRY_IMAGE']}/built:latest"
    pairs = {"CI_REGISTRY": "CI_REGISTRY", "CI_DEPENDENCY_PROXY_SERVER": "CI_DEPENDENCY_PROXY"}
    for name in ("docker", "skopeo", "podman", "oras", "crane"):
        for place, pair in pairs.items():
            client, folder = clients[name], scratch / name / place
            user, secret = variables[f"{pair}_USER"], variables[f"{pair}_PASSWORD"]
            assert client.login(folder, variables[place], user, secret).done
            assert client.pull(folder, image).done
            missing = client.pull(folder, built)
            told = NOT_FOUND_OF_ORAS if name == "oras" else "team/app/built has no tag latest"
            assert told in missing.text, f"{name}: {missing.text}"
