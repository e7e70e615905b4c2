"""The history of tags, and restores, while a server serves clients."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def test_a_pinned_project_is_pulled_as_it_was_and_takes_no_push(
    server: Gateway, team: ClosedGroup, skopeo: Skopeo, scratch: Path
) -> None:
    credential = f"{team.ann.user}:{team.ann.secret}"
    target = f"docker://{server.host}/{PROJECT}/released:1"
    skopeo.copy(f"docker://{team.image()}", target, credential=credential)
    manifest = f"{server.url}/v2/{PROJECT}/released/manifests/1"
    first = raw.get(manifest, team.ann.basic)
    content_type = {"Content-Type": first.headers["content-type"]}
    time.sleep(1.1)  # a time that is given means the end of that second
    changed = team.ann.basic | content_type, first.body + b"\n"
    moved_at = datetime.now(UTC)
    for tag in ("1", "2"):
        url = f"{server.url}/v2/{PROJECT}/released/manifests/{tag}"
        assert raw.request("PUT", url, changed[0], body=changed[1]).status == 201
    before = f"{moved_at - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    assert server.cli("group", "update", GROUP, "--as-of", before).returncode == 0
    assert raw.get(manifest, team.ann.basic).body == first.body
    assert json.loads(raw.get(f"{server.url}/v2/{PROJECT}/released/tags/list", team.ann.basic).body)["tags"] == ["1"]
    skopeo.pull(f"{server.host}/{PROJECT}/released:1", scratch / "pulled", credential=credential)
    for url in (manifest, f"{server.url}/v2/{PROJECT}/unheard-of/manifests/1"):
        refused = raw.request("PUT", url, changed[0], body=changed[1])
        assert refused.status == 403 and f"group {GROUP} is pinned" in refused.body.decode()
    said = server.cli("tag", "delete", f"{PROJECT}/released:1").stderr
    assert f"group {GROUP} is pinned: what is pulled there is that of {before}" in said
    assert server.cli("group", "update", GROUP, "--as-of", "now").returncode == 0
    assert raw.get(manifest, team.ann.basic).body == changed[1]
    assert raw.request("PUT", manifest, changed[0], body=first.body).status == 201


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


def test_what_skopeo_deletes_by_its_digest_is_restored_as_it_was(
    server: Gateway, team: ClosedGroup, skopeo: Skopeo, scratch: Path
) -> None:
    lee = team.new_user("lee")
    team.commands.run("member", "add", GROUP, "lee", "maintainer")
    name, credential = f"{PROJECT}/deleted", f"{lee.user}:{lee.secret}"
    target = f"docker://{server.host}/{name}:1"
    skopeo.copy(f"docker://{team.image()}", target, credential=credential)
    before = skopeo.pull(f"{server.host}/{name}:1", scratch / "before", credential=credential)
    skopeo.run("delete", "--tls-verify=false", f"--creds={credential}", target)
    assert raw.get(f"{server.url}/v2/{name}/manifests/1", lee.basic).status == 404
    assert server.cli("tag", "restore", f"{name}:1").returncode == 0
    after = skopeo.pull(f"{server.host}/{name}:1", scratch / "after", credential=credential)
    assert set(after.files) == set(before.files)
