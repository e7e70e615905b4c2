"""`token`, `deploy-token` and `job`: what is printed, what is refused, and that secrets are shown once."""

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway import data_folder
from gateway.cli.folder import open_existing, open_made
from gateway.db import credentials, groups, members, projects, users
from gateway.namespaces.credentials import Credential, CredentialRef, hash_secret
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.role import Role
from gateway.settings.tables import Settings
from tests.gateway.cli.test_main import Terminal

HOST = "registry.example.com:443"
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def _made(data: Path) -> None:
    """Groups a and a/b with the project a/b/app; the developer ann, the reporter rob, and zoe with a project."""
    now = datetime.now(UTC)
    async with open_made(Settings(data=data)) as database, database.write() as connection:
        await groups.create(connection, "a", now)
        group = await groups.create(connection, "a/b", now)
        roles = {"ann": Role.DEVELOPER, "rob": Role.REPORTER, "zoe": None}
        for name, role in roles.items():
            user = await users.create(
                connection, name, now, email=None, admin=False, external=False, password_hash=None
            )
            if role is not None:
                await members.add(connection, Member(NodeKey(NodeKind.GROUP, group.id), user.id, role, None, now))
            if name in ("ann", "zoe"):
                path = {"ann": "a/b/app", "zoe": "zoe/own"}[name]
                await projects.create(connection, path, now, visibility=Visibility.PRIVATE, created_by=user.id)


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    terminal.config.write_text('external_url = "https://registry.example.com"\n')
    run(_made(terminal.data))
    yield terminal


def found(terminal: Terminal, secret: str) -> tuple[CredentialRef, Credential] | None:
    async def find() -> tuple[CredentialRef, Credential] | None:
        async with open_existing(Settings(data=terminal.data)) as database, database.read() as connection:
            return await credentials.find_by_hash(connection, hash_secret(secret))

    return run(find())


def content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


CREATED = {
    "token": ("token", "create", "--user", "ann", "--scope", "api", "--name", "ci"),
    "deploy-token": ("deploy-token", "create", "--group", "a/b", "--name", "cluster", "--scope", "read_registry"),
}
PREFIXES = {"token": "rgpat-", "deploy-token": "rgdt-"}


@pytest.mark.parametrize("kind", CREATED)
def test_a_token_is_shown_once_and_rests_as_a_hash(prompt: Terminal, kind: str) -> None:
    made = prompt.json(*CREATED[kind])
    secret = made.pop("token")
    assert re.fullmatch(PREFIXES[kind] + "[A-Za-z0-9_-]{43}", secret)
    ref, _ = found(prompt, secret) or (None, None)
    assert ref and ref.id == made["id"]
    assert prompt.json(kind, "list") == [made]
    everything = prompt.done(kind, "list") + json.dumps(prompt.json(kind, "revoke", str(made["id"])))
    assert secret not in everything
    assert secret.encode() not in content(prompt.folder)


@pytest.mark.parametrize("kind", CREATED)
def test_a_revoked_token_stays_in_the_list(prompt: Terminal, kind: str) -> None:
    made = prompt.json(*CREATED[kind])
    revoked = prompt.json(kind, "revoke", str(made["id"]))
    assert revoked == {key: value for key, value in made.items() if key != "token"} | {
        "revoked": revoked["revoked"],
        "state": "revoked",
    }
    assert prompt.json(kind, "revoke", str(made["id"])) == revoked
    assert prompt.json(kind, "list") == [revoked]
    assert f"token 9: `registry-gateway {kind} list` shows those there are" in prompt.refused(kind, "revoke", "9")


def test_a_personal_token_is_listed_by_its_user(prompt: Terminal) -> None:
    now = datetime.now(UTC)
    scopes = ("--scope", "write_registry", "--scope", "read_registry")
    mine = prompt.json("token", "create", "--user", "ann", *scopes, "--name", "ci", "--expires", "30d")
    assert mine["scopes"] == ["read_registry", "write_registry"]
    assert abs(datetime.fromisoformat(mine["expires"]) - now - timedelta(days=30)) < timedelta(minutes=5)
    prompt.done("token", "create", "--user", "rob", "--scope", "api", "--name", "x")
    assert [token["user"] for token in prompt.json("token", "list")] == ["ann", "rob"]
    assert [token["id"] for token in prompt.json("token", "list", "--user", "ann")] == [mine["id"]]
    row = prompt.done("token", "list", "--user", "ann").splitlines()[1].split("\t")
    assert row == [str(mine["id"]), "ann", "ci", "read_registry write_registry", "in 30 days", "active", "-"]
    assert "there is no user 'eve'" in prompt.refused("token", "list", "--user", "eve")


