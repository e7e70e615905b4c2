"""Garbage collection while a server serves: real clients push, delete and push again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import digest_of
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .closed_group import PROJECT, ClosedGroup
from .conftest import LongLived
from .datafolder import await_log


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish) -> Iterator[Gateway]:
    published("tiny")
    collection = {"delay": "2s", "interval": "1s"}
    upstreams = {"docker.io": registry.settings()}
    yield long_lived({"workers": 2, "log_format": "json", "gc": collection, "upstreams": upstreams})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


def files(server: Gateway) -> set[str]:
    return {path.name for path in (server.data / "blobs").rglob("*") if path.is_file()}


def push(skopeo: Skopeo, team: ClosedGroup, name: str) -> None:
    """Copy the proxied image to a repository of the project."""
    target = f"docker://{team.server.host}/{PROJECT}/{name}"
    skopeo.copy(f"docker://{team.image()}", target, credential=f"{team.ann.user}:{team.ann.secret}")


def push_blob(team: ClosedGroup, name: str, content: bytes) -> str:
    """Push a blob in one request, and return its digest."""
    digest = digest_of(content)
    url = f"{team.server.url}/v2/{PROJECT}/{name}/blobs/uploads/?digest={digest}"
    answer = raw.request("POST", url, team.ann.basic, body=content)
    assert answer.status == 201, answer.body
    return digest


def test_a_deleted_image_leaves_the_disk_and_what_shares_its_blobs_stays_whole(
    server: Gateway, team: ClosedGroup, skopeo: Skopeo, scratch: Path
) -> None:
    push(skopeo, team, "kept:1")
    kept = files(server)
    image = json.loads(raw.get(f"{server.url}/v2/{PROJECT}/kept/manifests/1", team.ann.basic).body)
    layer = image["layers"][0]["digest"].removeprefix("sha256:")
    assert layer in kept
    push(skopeo, team, "gone:1")
    extra = push_blob(team, "gone", b"of a push that nobody ended")
    assert server.cli("tag", "delete", f"{PROJECT}/gone:1").returncode == 0
    wait_until(lambda: server.json("repository", "show", f"{PROJECT}/gone")["bytes"] == 0, what="not all was collected")
    wait_until(lambda: extra.removeprefix("sha256:") not in files(server), what="a file was left")
    assert files(server) == kept, "the other repository has the same blobs"
    pulled = skopeo.pull(
        f"{server.host}/{PROJECT}/kept:1", scratch / "pulled", credential=f"{team.ann.user}:{team.ann.secret}"
    )
    assert f"sha256:{layer}" in pulled.files
    assert server.cli("repository", "delete", f"{PROJECT}/kept").returncode == 0
    wait_until(lambda: files(server) == set(), what="files were left")
    push(skopeo, team, "kept:1")
    assert files(server) == kept
    status = server.json("gc", "status")
    assert status["freed_bytes"] > 0 and status["stopped_reason"] is None
    await_log(server, "content_collected")
    assert "gateway_gc_freed_bytes_total" in raw.get(f"{server.url}/-/metrics").body.decode()
