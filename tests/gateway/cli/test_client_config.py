"""`client-config`: files for each client and server, and refusals of configurations that could not work."""

import base64
import json
import os
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.inspection.client_files import Client, ClientRoute, ClientUnsupported, ServerUrl, client_file
from tests.gateway.cli.test_main import Terminal

PLAIN, TLS, LOCAL = "http://mirror.example.com:8080", "https://mirror.example.com", "http://127.0.0.1:8080"


def route(url: str, **more: Any) -> ClientRoute:
    known: dict[str, Any] = {"group": "hub", "upstream": "docker.io", "by_ns": True, "is_default": True}
    return ClientRoute(**{"main": ServerUrl(url), "root": ServerUrl(url.replace("8080", "8081")), **known, **more})


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.mark.parametrize(
    ("url", "insecure"),
    [
        (PLAIN, ["mirror.example.com:8081", "mirror.example.com:8080"]),
        (TLS, None),
        (LOCAL, None),
        ("http://registry.localhost:8080", None),
    ],
)
def test_dockerd_is_told_of_plain_http_only_where_it_would_refuse_it(url: str, insecure: list[str] | None) -> None:
    document = json.loads(client_file(Client.DOCKER, route(url)).text)
    assert document["registry-mirrors"] == [url.replace("8080", "8081")]
    assert document.get("insecure-registries") == insecure


@pytest.mark.parametrize(("url", "plain"), [(PLAIN, True), (TLS, False), (LOCAL, True)])
def test_the_others_are_told_wherever_it_is_plain_http(url: str, plain: bool) -> None:
    host = url.partition("://")[2]
    prefix = f"{host}/hub/dependency_proxy/containers/docker.io"
    for client in (Client.PODMAN, Client.CRIO):
        [registry] = tomllib.loads(client_file(client, route(url)).text)["registry"]
        assert registry["mirror"] == [{"location": prefix, **({"insecure": True} if plain else {})}]
        assert (registry["prefix"], registry["location"]) == ("docker.io", "docker.io")
    registries = tomllib.loads(client_file(Client.BUILDKIT, route(url)).text)["registry"]
    assert registries == {"docker.io": {"mirrors": [prefix]}, **({host: {"http": True}} if plain else {})}
    hosts = tomllib.loads(client_file(Client.CONTAINERD, route(url)).text)["host"]
    assert hosts == {url: {"capabilities": ["pull", "resolve"]}}


def test_every_file_that_can_says_where_it_goes() -> None:
    for client in Client:
        file = client_file(client, route(TLS))
        assert (client is Client.DOCKER) or file.text.startswith(f"# {file.path}")


def test_containerd_goes_by_the_prefix_of_a_group_that_is_not_that_of_ns() -> None:
    other = route(TLS, group="team/ci", by_ns=False)
    hosts = tomllib.loads(client_file(Client.CONTAINERD, other).text)["host"]
    url = f"{TLS}/v2/team/ci/dependency_proxy/containers/docker.io"
    assert hosts == {url: {"capabilities": ["pull", "resolve"], "override_path": True}}
    alone = tomllib.loads(client_file(Client.CONTAINERD, replace(other, falls_back=False)).text)
    place = {"capabilities": ["pull", "resolve"], "override_path": True}
    assert alone == {"server": url, **place, "host": {url: place}}


@pytest.mark.parametrize(("url", "plain"), [(PLAIN, True), (TLS, False)])
def test_without_a_fallback_a_file_names_no_upstream_as_a_place(url: str, plain: bool) -> None:
    alone = route(url, falls_back=False)
    prefix = f"{url.partition('://')[2]}/hub/dependency_proxy/containers/docker.io"
    for client in (Client.PODMAN, Client.CRIO):
        [registry] = tomllib.loads(client_file(client, alone).text)["registry"]
        assert registry == {"prefix": "docker.io", "location": prefix, **({"insecure": True} if plain else {})}
    hosts = tomllib.loads(client_file(Client.CONTAINERD, alone).text)
    place = {"capabilities": ["pull", "resolve"]}
    assert hosts == {"server": url, **place, "host": {url: place}}
    assert client_file(Client.GITLAB_CI, alone) == client_file(Client.GITLAB_CI, route(url))
    for client in (Client.DOCKER, Client.BUILDKIT):
        with pytest.raises(ClientUnsupported, match=r"has no setting against it: name images as mirror\.example\.com"):
            client_file(client, alone)


def test_a_file_says_what_becomes_of_a_refusal(terminal: Terminal) -> None:
    terminal.config.write_text("external_url = 'https://r.example'\n[[virtual_host]]\nname = 'd.example'\n")
    for client in ("containerd", "podman", "crio", "buildkit"):
        assert "refuses, by a gate too, is requested from docker.io itself" in terminal.done("client-config", client)
    assert "docker.io itself" in terminal.run("client-config", "docker")[2]
    alone = terminal.done("client-config", "podman", "--no-fallback")
    assert "Nothing is requested from docker.io itself" in alone
    assert 'location = "docker.io"' not in alone
    assert "dockerd asks docker.io itself" in terminal.refused("client-config", "docker", "--no-fallback")