def test_what_people_read_names_the_token_its_owner_and_its_end(prompt: Terminal) -> None:
    line, secret = prompt.done(*CREATED["token"], "--expires", "12h").splitlines()
    assert re.fullmatch("created personal access token 1 of ann: api, expires 20[0-9T:-]{17}Z", line)
    assert found(prompt, secret.removeprefix("token, shown this once: "))
    lines = prompt.done(*CREATED["deploy-token"]).splitlines()
    assert lines[:2] == [
        "created deploy token 1 of a/b: read_registry, does not expire",
        "user name: gitlab+deploy-token-1",
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--user", "eve", "--scope", "api", "--name", "x"), "there is no user 'eve'"),
        (("--user", "ann", "--scope", "api", "--name", ""), "'' is not a name for a token"),
        (("--user", "ann", "--scope", "api", "--name", "x", "--expires", "never"), "'never' is not a time: use a date"),
        (("--user", "ann", "--scope", "api", "--name", "x", "--expires", "2020-01-01"), "is not in the future"),
        (("--user", "ann", "--scope", "api", "--name", "x", "--expires", "366d"), "the latest expiry is"),
    ],
)
def test_a_personal_token_that_cannot_be_made_is_refused(prompt: Terminal, words: tuple[str, ...], reason: str) -> None:
    assert reason in prompt.refused("token", "create", *words)
    assert prompt.json("token", "list") == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--scope", "api", "--group", "a"), "a deploy token cannot have the scope api: use any of read_registry"),
        (("--scope", "read_registry"), "give --project or --group"),
        (("--scope", "read_registry", "--group", "a", "--project", "a/b/app"), "give --project or --group, not both"),
        (("--scope", "read_registry", "--group", "x"), "there is no group 'x'"),
        (("--scope", "read_registry", "--project", "a/b"), "a/b"),
        (("--scope", "read_registry", "--group", "a", "--username", "a b"), "is not a user name for a deploy token"),
    ],
)
def test_a_deploy_token_that_cannot_be_made_is_refused(prompt: Terminal, words: tuple[str, ...], reason: str) -> None:
    assert reason in prompt.refused("deploy-token", "create", "--name", "x", *words)
    assert prompt.json("deploy-token", "list") == []


def test_deploy_tokens_are_listed_by_project_and_group(prompt: Terminal) -> None:
    new = ("deploy-token", "create", "--name", "x", "--scope", "write_registry")
    of_project = prompt.json(*new, "--project", "a/b/app", "--username", "puller", "--expires", "2099-01-01")
    assert (of_project["path"], of_project["username"]) == ("a/b/app", "puller")
    assert of_project["expires"] == "2099-01-01T00:00:00Z"
    of_group = prompt.json(*new, "--group", "a")
    for words, expected in {(): [of_project, of_group], ("--group", "a"): [of_group], ("--group", "a/b"): []}.items():
        assert [token["id"] for token in prompt.json("deploy-token", "list", *words)] == [one["id"] for one in expected]


def test_a_number_beyond_what_databases_hold_is_wrong_usage(prompt: Terminal) -> None:
    for kind, verb in [("token", "revoke"), ("deploy-token", "revoke"), ("job", "finish")]:
        for number in ("0", "2147483648", "x"):
            assert prompt.run(kind, verb, number)[0] == 2


# Jobs


def test_a_job_is_given_the_variables_of_the_user_guide(prompt: Terminal) -> None:
    job = prompt.json("job", "start", "a/b/app", "--user", "ann", "--ref", "Feature/1")
    variables = job["variables"]
    ref, _ = found(prompt, variables["CI_JOB_TOKEN"]) or (None, None)
    assert str(ref) == f"job:{job['id']}"
    assert variables.pop("CI_JOB_TOKEN").startswith("rgjob-")
    assert variables.pop("CI_REGISTRY_PASSWORD") == variables.pop("CI_DEPENDENCY_PROXY_PASSWORD")
    assert variables == {
        "CI_JOB_ID": str(job["id"]),
        "CI_REGISTRY": HOST,
        "CI_REGISTRY_USER": "gitlab-ci-token",
        "CI_REGISTRY_IMAGE": f"{HOST}/a/b/app",
        "CI_DEPENDENCY_PROXY_SERVER": HOST,
        "CI_DEPENDENCY_PROXY_USER": "gitlab-ci-token",
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX": f"{HOST}/a/dependency_proxy/containers",
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX": f"{HOST}/a/b/dependency_proxy/containers",
        "CI_PROJECT_PATH": "a/b/app",
        "CI_COMMIT_REF_NAME": "Feature/1",
        "CI_COMMIT_REF_SLUG": "feature-1",
    }
    created, expires = (datetime.fromisoformat(job[name]) for name in ("created", "expires"))
    assert expires - created == timedelta(hours=1)


