"""What a server keeps of what is pushed to it: within a quota, and in a backup that another server is restored from."""

import base64
import http.client
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from urllib.parse import urlsplit

from cache.oci.digest import Digest
from tests.conftest import GatewayFactory
from tests.parts.canaries import remember
from tests.parts.gateway import Gateway

NAME = "team/app/web"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
MIB = 1024 * 1024


class Pusher:
    """A client of a maintainer, with a token."""

    def __init__(self, server: Gateway, secret: str) -> None:
        self.secret = secret
        self._host = urlsplit(server.url).netloc
        self._login = base64.b64encode(f"ann:{secret}".encode()).decode()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Message, bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=60)
        try:
            sent = {"Authorization": f"Basic {self._login}", **(headers or {})}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def push_blob(self, content: bytes) -> tuple[int, bytes]:
        """Push a blob in one request after its POST; the status and the body of the response that ended it."""
        status, headers, said = self.request("POST", f"/v2/{NAME}/blobs/uploads/")
        if status != 202:
            return status, said
        place = urlsplit(headers["Location"])
        query = f"{place.query}&" if place.query else ""
        status, _, said = self.request("PUT", f"{place.path}?{query}digest={Digest.of(content)}", content)
        return status, said

    def push_image(self, config: bytes, layer: bytes, tag: str) -> bytes:
        """Push an image of one layer, and return its manifest."""
        assert [self.push_blob(content)[0] for content in (config, layer)] == [201, 201]
        parts = [(CONFIG, config), (LAYER, layer)]
        described, *layers = (
            {"mediaType": kind, "digest": str(Digest.of(part)), "size": len(part)} for kind, part in parts
        )
        raw = json.dumps({"schemaVersion": 2, "mediaType": IMAGE, "config": described, "layers": layers}).encode()
        assert self.request("PUT", f"/v2/{NAME}/manifests/{tag}", raw, {"Content-Type": IMAGE})[0] == 201
        return raw


def made_pusher(server: Gateway) -> Pusher:
    """A maintainer of a new project team/app."""
    server.json("group", "create", "team")
    server.json("project", "create", "team/app")
    server.json("user", "create", "ann")
    server.json("member", "add", "team/app", "ann", "maintainer")
    scopes = ("--scope", "read_registry", "--scope", "write_registry")
    token = server.json("token", "create", "--user", "ann", "--name", "push", *scopes)["token"]
    remember(token)
    return Pusher(server, token)


def test_pushes_at_the_edge_of_a_quota_never_exceed_it_together(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    pusher = made_pusher(server)
    server.json("project", "update", "team/app", "--quota", "10MiB")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(pusher.push_blob, [os.urandom(3 * MIB) for _ in range(8)]))
    statuses = [status for status, _ in results]
    assert set(statuses) <= {201, 403} and 1 <= statuses.count(201) <= 3
    for status, said in results:
        if status == 403:
            [error] = json.loads(said)["errors"]
            assert error["code"] == "DENIED" and "project 'team/app' has a quota of 10 MiB, of which" in said.decode()
    assert server.json("project", "show", "team/app")["stored_bytes"] == statuses.count(201) * 3 * MIB
    server.json("project", "update", "team/app", "--quota", "")
    assert pusher.push_blob(os.urandom(20 * MIB))[0] == 201


def test_an_image_is_pulled_from_a_server_that_was_restored(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    pusher = made_pusher(server)
    config, layer = b'{"os": "linux"}', os.urandom(2 * MIB)
    raw = pusher.push_image(config, layer, "v1")
    file = server.directory / "backup.tar"
    made = server.json("backup", str(file))
    assert (made["blobs"], made["left_out"]) == (2, [])
    later = pusher.push_image(config, os.urandom(1000), "later")

    other = gateway({"workers": 2}, name="other", start=False)
    assert other.json("restore", str(file))["kept"] is None
    other.start()
    puller = Pusher(other, pusher.secret)
    assert puller.request("GET", f"/v2/{NAME}/manifests/v1")[2] == raw
    for content in (config, layer):
        assert puller.request("GET", f"/v2/{NAME}/blobs/{Digest.of(content)}")[2] == content
    assert puller.request("GET", f"/v2/{NAME}/manifests/{Digest.of(later)}")[0] == 404
    assert puller.push_image(config, layer, "v2") == raw
    verified = other.json("verify", "--hash")
    assert (verified["damaged"], verified["missing"], verified["orphaned"]) == (0, 0, 0)
    assert [found["path"] for found in other.json("repository", "list", "team/app")] == [NAME]
    assert [tag["name"] for tag in other.json("tag", "list", NAME)] == ["v1", "v2"]


def test_what_commands_delete_is_gone_on_every_worker(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2})
    pusher = made_pusher(server)
    for tag in ("v1", "v2"):
        pusher.push_image(b"{}", b"layer", tag)

    def statuses(path: str) -> set[int]:
        return {pusher.request("GET", f"/v2/{NAME}/{path}")[0] for _ in range(12)}

    assert statuses("manifests/v1") == {200}
    server.json("tag", "delete", f"{NAME}:v1")
    assert statuses("manifests/v1") == {404} and statuses("manifests/v2") == {200}
    server.json("repository", "delete", NAME)
    assert statuses("manifests/v2") == statuses(f"blobs/{Digest.of(b'layer')}") == {404}
    assert server.json("project", "show", "team/app")["stored_bytes"] > 0, "it can be restored"
    pusher.push_image(b"{}", b"layer", "v3")
    assert statuses("manifests/v3") == {200}
    server.json("project", "delete", "team/app")
    assert statuses("manifests/v3") == {404}