def test_an_address_on_loopback_is_said_to_be_of_this_machine_alone(terminal: Terminal) -> None:
    code, out, err = terminal.run("client-config", "podman")
    assert (code, "127.0.0.1" in out) == (0, True)
    assert "only clients on this machine reach http://127.0.0.1:8080: for others, set external_url" in err
    terminal.config.write_text("external_url = 'https://r.example'\n")
    assert terminal.run("client-config", "podman")[2] == ""


def test_a_runner_names_the_upstream_where_the_group_would_take_another() -> None:
    assert "IMAGE_PREFIX}/alpine:latest" in client_file(Client.GITLAB_CI, route(TLS)).text
    assert "IMAGE_PREFIX}/docker.io/alpine:latest" in client_file(Client.GITLAB_CI, route(TLS, is_default=False)).text
    assert "insecure-registries" not in client_file(Client.GITLAB_CI, route(LOCAL)).text
    assert '"insecure-registries": ["mirror.example.com:8080"]' in client_file(Client.GITLAB_CI, route(PLAIN)).text


def test_dockerd_without_an_address_of_its_own_is_told_which_setting_to_add(terminal: Terminal) -> None:
    assert '[[listener]] with port = 8081, group = "hub", upstream = "docker.io"' in terminal.refused(
        "client-config", "docker"
    )
    terminal.config.write_text("[[listener]]\nport = 8081\ngroup = 'team'\n")
    assert "[[listener]]" in terminal.refused("client-config", "docker")
    code, out, err = terminal.run("client-config", "docker", "--group", "team")
    assert (code, json.loads(out)) == (0, {"registry-mirrors": ["http://127.0.0.1:8081"]})
    assert "/etc/docker/daemon.json" in err
    shown = terminal.json("client-config", "docker", "--group", "team")
    assert (shown["text"], shown["path"], shown["client"]) == (out, "/etc/docker/daemon.json", "docker")
    assert not terminal.data.exists()


def test_a_virtual_host_has_scheme_and_port_of_the_external_url(terminal: Terminal) -> None:
    terminal.config.write_text("external_url = 'https://r.example:8443/x'\n[[virtual_host]]\nname = 'd.example'\n")
    assert json.loads(terminal.run("client-config", "docker")[1]) == {"registry-mirrors": ["https://d.example:8443"]}


def test_what_does_not_exist_is_refused_with_what_does(terminal: Terminal) -> None:
    terminal.config.write_text('external_url = "https://r.example"\n[upstreams."quay.io"]\nurl = "https://quay.io"\n')
    assert "configured are docker.io, quay.io" in terminal.refused("client-config", "podman", "--upstream", "ghcr.io")
    assert "dockerd mirrors docker.io alone" in terminal.refused("client-config", "docker", "--upstream", "quay.io")
    assert 'prefix = "quay.io"' in terminal.done("client-config", "podman", "--upstream", "quay.io")
    assert 'prefix = "docker.io"' in terminal.done("client-config", "podman", "--upstream", "index.docker.io")
    terminal.done("group", "create", "off", "--no-proxy")
    assert "'absent'" in terminal.refused("client-config", "podman", "--group", "absent")
    assert "is off" in terminal.refused("client-config", "podman", "--group", "off")
    assert terminal.run("client-config", "lynx")[0] == 2


def test_the_addresses_are_those_of_the_running_server(terminal: Terminal) -> None:
    terminal.config.write_text("port = 0\n[[listener]]\nport = 0\n")
    assert "start it first" in terminal.refused("client-config", "docker")
    terminal.done("group", "create", "any")
    run = {"pid": os.getpid(), "addresses": ["http://127.0.0.1:4001", "http://127.0.0.1:4002"]}
    (terminal.data / "run.json").write_text(json.dumps(run))
    assert json.loads(terminal.run("client-config", "docker")[1]) == {"registry-mirrors": ["http://127.0.0.1:4002"]}
    assert '[host."http://127.0.0.1:4001"]' in terminal.run("client-config", "containerd")[1]
    (terminal.data / "run.json").write_text(json.dumps(run | {"addresses": ["http://127.0.0.1:4001"]}))
    assert "start it again" in terminal.refused("client-config", "docker")


# gitlab-ci --project


@pytest.fixture
def project(terminal: Terminal) -> Terminal:
    """A server with a public name, and the project team/web/app beside another one."""
    terminal.config.write_text('external_url = "https://r.example"\n')
    for words in ("group create team", "group create team/web", "user create ann"):
        terminal.done(*words.split())
    for path in ("team/web/app", "team/web/other", "ann/own"):
        terminal.done("project", "create", path)
    return terminal


def secret_file(terminal: Terminal, *words: str) -> str:
    """A file with the secret of a new token."""
    made = terminal.json(*words)
    return terminal.password(f"{made.get('token') or made['variables']['CI_JOB_TOKEN']}\n".encode())


