"""Tests that each client pulls by each way in the table of its page, with the configuration that the server printed."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Podman, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout, digest_of
from tests.parts.pages import PAGES
from tests.parts.ports import free_port
from tests.parts.processes import wait_until

from .conftest import LongLived

PAGE = PAGES["clients"]
CELL = r"\| *([^|\n]*?) *"
ROW = re.compile(rf"^{CELL}{CELL}{CELL}\| `((?:docker|ctr|podman|skopeo|crictl|image:) [^`]*)` \|$", re.MULTILINE)
PLAIN = "docker.io/library/tiny:latest"
LOGGED = {"log_format": "json", "workers": 1}  # the lines of several workers would come in any order
PREFIX = "/v2/hub/dependency_proxy/containers"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    upstreams = {"docker.io": plain_hub_servers.settings()}
    server = long_lived(LOGGED | {"upstreams": upstreams, "listener": [{"port": free_port()}]})
    made = server.cli("group", "create", "team", "--visibility", "public", "--anonymous-pull")
    assert made.returncode == 0, made.stderr
    return server


@pytest.fixture(scope="module")
def host_server(long_lived: LongLived, plain_hub_servers: Hub) -> Gateway:
    """Starts a server whose virtual host is `localhost`, which every client can resolve."""
    upstreams = {"docker.io": plain_hub_servers.settings()}
    return long_lived(LOGGED | {"upstreams": upstreams, "virtual_host": [{"name": "localhost"}]})


@pytest.fixture
def layout(published: Publish) -> ImageLayout:
    return published("tiny")


@pytest.fixture(scope="module")
def containerd(workplace: Path) -> Iterator[Containerd]:
    engine = Containerd(workplace / "containerd")
    yield engine
    engine.stop()


@pytest.fixture
def dockerd(workplace: Path) -> Iterator[Callable[[str], Dockerd]]:
    started: list[Dockerd] = []

    def start(daemon_json: str) -> Dockerd:
        started.append(Dockerd(workplace / "dockerd", daemon_json))
        return started[-1]

    yield start
    for engine in started:
        engine.stop()


def printed(server: Gateway, *words: str) -> str:
    completed = server.cli("client-config", *words)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def log_lines(server: Gateway) -> list[dict[str, Any]]:
    """All lines until now: a marker request is sent and its line awaited, because lines are written a little later."""
    mark = f"mark-{uuid4().hex}"
    raw.get(f"{server.url}/v2/", {"X-Request-Id": mark})
    wait_until(lambda: mark in server.log_text(), what="the access log lacks a request")
    return [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]


def served_paths(lines: list[dict[str, Any]]) -> list[str]:
    """Paths of responses with status 200 and an X-Cache."""
    requests = [line for line in lines if line.get("event") == "request"]
    return [line["path"] for line in requests if line["outcome"] and line["status"] == 200]


class Ways:
    """Clients by the first word of an example; each gets the output of `client-config` unchanged."""

    def __init__(self, server: Gateway, config: str, scratch: Path, containerd: Containerd) -> None:
        self.server, self.config, self.scratch, self.containerd = server, config, scratch, containerd

    def ctr(self, words: list[str]) -> str:
        assert words[:2] == ["images", "pull"]
        place = re.match(r"# /etc/containerd/certs\.d/(\S+)\n", self.config)
        assert place is not None
        file = self.containerd.hosts / place[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.config)
        words = [word.replace("/etc/containerd/certs.d", str(self.containerd.hosts)) for word in words]
        self.containerd.pull(*words[2:])
        digest = self.containerd.digest(PLAIN)
        self.containerd.forget(PLAIN)
        return digest

    def podman(self, words: list[str]) -> str:
        podman = Podman(self.scratch / "podman")
        try:
            podman.use_registries(self.config)
            podman.run(*words)
            return podman.digest(words[-1])
        finally:
            podman.close()

    def skopeo(self, words: list[str]) -> str:
        skopeo = Skopeo(self.scratch / "skopeo")
        skopeo.use_registries(self.config)
        return digest_of(skopeo.run(*words).stdout.encode())

    def crictl(self, words: list[str]) -> str:
        """Pulls with podman, whose library CRI-O uses to read its registries."""
        return self.podman(words)

    def image(self, words: list[str]) -> str:
        """Resolves the image of a job as a GitLab runner does, with variables replaced, and pulls it."""
        variables = dict(re.findall(r'^  (\w+): "(.*)"$', self.config, re.MULTILINE))
        [image] = re.findall(r'^  image: "(.*)"$', self.config, re.MULTILINE)
        assert words == [f'"{image.replace("alpine", "tiny")}"']
        filled = re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], image).replace("alpine", "tiny")
        return digest_of(Skopeo(self.scratch / "runner").inspect_raw(filled))


def rows() -> list[Any]:
    found = [match.groups() for match in ROW.finditer(PAGE)]
    return [pytest.param(*row, id=f"{row[0]} - {row[1]}".replace("`", "")) for row in found]


def test_the_table_names_every_client() -> None:
    assert len(rows()) == 12
    for client in ("docker", "containerd", "podman", "crio", "buildkit", "gitlab-ci"):
        assert f"`client-config {client}`" in PAGE


@pytest.mark.parametrize(("client", "way", "configure", "example"), rows())
def test_every_example_of_the_table_pulls(
    client: str,
    way: str,
    configure: str,
    example: str,
    hub: Hub,
    layout: ImageLayout,
    server: Gateway,
    host_server: Gateway,
    containerd: Containerd,
    dockerd: "Start",
    scratch: Path,
) -> None:
    server = host_server if way == "virtual host" else server
    words = re.findall(r"`client-config ([^`]*)`", configure)
    config = printed(server, *words[0].split()) if words else ""
    program, *rest = example.replace("127.0.0.1:8080", server.host).replace("alpine", "tiny").split()
    before = len(log_lines(server))
    if program == "docker":
        examples = {"pull": pulls_by_docker, "build": builds_by_docker, "buildx": reads_as_buildkit}
        examples[rest[0]](server, config, rest, dockerd, layout)
    else:
        ways = Ways(server, config, scratch, containerd)
        assert getattr(ways, program.removesuffix(":"))(rest) == layout.digest
    if rest[0] == "buildx":
        return
    paths = served_paths(log_lines(server)[before:])
    if rest[0] == "build":  # the Dockerfile also names an image by the group prefix, whose requests arrive there
        assert any(path.startswith(f"{PREFIX}/tiny/manifests/") for path in paths)
        paths = [path for path in paths if not path.startswith(f"{PREFIX}/tiny/")]
    expected = {
        "group prefix": f"{PREFIX}/tiny/",
        "upstream's name below it": f"{PREFIX}/docker.io/library/tiny/",
        "listener": "/v2/library/tiny/",
        "virtual host": "/v2/library/tiny/",
        "BuildKit in it": "/v2/library/tiny/",
        "`?ns=`": "/v2/library/tiny/",
        "prefix of another group": "/v2/team/dependency_proxy/containers/docker.io/library/tiny/",
        "mirror by group prefix": f"{PREFIX}/docker.io/library/tiny/",
    }[way]
    assert any(path.startswith(f"{expected}manifests/") for path in paths), paths
    assert {path for path in paths if not path.startswith(expected)} == set()


Start = Callable[[str], Dockerd]


def pulls_by_docker(server: Gateway, config: str, words: list[str], dockerd: Start, layout: ImageLayout) -> None:
    engine = dockerd(config or "{}")
    engine.run(*words)
    assert engine.digest(words[-1]) == layout.digest


def builds_by_docker(server: Gateway, config: str, words: list[str], dockerd: Start, layout: ImageLayout) -> None:
    """Builds from the plain name through the mirror, and from the group prefix, with BuildKit and without."""
    engine = dockerd(config)
    prefixed = server.proxied("tiny:latest")
    for number, (name, buildkit) in enumerate([("tiny", True), (prefixed, True), (prefixed, False)]):
        place = engine.directory / f"build-{number}"
        place.mkdir()
        (place / "Dockerfile").write_text(f"FROM {name}\nCOPY Dockerfile /\n")
        engine.run(*words[:-1], str(place), buildkit=buildkit)


def reads_as_buildkit(server: Gateway, config: str, words: list[str], dockerd: Start, layout: ImageLayout) -> None:
    """Reads the configuration as buildkitd does, which no package of Debian holds, and pulls from the mirror it
    names."""
    registries = tomllib.loads(config)["registry"]
    [mirror] = registries["docker.io"]["mirrors"]
    assert registries[server.host] == {"http": True}
    name = f"{mirror.removeprefix(server.host)}/library/tiny"
    answer = raw.get(f"{server.url}/v2{name}/manifests/latest?ns=docker.io")
    assert (answer.status, answer.body) == (200, layout.manifest_bytes)
