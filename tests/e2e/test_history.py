"""The history of tags, and restores, while a server serves clients."""

from collections.abc import Iterator

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import digest_of
from tests.parts.registry import Registry

from .closed_group import GROUP, PROJECT, ClosedGroup
from .conftest import LongLived

TAG = f"{PROJECT}/moved:1"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish) -> Iterator[Gateway]:
    published("tiny")
    yield long_lived({"workers": 2, "log_format": "json", "upstreams": {"docker.io": registry.settings()}})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


def test_what_clients_overwrote_or_deleted_is_restored_by_one_command(
    server: Gateway, team: ClosedGroup, skopeo: Skopeo
) -> None:
    kim = team.new_user("kim")
    team.commands.run("member", "add", GROUP, "kim", "maintainer")
    target = f"docker://{server.host}/{TAG}"
    skopeo.copy(f"docker://{team.image()}", target, credential=f"{team.ann.user}:{team.ann.secret}")
    manifest = f"{server.url}/v2/{PROJECT}/moved/manifests/1"
    first = raw.get(manifest, team.ann.basic)
    changed = first.body + b"\n"
    content_type = {"Content-Type": first.headers["content-type"]}
    assert raw.request("PUT", manifest, kim.basic | content_type, body=changed).status == 201
    deleted = raw.request("DELETE", manifest, kim.basic)
    assert deleted.status == 202
    assert deleted.headers["warning"].startswith('299 - "until 2')
    assert f"at least, 'registry-gateway tag restore {TAG}' restores it" in deleted.headers["warning"]
    assert raw.get(manifest, team.ann.basic).status == 404
    history = server.json("tag", "history", TAG)
    assert [(event["event"], event["by"]) for event in history] == [
        ("delete", "kim"),
        ("move", "kim"),
        ("create", "ann"),
    ]
    assert history[0]["from"] == digest_of(changed) and history[2]["to"] == digest_of(first.body)
    assert server.cli("tag", "restore", TAG).returncode == 0
    assert raw.get(manifest, team.ann.basic).body == changed
    assert server.cli("tag", "restore", TAG, "--digest", digest_of(first.body)).returncode == 0
    assert raw.get(manifest, team.ann.basic).body == first.body
    assert server.cli("repository", "delete", f"{PROJECT}/moved").returncode == 0
    assert raw.get(manifest, team.ann.basic).status == 404
    assert server.cli("repository", "restore", f"{PROJECT}/moved").returncode == 0
    assert raw.get(manifest, team.ann.basic).body == first.body