VARIABLES = ("client-config", "gitlab-ci", "--project")
DEPLOY_TOKEN = ("deploy-token", "create", "--name", "ci", "--scope", "read_registry", "--scope", "write_registry")


def assignments(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))


def test_variables_for_gitlab_say_which_token_to_create(project: Terminal) -> None:
    out = project.done(*VARIABLES, "team/web/app")
    assert assignments(out) == {
        "CI_REGISTRY": "r.example:443",
        "CI_REGISTRY_IMAGE": "r.example:443/team/web/app",
        "CI_DEPENDENCY_PROXY_SERVER": "r.example:443",
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX": "r.example:443/team/dependency_proxy/containers",
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX": "r.example:443/team/web/dependency_proxy/containers",
    }
    [create] = [line for line in out.splitlines() if "deploy-token create" in line]
    made = project.json(*shlex.split(create.strip("# "))[1:])
    assert (made["path"], made["scopes"]) == ("team/web/app", ["read_registry", "write_registry"])


@pytest.mark.parametrize("owner", [("--project", "team/web/app"), ("--group", "team")])
def test_variables_for_gitlab_hold_the_login_of_a_deploy_token(project: Terminal, owner: tuple[str, str]) -> None:
    file = secret_file(project, *DEPLOY_TOKEN, *owner, "--username", "ci-bot")
    secret = Path(file).read_text().strip()
    document = project.json(*VARIABLES, "team/web/app", "--token-file", file)
    variables = document["variables"]
    assert assignments(document["text"]) == variables
    assert {name: variables[name] for name in variables if name.endswith(("_USER", "_PASSWORD"))} == {
        "CI_REGISTRY_USER": "ci-bot",
        "CI_REGISTRY_PASSWORD": secret,
        "CI_DEPENDENCY_PROXY_USER": "ci-bot",
        "CI_DEPENDENCY_PROXY_PASSWORD": secret,
    }
    login = {"auth": base64.b64encode(f"ci-bot:{secret}".encode()).decode()}
    assert json.loads(variables["DOCKER_AUTH_CONFIG"]) == {"auths": {"r.example:443": login, "r.example": login}}
    assert " " not in variables["DOCKER_AUTH_CONFIG"]


def test_the_secret_for_gitlab_comes_from_standard_input_too(project: Terminal) -> None:
    secret = Path(secret_file(project, *DEPLOY_TOKEN, "--project", "ann/own")).read_text()
    out = project.done(*VARIABLES, "ann/own", "--token-file", "-", stdin=secret)
    assert assignments(out)["CI_REGISTRY_PASSWORD"] == secret.strip()
    assert "IMAGE_PREFIX" not in out
    assert "standard input is empty" in project.refused(*VARIABLES, "ann/own", "--token-file", "-")


def test_a_token_that_jobs_could_not_use_is_refused(project: Terminal) -> None:
    def refused(*words: str) -> str:
        return project.refused(*VARIABLES, "team/web/app", "--token-file", secret_file(project, *words))

    other = ("--project", "team/web/other")
    assert "belongs to team/web/other, not to team/web/app or a group above it" in refused(*DEPLOY_TOKEN, *other)
    assert "personal:1 is no deploy token" in refused(
        "token", "create", "--user", "ann", "--name", "t", "--scope", "api"
    )
    assert "job:1 is no deploy token" in refused("job", "start", "ann/own", "--user", "ann")
    file = secret_file(project, *DEPLOY_TOKEN, "--project", "team/web/app")
    project.done("deploy-token", "revoke", "2")
    assert "deploy token 2 was revoked" in project.refused(*VARIABLES, "team/web/app", "--token-file", file)
    unknown = project.password(b"rgdt-unknown")
    message = project.refused(*VARIABLES, "team/web/app", "--token-file", unknown)
    assert "no token has this secret" in message and "rgdt-unknown" not in message


def test_variables_that_would_not_help_are_refused(project: Terminal) -> None:
    assert "project list" in project.refused(*VARIABLES, "team/absent")
    assert "leave --group out" in project.refused(*VARIABLES, "team/web/app", "--group", "team")
    assert "belong to gitlab-ci" in project.refused("client-config", "podman", "--project", "team/web/app")
    assert "belong to gitlab-ci" in project.refused("client-config", "gitlab-ci", "--token-file", "-")
    project.done("project", "update", "team/web/app", "--registry", "disabled")
    assert "--registry enabled` enables it" in project.refused(*VARIABLES, "team/web/app")


@pytest.mark.parametrize(("url", "told"), [(PLAIN, True), (TLS, False), (LOCAL, False)])
def test_variables_for_gitlab_tell_of_plain_http(project: Terminal, url: str, told: bool) -> None:
    project.config.write_text(f'external_url = "{url}"\n')
    assert ('"insecure-registries"' in project.done(*VARIABLES, "team/web/app")) == told
