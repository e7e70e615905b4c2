"""Virtual registries at a running server over two real registries, made through the REST API and pulled by skopeo and
docker."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitlab
import pytest

from tests.parts.canaries import remember
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images, digest_of
from tests.parts.pages import PAGES, blocks
from tests.parts.postgresql import Databases
from tests.parts.processes import plain_environment
from tests.parts.registry import Registry

from .conftest import LongLived

BASE = "/virtual_registries/container"
ENGINES = ["sqlite", "postgresql"]


class Rig:
    """A server with the group `team`, a maintainer of it, a guest of a project in it and a stranger, and a virtual
    registry over two real ones: our own with `own/app`, and a public one with `library/tiny` and another `own/app`."""

    def __init__(self, server: Gateway, skopeo: Skopeo, images: Images, own: Registry, public: Registry) -> None:
        self.server, self._skopeo, self.own, self.public = server, skopeo, own, public
        server.json("group", "create", "team")
        server.json("project", "create", "team/app")
        self.tokens: dict[str, str] = {}
        for who, place, role in (("ada", "team", "maintainer"), ("gus", "team/app", "guest"), ("sam", "", "")):
            server.json("user", "create", who)
            if place:
                server.json("member", "add", place, who, role)
            for scope in ("api", "read_virtual_registry", "read_registry"):
                made = server.json("token", "create", "--user", who, "--name", scope, "--scope", scope)
                self.tokens[f"{who} {scope}"] = remember(made["token"])
        self.ours = own.push(images.tiny, "own/app")
        self.theirs = public.push(images.other, "own/app")
        self.tiny = public.push(images.tiny, "library/tiny")
        self.api = gitlab.Gitlab(server.url, private_token=self.tokens["ada api"])
        self.id = self.post(f"/groups/team/-{BASE}/registries", name="all")["id"]
        self.upstreams = [
            self.post(f"{BASE}/registries/{self.id}/upstreams", name=name, url=part.url)
            for name, part in (("own", own), ("public", public))
        ]

    def post(self, path: str, **document: Any) -> Any:
        return self.api.http_post(path, post_data=document)

    def name(self, image: str) -> str:
        return f"{self.server.host}/virtual_registries/container/{self.id}/{image}"

    def pulled(self, image: str, who: str = "gus read_virtual_registry") -> str:
        """The digest of what a tag means to a client. Raises ClientFailed."""
        raw = self._skopeo.inspect_raw(self.name(image), credential=f"x:{self.tokens[who]}")
        return digest_of(raw)


@pytest.fixture(scope="module", params=ENGINES)
def rig(request: pytest.FixtureRequest, long_lived: LongLived, images: Images, workplace: Path) -> Iterator[Rig]:
    parts = [Registry(workplace / f"{name}-{request.param}") for name in ("own", "public")]
    for part in parts:
        part.start()
    hosts = [part.netloc for part in parts]
    config: dict[str, object] = {"workers": 2, "virtual_registries": {"private_hosts": hosts}}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create("of_virtual_registries", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    yield Rig(long_lived(config), Skopeo(workplace / f"skopeo-virtual-{request.param}"), images, *parts)
    for part in parts:
        part.stop()


def test_each_image_comes_from_the_first_upstream_that_has_it(rig: Rig) -> None:
    assert rig.pulled("own/app:latest") == rig.ours
    assert rig.pulled("library/tiny:latest") == rig.tiny
    with pytest.raises(ClientFailed, match="manifest unknown"):
        rig.pulled("library/absent:latest")


def test_a_whole_image_is_pulled_with_its_blobs(rig: Rig, tmp_path: Path) -> None:
    pulled = Skopeo(tmp_path / "skopeo").pull(
        rig.name("library/tiny:latest"), tmp_path / "pulled", credential=f"x:{rig.tokens['gus api']}"
    )
    assert digest_of(pulled.manifest_bytes) == rig.tiny


def test_only_members_pull_and_by_tokens_for_this(rig: Rig) -> None:
    for who in ("sam api", "sam read_virtual_registry", "gus read_registry"):
        with pytest.raises(ClientFailed):
            rig.pulled("own/app:latest", who)
    with pytest.raises(ClientFailed):
        Skopeo(rig.server.directory / "stranger").inspect_raw(rig.name("own/app:latest"))


def test_an_outage_of_ours_gives_the_public_one_no_word(rig: Rig) -> None:
    assert rig.pulled("own/app:latest") == rig.ours
    rig.own.stop()
    try:
        assert rig.pulled("own/app:latest") == rig.ours, "it is cached, and valid"
        rig.api.http_delete(f"{BASE}/upstreams/{rig.upstreams[0]['id']}/cache")
        with pytest.raises(ClientFailed):
            rig.pulled("own/app:latest")
        with pytest.raises(ClientFailed):
            rig.pulled("own/app:v9")
    finally:
        rig.own.start()
    assert rig.pulled("own/app:latest") == rig.ours


def test_the_order_decides_and_entries_are_listed(rig: Rig) -> None:
    share = rig.upstreams[1]["registry_upstream"]["id"]
    rig.api.http_request("patch", f"{BASE}/registry_upstreams/{share}", post_data={"position": 1})
    rig.api.http_delete(f"{BASE}/registries/{rig.id}/cache")
    try:
        assert rig.pulled("own/app:latest") == rig.theirs
    finally:
        rig.api.http_request("patch", f"{BASE}/registry_upstreams/{share}", post_data={"position": 2})
    entries = rig.api.http_list(f"{BASE}/upstreams/{rig.upstreams[1]['id']}/cache_entries", get_all=True)
    assert "own/app/manifests/latest" in [entry["relative_path"] for entry in entries]
    rig.api.http_delete(f"{BASE}/registries/{rig.id}/cache")
    assert rig.pulled("own/app:latest") == rig.ours


def test_the_lines_of_the_page_run(rig: Rig) -> None:
    block = blocks(PAGES["virtual-registries"], "sh")[0]
    made = rig.server.json("token", "create", "--user", "root", "--name", "page", "--scope", "api")
    group = json.dumps({"path": "paged"})
    token = remember(made["token"])
    gitlab.Gitlab(rig.server.url, private_token=token).http_post("/groups", post_data=json.loads(group))
    environment = plain_environment(TOKEN=token, URL=rig.server.url, PASSWORD=remember("a-password"))
    lines = block.replace("groups/team", "groups/paged").replace("\\\n", "").splitlines()
    setup, *requests = lines
    for line in requests:
        script = f"{setup.replace('curl', 'curl --fail --silent --show-error')}\n{line}"
        command = ["bash", "-ec", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (line, done.stderr)
        answer = json.loads(done.stdout)
        environment.setdefault("ID", str(answer["id"]))
    assert len(answer["registry_upstreams"]) == 2
