"""The audit log beside a running server: what real clients pull, push, delete and cause to be fetched, and who."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.disk import SmallDisk
from tests.parts.gateway import Gateway
from tests.parts.images import ImageLayout
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .closed_group import GROUP, PROJECT, ClosedGroup, Login
from .conftest import LongLived

WRITTEN_WITHIN = 5.0
"""Seconds after which an event is in the log."""


@pytest.fixture(scope="module")
def image(published: Publish) -> ImageLayout:
    return published("tiny")


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, image: ImageLayout) -> Iterator[Gateway]:
    yield long_lived({"workers": 2, "log_format": "json", "upstreams": {"docker.io": registry.settings()}})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


@pytest.fixture(scope="module")
def maintainer(team: ClosedGroup) -> Login:
    login = team.new_user("max")
    team.commands.run("member", "add", GROUP, "max", "maintainer")
    return login


def listed(server: Gateway, count: int, *words: str) -> list[dict[str, Any]]:
    """Events of the log, once there are so many of them."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found[:] = server.json("audit", "list", *words)
        return len(found) >= count

    wait_until(enough, WRITTEN_WITHIN + 10)
    return found


def credential(login: Login) -> str:
    return f"{login.user}:{login.secret}"


def test_the_log_has_who_pulled_pushed_and_deleted_an_image(
    team: ClosedGroup, maintainer: Login, server: Gateway, skopeo: Skopeo, image: ImageLayout, scratch: Path
) -> None:
    pusher, puller = team.personal_token("write_registry"), team.deploy_token(f"--project={PROJECT}")
    name = f"{server.host}/{PROJECT}/audited:v1"
    skopeo.copy(f"docker://{team.image()}", f"docker://{name}", credential=credential(pusher))
    skopeo.pull(name, scratch / "pulled", credential=credential(puller))
    skopeo.run("delete", "--tls-verify=false", f"--creds={credential(maintainer)}", f"docker://{name}")

    [deleted] = listed(server, 1, "--path", f"{PROJECT}/audited", "--event", "delete")
    [pulled] = listed(server, 1, "--path", f"{PROJECT}/audited", "--event", "pull", "--user", puller.user)
    [pushed] = listed(server, 1, "--path", f"{PROJECT}/audited", "--event", "push")
    assert (pushed["subject"], pushed["tag"], pushed["from"], pushed["to"]) == ("manifest", "v1", None, image.digest)
    assert pushed["who"] == f"personal token {pusher.id} (tests) of user 'ann'" and pushed["user"] == "ann"
    assert (pulled["tag"], pulled["digest"], pulled["user"]) == ("v1", image.digest, puller.user)
    assert pulled["who"].startswith("deploy token") and pulled["client"] == "127.0.0.1"
    assert (deleted["subject"], deleted["from"], deleted["who"]) == ("manifest", image.digest, "user 'max'")

    proxied = listed(server, 1, "--path", GROUP, "--event", "pull", "--user", "ann")
    path = f"{GROUP}/dependency_proxy/containers/library/tiny"
    assert {(event["path"], event["tag"], event["digest"]) for event in proxied} >= {(path, "latest", image.digest)}
    fills = listed(server, 3, "--path", "docker.io/library/tiny", "--event", "fill")
    assert {event["who"] for event in fills} == {None}
    assert [event["digest"] for event in fills if event["tag"] == "latest"] == [image.digest]
    assert {event["subject"] for event in fills} == {"manifest", "blob"}


def test_the_log_of_the_server_names_each_deletion(
    team: ClosedGroup, maintainer: Login, server: Gateway, skopeo: Skopeo
) -> None:
    name = f"{PROJECT}/logged"
    skopeo.copy(f"docker://{team.image()}", f"docker://{server.host}/{name}:v1", credential=credential(team.ann))
    answer = raw.request("DELETE", f"{server.url}/v2/{name}/tags/reference/v1", headers=maintainer.basic)
    assert answer.status == 202

    def deletions() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.log_text().splitlines() if '"deleted"' in line]
        return [line for line in lines if line["event"] == "deleted" and line["repository"] == name]

    wait_until(lambda: len(deletions()) > 0)
    [line] = deletions()
    facts = (line["tag"], line["who"], line["surface"], line["status"], line["request_id"])
    assert facts == ("v1", "user 'max'", "registry", 202, answer.headers["x-request-id"])
    [event] = listed(server, 1, "--path", f"{name}:v1", "--event", "delete")
    assert (event["request_id"], event["from"]) == (line["request_id"], line["digest"])


def test_events_that_wait_are_written_at_a_stop(
    gateway: GatewayFactory, registry: Registry, image: ImageLayout
) -> None:
    server = gateway({"workers": 2, "upstreams": {"docker.io": registry.settings()}})
    for _ in range(20):
        assert raw.get(server.proxied_url("library/tiny/manifests/latest")).status == 200
    server.stop()
    assert len(server.json("audit", "list", "--event", "pull")) == 20


def test_a_killed_server_leaves_a_whole_log_without_its_last_events(
    gateway: GatewayFactory, registry: Registry, image: ImageLayout
) -> None:
    server = gateway({"workers": 2, "upstreams": {"docker.io": registry.settings()}})
    url, sent = server.proxied_url("library/tiny/manifests/latest"), 0
    for _ in range(3):
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            sent += raw.get(url).status == 200
        server.kill()
        server.start()
    assert 0 < len(server.json("audit", "list", "--event", "pull")) <= sent
    assert not (server.data / "audit.db.damaged").exists()


def test_a_full_disk_makes_no_pull_fail_and_the_events_come_later(
    gateway: GatewayFactory, registry: Registry, image: ImageLayout, scratch: Path
) -> None:
    disk = SmallDisk(scratch / "gateway" / "data", 48)
    try:
        server = gateway({"workers": 2, "upstreams": {"docker.io": registry.settings()}})
        url = server.proxied_url("library/tiny/manifests/latest")
        assert raw.get(url).status == 200
        listed(server, 1, "--event", "pull")
        disk.fill()
        assert [raw.get(url).status for _ in range(50)] == [200] * 50
        wait_until(lambda: "audit_events_not_written" in server.log_text())
        assert [raw.get(url).status for _ in range(50)] == [200] * 50
        (disk.place / "filler").unlink()
        assert len(listed(server, 101, "--event", "pull")) == 101
        server.stop()
    finally:
        disk.unmount()
