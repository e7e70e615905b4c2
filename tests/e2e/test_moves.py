"""Moves while a server serves clients: by old names they pull, and are told where to push."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import MANIFEST, digest_of
from tests.parts.ports import free_port
from tests.parts.registry import Registry

from .closed_group import GROUP, PROJECT, ClosedGroup
from .conftest import LongLived

HOST = "mirror.localhost"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish, port: int) -> Iterator[Gateway]:
    published("tiny")
    addresses = {"listener": [{"port": port}], "virtual_host": [{"name": HOST}]}
    config = {"workers": 2, "log_format": "json", "upstreams": {"docker.io": registry.settings()}, **addresses}
    yield long_lived(config | {"cache": {"ttl": "1h"}})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


def move(server: Gateway, kind: str, old: str, new: str) -> None:
    moved = server.cli(kind, "move", old, new)
    assert moved.returncode == 0, moved.stderr


def test_skopeo_pulls_by_both_names_and_is_told_where_to_push(
    server: Gateway, team: ClosedGroup, skopeo: Skopeo, tmp_path: Path
) -> None:
    login = f"{team.ann.user}:{team.ann.secret}"
    pushed = f"{server.host}/{PROJECT}/web:1"
    skopeo.copy(f"docker://{team.image()}", f"docker://{pushed}", credential=login)
    before = skopeo.inspect_raw(pushed, credential=login)
    for number, (kind, old, new, name) in enumerate(
        [
            ("repository", f"{PROJECT}/web", f"{PROJECT}/site", f"{PROJECT}/site"),
            ("project", PROJECT, f"{GROUP}/shop", f"{GROUP}/shop/site"),
            ("group", GROUP, "crew", "crew/shop/site"),
        ]
    ):
        move(server, kind, old, new)
        for place, reference in (("old", pushed), ("new", f"{server.host}/{name}:1")):
            assert skopeo.inspect_raw(reference, credential=login) == before
            skopeo.pull(reference, tmp_path / f"{place}-{number}", credential=login)
        refused = skopeo.copy(f"docker://{pushed}", f"docker://{pushed}-2", credential=login, check=False)
        assert refused.returncode != 0
        assert f"use {name}," in refused.stderr and "has moved to" in refused.stderr
    skopeo.copy(f"docker://{pushed}", f"docker://{server.host}/{name}:2", credential=login)
    answer = raw.get(f"{server.url}/v2/{PROJECT}/web/manifests/2", team.ann.basic)
    assert answer.body == before
    assert answer.headers["warning"].startswith(
        f'299 - "repository {PROJECT}/web has moved to {name}: use {name}, since'
    )
    move(server, "group", "crew", GROUP)
    move(server, "project", f"{GROUP}/shop", PROJECT)


def test_an_upload_of_many_requests_ends_where_its_project_is_now(server: Gateway, team: ClosedGroup) -> None:
    content = b"a layer " * 10_000
    half, basic, digest = len(content) // 2, team.ann.basic, digest_of(content)
    begun = raw.request("POST", f"{server.url}/v2/{PROJECT}/across/blobs/uploads/", basic)
    upload = f"{server.url}{begun.headers['location']}"
    assert raw.request("PATCH", upload, basic, content[:half]).status == 202
    move(server, "project", PROJECT, f"{GROUP}/later")
    assert raw.request("PATCH", upload, basic, content[half:]).status == 202
    assert raw.request("PUT", f"{upload}?digest={quote(digest)}", basic).status == 201
    for name in (f"{PROJECT}/across", f"{GROUP}/later/across"):
        assert raw.get(f"{server.url}/v2/{name}/blobs/{digest}", basic).body == content
    manifest = raw.request("PUT", f"{server.url}/v2/{PROJECT}/across/manifests/1", basic | {"Content-Type": MANIFEST})
    assert manifest.status == 403 and f"{GROUP}/later/across" in manifest.body.decode()
    move(server, "project", f"{GROUP}/later", PROJECT)


def test_a_group_keeps_its_cached_images_and_the_addresses_that_name_it(server: Gateway, port: int) -> None:
    path = "manifests/latest"
    assert raw.get(server.proxied_url(f"library/tiny/{path}")).status == 200
    warning = '299 - "group hub has moved to mirrors/hub: use mirrors/hub/dependency_proxy/containers/library/tiny,'
    assert server.cli("group", "create", "mirrors").returncode == 0
    assert server.cli("group", "update", "mirrors", "--visibility", "public").returncode == 0
    move(server, "group", "hub", "mirrors/hub")
    by_old_name = raw.get(server.proxied_url(f"library/tiny/{path}"))
    assert (by_old_name.status, by_old_name.headers["x-cache"]) == (200, "HIT")
    assert by_old_name.headers["warning"].startswith(warning)
    addresses = [
        (server.proxied_url(f"library/tiny/{path}", "mirrors/hub"), {}),
        (f"{server.url}/v2/library/tiny/{path}?ns=docker.io", {}),
        (f"http://127.0.0.1:{port}/v2/library/tiny/{path}", {}),
        (f"{server.url}/v2/library/tiny/{path}", {"Host": HOST}),
    ]
    for url, headers in addresses:
        answer = raw.get(url, headers)
        assert (answer.status, answer.headers["x-cache"], answer.headers.get("warning")) == (200, "HIT", None), url
        assert answer.body == by_old_name.body
    checks = {check["name"]: check for check in server.json("doctor")}
    for setting in ("ns_group", f"group of the listener at port {port}", f"group of the virtual host {HOST}"):
        check = checks[f"setting {setting}"]
        assert (
            check["ok"] and "group hub has moved to mirrors/hub, which this setting leads to until" in check["detail"]
        )
        assert check["remedy"] == "name mirrors/hub there before that"
    move(server, "group", "mirrors/hub", "hub")
    assert "warning" not in {
        line[0].lower() for line in raw.get(server.proxied_url(f"library/tiny/{path}")).headers.lines
    }
