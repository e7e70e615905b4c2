"""Clients that use this server as a mirror, and clients without a login, beside an open and a closed group.

The server has users, so everything but the open group needs a login; the open group needs none, as on a server without
users.
"""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Publish
from tests.parts import logins
from tests.parts.canaries import found_in
from tests.parts.clients import Podman, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.images import ImageLayout, digest_of
from tests.parts.logins import every_client, manifest_url
from tests.parts.ports import HOST, free_port
from tests.parts.processes import binary
from tests.parts.registry import Registry

from .closed_group import GROUP, ClosedGroup
from .conftest import LongLived

PLAIN = "docker.io/library/tiny:latest"
DOCKER_HUB = "https://index.docker.io/v1/"
"""The key under which docker keeps the login of Docker Hub, which it uses for mirrors too."""

OPEN, CLOSED = "hub", GROUP


@pytest.fixture(scope="module")
def layout(published: Publish) -> ImageLayout:
    return published("tiny")


@pytest.fixture(scope="module")
def listeners() -> dict[str, str]:
    """HOST:PORT of the listener of each group."""
    return {group: f"{HOST}:{free_port()}" for group in (OPEN, CLOSED)}


@pytest.fixture(scope="module")
def server(
    long_lived: LongLived, registry: Registry, layout: ImageLayout, listeners: dict[str, str]
) -> Iterator[Gateway]:
    """Starts a server with a listener for each group; a request with `?ns=` is for the closed group."""
    own = [{"port": int(host.rpartition(":")[2]), "group": group} for group, host in listeners.items()]
    upstreams = {"docker.io": registry.settings()}
    server = long_lived({"workers": 2, "upstreams": upstreams, "listener": own, "ns_group": CLOSED})
    yield server
    assert not found_in(server.log_text().encode()), "the log holds a secret"


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


@pytest.fixture(scope="module")
def containerd(workplace: Path, processes: None) -> Iterator[Containerd]:
    engine = Containerd(workplace / "containerd-of-mirrors")
    yield engine
    engine.stop()


@pytest.fixture
def dockerd(workplace: Path, listeners: dict[str, str], group: str) -> Iterator[Dockerd]:
    """Starts dockerd with the listener of one group as its mirror."""
    engine = Dockerd(workplace / "dockerd-of-mirrors", json.dumps({"registry-mirrors": [f"http://{listeners[group]}"]}))
    yield engine
    engine.stop()


@pytest.mark.parametrize("group", [OPEN, CLOSED])
def test_dockerd_pulls_plain_names_through_the_listener_of_a_group(
    group: str, team: ClosedGroup, dockerd: Dockerd, layout: ImageLayout, scratch: Path
) -> None:
    """A closed group serves the login that docker sends to mirrors, which is the one of Docker Hub."""
    docker = logins.docker(dockerd)
    if group == CLOSED:
        assert not docker.pull(scratch / "nobody", PLAIN).done
        docker.store(scratch / "ann", DOCKER_HUB, team.ann.user, team.ann.secret)
    given = docker.pull(scratch / "ann", PLAIN)
    assert given.done, given.text
    dockerd.run("--config", str(scratch / "ann"), "pull", "--quiet", PLAIN)
    assert dockerd.digest(PLAIN) == layout.digest


def hosts_toml(url: str, path: str = "") -> str:
    override = "  override_path = true\n" if path else ""
    return f'[host."{url}{path}"]\n  capabilities = ["pull", "resolve"]\n{override}'


WAYS = [("listener", OPEN), ("listener", CLOSED), ("ns", CLOSED), ("group prefix", OPEN), ("group prefix", CLOSED)]


@pytest.mark.parametrize(("way", "group"), WAYS)
def test_containerd_pulls_plain_names_through_each_way_to_a_group(
    way: str,
    group: str,
    team: ClosedGroup,
    containerd: Containerd,
    listeners: dict[str, str],
    layout: ImageLayout,
    scratch: Path,
) -> None:
    text = {
        "listener": hosts_toml(f"http://{listeners[group]}"),
        "ns": hosts_toml(team.server.url),
        "group prefix": hosts_toml(team.server.url, f"/v2/{group}/dependency_proxy/containers/docker.io"),
    }[way]
    (scratch / "docker.io").mkdir()
    (scratch / "docker.io" / "hosts.toml").write_text(text)
    words = ["--hosts-dir", str(scratch), PLAIN]
    token = team.personal_token("read_registry")
    if group == CLOSED:
        assert containerd.pull(*words, check=False).returncode != 0
        containerd.pull("--user", f"{team.ann.user}:{team.ann.secret}", *words)
        containerd.forget(PLAIN)
        words = ["--user", f"anything:{token.secret}", *words]
    containerd.pull(*words)
    assert containerd.digest(PLAIN) == layout.digest
    containerd.forget(PLAIN)


def registries_conf(location: str) -> str:
    return f"""\
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "{location}"
insecure = true
"""


@pytest.mark.parametrize("group", [OPEN, CLOSED])
def test_podman_and_skopeo_pull_plain_names_through_a_mirror(
    group: str,
    team: ClosedGroup,
    podman: Podman,
    skopeo: Skopeo,
    listeners: dict[str, str],
    layout: ImageLayout,
    scratch: Path,
) -> None:
    """The login of a mirror is the one of its HOST:PORT."""
    for host, location in (
        (team.server.host, f"{team.server.host}/{group}/dependency_proxy/containers/docker.io"),
        (listeners[group], listeners[group]),
    ):
        file = scratch / f"auth-{host}.json"
        podman.use_registries(registries_conf(location))
        skopeo.use_registries(registries_conf(location))
        given = [f"--authfile={file}"]
        file.write_text("{}")
        if group == CLOSED:
            assert podman.run("pull", "--quiet", *given, PLAIN, check=False).returncode != 0
            podman.run("login", *given, "--tls-verify=false", "--username=ann", f"--password={team.ann.secret}", host)
        podman.run("pull", "--quiet", *given, PLAIN)
        assert podman.digest(PLAIN) == layout.digest
        podman.remove_all()
        assert digest_of(skopeo.run("inspect", "--raw", *given, f"docker://{PLAIN}").stdout.encode()) == layout.digest


def test_whoever_used_the_open_group_without_a_login_still_does(
    team: ClosedGroup, containerd: Containerd, workplace: Path, layout: ImageLayout, scratch: Path
) -> None:
    engine = Dockerd(workplace / "dockerd-of-strangers", "{}")
    try:
        clients = every_client(workplace / "strange", engine, containerd)
        image = team.server.proxied("library/tiny:latest")
        shown = {name: client.pull(scratch / name, image) for name, client in clients.items()}
        assert {name: outcome.text for name, outcome in shown.items() if not outcome.done} == {}
    finally:
        engine.stop()
    curl = [binary("curl", "curl"), "--silent", "--show-error", "--fail"]
    fetched = subprocess.run([*curl, manifest_url(image)], capture_output=True, check=True)
    assert fetched.stdout == layout.manifest_bytes
    wrong = base64.b64encode(b"ann:wrong").decode()
    refused = subprocess.run(
        [*curl, "--header", f"Authorization: Basic {wrong}", manifest_url(image)], capture_output=True, check=False
    )
    assert b"401" in refused.stderr
