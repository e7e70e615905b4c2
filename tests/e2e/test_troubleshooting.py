"""Tests that what a real client prints about a failed pull leads to an entry of the page on troubleshooting."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.clients import Podman, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.pages import PAGES, code_spans, headings
from tests.parts.ports import HOST, free_port
from tests.parts.registry import Registry

from .closed_group import ClosedGroup
from .conftest import LongLived
from .refused_pulls import RefusedPulls, failing_upstreams

HUB, TEAM = "hub/dependency_proxy/containers", "team/dependency_proxy/containers"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry) -> Gateway:
    """Starts a server with users, a closed group, an upstream whose images are refused, and one that is down."""
    server = long_lived({"upstreams": failing_upstreams(registry)})
    ClosedGroup(server)
    return server


@pytest.fixture(scope="module")
def dockerd(workplace: Path, processes: None) -> Iterator[Dockerd]:
    engine = Dockerd(workplace / "dockerd-in-trouble", "{}")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def containerd(workplace: Path, processes: None) -> Iterator[Containerd]:
    engine = Containerd(workplace / "containerd-in-trouble")
    yield engine
    engine.stop()


@pytest.fixture
def said(dockerd: Dockerd, containerd: Containerd, podman: Podman, skopeo: Skopeo) -> RefusedPulls:
    return RefusedPulls(dockerd, containerd, podman, skopeo)


ALL, STATUS = ("docker", "podman", "skopeo"), {"ctr": "failed with status code"}
LOWER = dict.fromkeys(ALL, "repository name must be lowercase")
FAILURES = [
    pytest.param(f"{HUB}/Tiny:1", LOWER, id="a capital letter"),
    pytest.param(f"{HUB}/Tiny:1", dict.fromkeys(("docker", "skopeo"), "invalid reference format"), id="no name"),
    pytest.param(f"{HUB}/tiny:absent", dict.fromkeys(ALL, "manifest unknown") | {"ctr": "not found"}, id="no tag"),
    pytest.param(
        f"{HUB}/quay.example/a:1", dict.fromkeys(ALL, "name unknown") | {"ctr": "not found"}, id="no upstream"
    ),
    pytest.param(f"{HUB}/refused.example/a:1", dict.fromkeys(ALL, "denied") | STATUS, id="a name that is refused"),
    pytest.param(f"{HUB}/refused.example/a:1", {"docker": "pull access denied"}, id="the advice of docker"),
    pytest.param(
        f"{HUB}/down.example/a:1",
        dict.fromkeys(ALL, "received unexpected HTTP status: 503") | STATUS,
        id="an upstream that is down",
    ),
    pytest.param(f"{TEAM}/tiny:latest", dict.fromkeys(ALL, "unauthorized") | STATUS, id="a closed group"),
]


@pytest.mark.parametrize(("name", "texts"), FAILURES)
def test_what_a_client_prints_leads_to_an_entry(
    name: str, texts: dict[str, str], server: Gateway, said: RefusedPulls
) -> None:
    printed = said(f"{server.host}/{name}")
    for client, text in texts.items():
        assert text in printed[client], (client, printed[client])
        assert text in code_spans(PAGES["troubleshooting"]), text


def test_a_server_that_is_not_there_or_has_no_tls_leads_to_an_entry(server: Gateway, podman: Podman) -> None:
    nobody = podman.run("pull", "--tls-verify=false", f"{HOST}:{free_port()}/tiny", check=False)
    plain = podman.run("pull", f"{server.host}/{HUB}/tiny", check=False)
    for run, text in ((nobody, "connection refused"), (plain, "server gave HTTP response to HTTPS client")):
        assert text in run.stderr
        assert text in headings(PAGES["troubleshooting"])
