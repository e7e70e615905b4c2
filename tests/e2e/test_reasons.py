"""Tests that the reason of a refusal reaches whoever pulls with a real client, and whoever reads the log."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts.clients import Podman, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.go_clients import CRANE, ORAS, build_go_client
from tests.parts.images import Images
from tests.parts.logins import crane, oras
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .closed_group import ClosedGroup
from .conftest import LongLived
from .refused_pulls import RefusedPulls, failing_upstreams

PROXIED = "dependency_proxy/containers"
MESSAGE_CLIENTS = ("docker", "podman", "skopeo")
"""Clients that print the message of an error where its status is 4xx, and the status line where it is 5xx."""


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, images: Images) -> Gateway:
    """Starts a server with open, gated, cooled and closed groups, and an upstream that is down."""
    registry.push(images.tiny, "library/tiny", "latest")
    server = long_lived({"upstreams": failing_upstreams(registry), "log_format": "json"})
    for path, *gate in (("gated", "--deny=library/tiny"), ("cool", "--cooldown=3d")):
        server.json("group", "create", path, "--visibility=public", "--anonymous-pull", *gate)
    ClosedGroup(server)
    return server


@pytest.fixture(scope="module")
def dockerd(workplace: Path, processes: None) -> Iterator[Dockerd]:
    engine = Dockerd(workplace / "dockerd-refused", "{}")
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def containerd(workplace: Path, processes: None) -> Iterator[Containerd]:
    engine = Containerd(workplace / "containerd-refused")
    yield engine
    engine.stop()


@pytest.fixture
def printed(dockerd: Dockerd, containerd: Containerd, podman: Podman, skopeo: Skopeo) -> RefusedPulls:
    return RefusedPulls(dockerd, containerd, podman, skopeo)


@dataclass(frozen=True)
class Case:
    """A pull that is refused. `by_head`: what a client prints that sends HEAD first, to whose response no body
    belongs: its status line, but for 404."""

    image: str
    refusal: str
    sentence: str
    by_head: str


CASES = {
    "denied by the settings": Case(
        f"hub/{PROXIED}/refused.example/a:1",
        "upstream_rule",
        "the settings of upstream refused.example do not allow a",
        "]: 403",
    ),
    "denied by a gate": Case(
        f"gated/{PROXIED}/tiny:latest", "gate", "group 'gated': the group denies library/tiny", "]: 403"
    ),
    "in its cooldown": Case(f"cool/{PROXIED}/tiny:latest", "cooldown", "and the group waits 3 days: until ", "]: 403"),
    "unknown tag": Case(
        f"hub/{PROXIED}/tiny:absent",
        "manifest_unknown",
        "the upstream registry has no such image, or does not show it to this gateway",
        "not found",
    ),
    "unknown upstream": Case(
        f"hub/{PROXIED}/quay.example/a:1",
        "name_unknown",
        "upstream 'quay.example' is not configured: configured are docker.io, down.example",
        "not found",
    ),
    "private": Case(
        f"team/{PROXIED}/tiny:latest",
        "login",
        "there is no group 'team', or not for everybody; log in to pull",
        "]: 401",
    ),
}


def lines_of(server: Gateway, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_client_prints_the_sentence_and_the_log_has_it(case: Case, server: Gateway, printed: RefusedPulls) -> None:
    said = printed(f"{server.host}/{case.image}")
    for client in MESSAGE_CLIENTS:
        assert case.sentence in said[client], (client, said[client])
    assert case.by_head in said["ctr"]
    assert (case.sentence in said["ctr"]) == (case.by_head != "not found")

    def refused() -> list[dict[str, Any]]:
        tag = case.image.rpartition(":")[2]
        path = f"/v2/{case.image.rpartition(':')[0]}/manifests/{tag}"
        return [line for line in lines_of(server, "request") if line["path"] == path and line["refusal"]]

    wait_until(lambda: refused() != [], what="the refusals are not logged")
    for line in refused():
        assert line["refusal"] == case.refusal
        assert line["level"] == "info"
        assert line["reason"]
        assert line["group"] == case.image.partition("/")[0]
        assert line["outcome"] is None


def test_clients_that_print_the_detail_too_print_the_sentence_once(server: Gateway, scratch: Path) -> None:
    case = CASES["denied by a gate"]
    clients = {"crane": crane(build_go_client(CRANE), scratch), "oras": oras(build_go_client(ORAS), scratch)}
    for name, client in clients.items():
        said = client.pull(scratch / name, f"{server.host}/{case.image}").text
        assert said.count(case.sentence) == 1, (name, said)


def test_a_client_prints_why_an_upstream_is_unreachable_and_one_warning_says_it(
    server: Gateway, printed: RefusedPulls
) -> None:
    said = printed(f"{server.host}/hub/{PROXIED}/down.example/a:1")
    for client in MESSAGE_CLIENTS:
        assert "unexpected HTTP status: 503 " in said[client], (client, said[client])
        assert "connection refused" in said[client], (client, said[client])
    assert "]: 503 " in said["ctr"]
    assert "connection refused" in said["ctr"]
    path = f"/v2/hub/{PROXIED}/down.example/a/manifests/1"

    def failed() -> list[dict[str, Any]]:
        return [line for line in lines_of(server, "request") if line["path"] == path and line["status"] == 503]

    wait_until(lambda: len(failed()) >= 4, what="the refusals are not logged")
    for line in failed():
        assert (line["level"], line["refusal"]) == ("warning", "upstream_unavailable")
        assert (line["group"], line["upstream"]) == ("hub", "down.example")
    [warning] = [line for line in lines_of(server, "upstream_failing") if line["upstream"] == "down.example"]
    assert (warning["level"], warning["failure"]) == ("warning", "unreached")


def test_without_a_fallback_a_gate_has_the_last_word(server: Gateway, podman: Podman, containerd: Containerd) -> None:
    """`gated` denies library/tiny, and hub serves it: both through files that name this server alone."""
    files = {}
    for group in ("hub", "gated"):
        words = ("--no-fallback", "--group", group)
        files[group] = [server.cli("client-config", client, *words).stdout for client in ("podman", "containerd")]
    image = "docker.io/library/tiny:latest"
    place = containerd.hosts / "docker.io" / "hosts.toml"
    place.parent.mkdir(parents=True)
    for group, works in (("gated", False), ("hub", True)):
        for_podman, for_containerd = files[group]
        podman.use_registries(for_podman)
        place.write_text(for_containerd)
        by_podman = podman.run("pull", image, check=False)
        by_ctr = containerd.pull("--hosts-dir", str(containerd.hosts), image, check=False)
        assert (by_podman.returncode == 0, by_ctr.returncode == 0) == (works, works), by_podman.stderr + by_ctr.stderr
        if not works:
            assert "the group denies library/tiny" in by_podman.stderr
            assert "]: 403" in by_ctr.stderr
            assert server.host in by_ctr.stderr
            assert "registry-1.docker.io" not in by_podman.stderr + by_ctr.stderr