def test_secrets_of_a_job_are_shown_once_and_end_with_it(prompt: Terminal) -> None:
    token = ("--name", "gitlab-deploy-token", "--scope", "read_registry", "--username", "puller")
    prompt.done("deploy-token", "create", "--group", "a/b", *token)
    job = prompt.json("job", "start", "a/b/app", "--user", "ann", "--expires", "2h")
    secrets = [job["variables"][name] for name in ("CI_JOB_TOKEN", "CI_DEPLOY_PASSWORD")]
    assert job["variables"]["CI_DEPLOY_USER"] == "puller"
    assert [str(ref) for ref, _ in filter(None, (found(prompt, secret) for secret in secrets))] == [
        f"job:{job['id']}",
        f"job-deploy:{job['id']}",
    ]
    listed = prompt.json("job", "list")
    finished = prompt.json("job", "finish", str(job["id"]))
    assert (listed[0]["state"], finished["state"]) == ("active", "finished")
    assert prompt.json("job", "list") == []
    assert prompt.json("job", "list", "--all", "--project", "a/b/app") == [finished]
    assert not any(secret in json.dumps([listed, finished]) for secret in secrets)
    assert not any(secret.encode() in content(prompt.folder) for secret in secrets)


def test_jobs_that_commands_start_and_finish_are_in_the_audit_log_once(prompt: Terminal) -> None:
    job = prompt.json("job", "start", "a/b/app", "--user", "ann")["id"]
    for _ in range(2):
        prompt.done("job", "finish", str(job))
    found = [
        (event["event"], event["path"], event["outcome"])
        for event in prompt.json("audit", "list", "--path", "a/b/app")
        if event["outcome"] == f"job {job}"
    ]
    assert found == [("grant", "a/b/app", f"job {job}"), ("revoke", "a/b/app", f"job {job}")]


def test_a_shell_evaluates_what_people_read(prompt: Terminal) -> None:
    lines = prompt.done("job", "start", "a/b/app", "--user", "ann", "--ref", "it's $(id)")
    assert re.match(r"# job 1 of a/b/app on behalf of ann until 20\S+\n", lines)
    script = f'{lines}\nprintf "%s" "$CI_COMMIT_REF_NAME,$CI_REGISTRY_IMAGE,$CI_JOB_ID"'
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed == f"it's $(id),{HOST}/a/b/app,1"
    assert shlex.quote("it's $(id)") in lines
    assert prompt.done("job", "finish", "1") == "finished job 1 of a/b/app\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a/b/app", "--user", "rob"), "user 'rob' is reporter in project 'a/b/app': jobs need a developer at least"),
        (("a/b/app", "--user", "zoe"), "user 'zoe' has no role in project 'a/b/app'"),
        (("a/b/app", "--user", "eve"), "there is no user 'eve'"),
        (("a/b", "--user", "ann"), "a/b"),
        (("a/b/app", "--user", "ann", "--ref", "///"), "has no letter or digit for CI_COMMIT_REF_SLUG"),
        (("a/b/app", "--user", "ann", "--expires", "31d"), "a job cannot last until"),
    ],
)
def test_a_job_that_may_not_start_is_refused(prompt: Terminal, words: tuple[str, ...], reason: str) -> None:
    assert reason in prompt.refused("job", "start", *words)
    assert prompt.json("job", "list", "--all") == []


def test_a_job_of_a_users_own_project_has_no_group_prefix(prompt: Terminal) -> None:
    variables = prompt.json("job", "start", "zoe/own", "--user", "zoe")["variables"]
    assert variables["CI_REGISTRY_IMAGE"] == f"{HOST}/zoe/own"
    assert not any("IMAGE_PREFIX" in name for name in variables)


def test_a_host_is_that_of_the_registry_else_of_the_server_that_runs(prompt: Terminal) -> None:
    def registry() -> str:
        name: str = prompt.json("job", "start", "a/b/app", "--user", "ann")["variables"]["CI_REGISTRY"]
        return name

    url = 'external_url = "https://registry.example.com"\n'
    prompt.config.write_text(f'{url}registry_url = "http://images.example.com:5000"\n')
    assert registry() == "images.example.com:5000"
    prompt.config.write_text("port = 0\n")
    assert "start it first, or set the port" in prompt.refused("job", "start", "a/b/app", "--user", "ann")
    data_folder.announce_server(prompt.data, ["http://127.0.0.1:43210"], [])
    assert registry() == "127.0.0.1:43210"
