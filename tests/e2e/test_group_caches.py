"""The caches of groups at a running server: what skopeo pulls is listed, purged by python-gitlab, and pulled again."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gitlab
import pytest
from gql.transport.exceptions import TransportQueryError

from tests.conftest import Publish
from tests.parts.canaries import remember
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.pages import PAGES, blocks
from tests.parts.postgresql import Databases
from tests.parts.processes import plain_environment, wait_until

from .conftest import LongLived

ENGINES = ["sqlite", "postgresql"]
TEAM = "/groups/team/dependency_proxy"
IMAGES = f"{TEAM}/images"


class Rig:
    """A server with the private group `team` and its owner, who is a guest of the group `other`. `folder`: of pulls."""

    def __init__(self, server: Gateway, folder: Path) -> None:
        self.server, self._folder, self._skopeo, self._pulls = server, folder, Skopeo(folder / "skopeo"), 0
        for group, role in (("team", "owner"), ("other", "guest")):
            server.json("group", "create", group)
            if group == "team":
                server.json("user", "create", "owner")
            server.json("member", "add", group, "owner", role)
        made = server.json("token", "create", "--user", "owner", "--name", "api", "--scope", "api")
        self.token = remember(made["token"])
        self.client = gitlab.Gitlab(server.url, private_token=self.token)

    def pull(self, image: str, group: str = "team") -> None:
        """Pull an image, all of it."""
        self._pulls += 1
        target = self.server.proxied(image, group)
        self._skopeo.pull(target, self._folder / f"pull-{self._pulls}", credential=f"owner:{self.token}")

    def listed(self, path: str = IMAGES) -> list[dict[str, Any]]:
        return [dict(image) for image in self.client.http_list(path, iterator=True)]

    def purge(self) -> dict[str, Any]:
        """Purge the cache of the group, and wait for the end of it."""
        self.client.http_delete(f"{TEAM}/cache")
        wait_until(lambda: self.progress()["status"] == "finished")
        return self.progress()

    def progress(self) -> dict[str, Any]:
        found = self.client.http_get(f"{TEAM}/cache")
        assert isinstance(found, dict)
        return found


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, long_lived: LongLived, hub: Hub, tmp_path: Path) -> Iterator[Rig]:
    config: dict[str, object] = {"upstreams": {"docker.io": hub.settings()}, "workers": 2, "log_format": "json"}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create(f"of_group_caches_{os.urandom(4).hex()}", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    yield Rig(long_lived(config), tmp_path)


def test_a_group_lists_purges_and_pulls_again_what_it_pulled(rig: Rig, hub: Hub, published: Publish) -> None:
    for name in ("alone", "shared"):
        published("tiny" if name == "alone" else "other", repository=f"caches/{name}", tag="v1")
        rig.pull(f"caches/{name}:v1")
    rig.pull("caches/shared:v1", "other")
    wait_until(lambda: len(rig.listed()) == 2 and len(rig.listed("/groups/other/dependency_proxy/images")) == 1)
    first, second = rig.listed()
    assert (first["name"], second["name"]) == ("caches/alone:v1", "caches/shared:v1")
    assert first["size"] > 0 and first["state"] == "fresh"
    one = quote("caches/alone:v1", safe="")
    refreshed = rig.client.http_post(f"{IMAGES}/{one}/refresh")
    assert isinstance(refreshed, dict) and (refreshed["digest"], refreshed["changed"]) == (first["digest"], False)
    rig.server.kill()
    rig.server.start()
    progress = rig.purge()
    assert (progress["images"], progress["purged"], progress["shared"]) == (2, 2, 1)
    assert rig.listed() == []
    with pytest.raises(gitlab.GitlabHttpError, match="at most once an hour") as refused:
        rig.client.http_delete(f"{TEAM}/cache")
    assert refused.value.response_code == 409
    hub.stop()
    try:
        rig.pull("caches/shared:v1", "other")
        with pytest.raises(ClientFailed):
            rig.pull("caches/alone:v1")
    finally:
        hub.start()
    rig.pull("caches/alone:v1")
    wait_until(lambda: [image["name"] for image in rig.listed()] == ["caches/alone:v1"])
    evicted = rig.server.json("audit", "list", "--event", "evict")
    assert [(event["subject"], event["path"], event["user"]) for event in evicted] == [("group", "team", "owner")]


def test_the_lines_of_the_page_run(rig: Rig, published: Publish) -> None:
    published("tiny", repository="library/alpine", tag="3.20")
    rig.pull("alpine:3.20")
    wait_until(lambda: len(rig.listed()) == 1)
    page = PAGES["dependency-proxy"]
    environment = plain_environment(TOKEN=rig.token, URL=rig.server.url, GROUP="team", SECRET=remember("of-the-page"))
    program, query = blocks(page, "python")
    names = f"URL, TOKEN, GROUP = {rig.server.url!r}, {rig.token!r}, 'team'\n"
    done = [
        subprocess.run([sys.executable, "-c", names + text], capture_output=True, text=True, timeout=60, check=True)
        for text in (program, query)
    ]
    assert done[0].stdout.startswith("library/alpine:3.20 ")
    assert "'enabled': True" in done[1].stdout
    for line in [line for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines()]:
        command = ["sh", "-ec", line.replace("curl ", "curl --fail --silent --show-error ")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, (line, ran.stderr)
        assert json.loads(ran.stdout) is not None, line


def test_terraform_and_pages_work_by_graphql(rig: Rig, published: Publish) -> None:
    published("tiny", repository="library/alpine", tag="3.20")
    secret = remember("upstream-secret-of-terraform")
    wanted = f'groupPath: "team", enabled: true, identity: "robot", secret: "{secret}"'
    change = "mutation {updateDependencyProxySettings(input: {%s}) {dependencyProxySetting {enabled, identity} errors}}"
    with gitlab.GraphQL(rig.server.url, token=rig.token) as client:
        done = client.execute(change % wanted)["updateDependencyProxySettings"]
        assert done == {"dependencyProxySetting": {"enabled": True, "identity": "robot"}, "errors": []}
        read = 'query {group(fullPath: "team") {dependencyProxySetting {enabled, identity}}}'
        assert client.execute(read)["group"] == {"dependencyProxySetting": {"enabled": True, "identity": "robot"}}
        client.execute(change % 'groupPath: "team", enabled: true, identity: "", secret: ""')
        rig.pull("alpine:3.20")
        newest = 'query {group(fullPath: "team") {dependencyProxyManifests(first: 1) {nodes {imageName digest}}}}'

        def names() -> list[str]:
            return [node["imageName"] for node in client.execute(newest)["group"]["dependencyProxyManifests"]["nodes"]]

        wait_until(lambda: names() == ["library/alpine:3.20"])
        assert client.execute('query {group(fullPath: "absent") {id}}') == {"group": None}
        with pytest.raises(TransportQueryError, match="does not exist or you don't have permission"):
            client.execute(change % 'groupPath: "other", enabled: false')
        with gitlab.GraphQL(rig.server.url, token="rgpat-wrong") as stranger, pytest.raises(Exception, match="401"):
            stranger.execute(read)  # which error it is depends on the versions of the libraries
        client.execute(change % 'groupPath: "team", enabled: false')
        with pytest.raises(ClientFailed):
            rig.pull("alpine:3.20")
