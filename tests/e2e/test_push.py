"""Real clients push to projects with each credential that may, and pull what another one pushed, byte for byte."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Publish
from tests.parts import logins, raw
from tests.parts.clients import PrivateHome
from tests.parts.gateway import Gateway
from tests.parts.go_clients import CRANE, ORAS, REGCTL, build_go_client
from tests.parts.images import Images, digest_of, seeded
from tests.parts.logins import Program
from tests.parts.processes import HOST, wait_until
from tests.parts.registry import Registry

from .closed_group import PROJECT, ClosedGroup
from .conftest import LongLived

CLIENTS = ("skopeo", "crane", "oras", "regctl")


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish) -> Iterator[Gateway]:
    published("tiny")
    yield long_lived({"workers": 2, "log_format": "json", "upstreams": {"docker.io": registry.settings()}})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


@pytest.fixture(scope="module")
def clients(workplace: Path, processes: None) -> dict[str, Program]:
    return {
        "skopeo": logins.skopeo(workplace / "pushing-skopeo"),
        "crane": logins.crane(build_go_client(CRANE), workplace / "pushing-crane"),
        "oras": logins.oras(build_go_client(ORAS), workplace / "pushing-oras"),
        "regctl": logins.regctl(build_go_client(REGCTL), workplace / "pushing-regctl"),
    }


def blobs_below(folder: Path) -> set[str]:
    """Digests of the files that a client wrote, whether to a layout or to a folder without one."""
    return {file.name.removeprefix("sha256:") for file in folder.rglob("*") if len(file.name) >= 64}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_pushes_by_every_credential_and_another_one_pulls_it(
    name: str, team: ClosedGroup, clients: dict[str, Program], images: Images, scratch: Path
) -> None:
    layout, host, other = images["tiny"], team.server.host, CLIENTS[CLIENTS.index(name) - 1]
    for number, (kind, login) in enumerate(team.every_credential_that_pushes().items()):
        reference, folder = f"{host}/{PROJECT}/{name}/of-{number}:latest", scratch / f"{name}-{number}"
        assert clients[name].login(folder, host, login.user, login.secret).done
        pushed = clients[name].push(folder, layout.path, reference)
        assert pushed.done, f"{name}, {kind}: {pushed.text}"
        puller = scratch / f"{other}-pulls-{number}"
        assert clients[other].login(puller, host, team.ann.user, team.ann.secret).done
        pulled = clients[other].pull(puller, reference)
        assert pulled.done, f"{other}, {kind}: {pulled.text}"
        wanted = {digest.partition(":")[2] for digest in layout.blobs if digest != layout.digest}
        assert wanted <= blobs_below(puller / "pulled")
        stored = raw.get(f"http://{host}/v2/{PROJECT}/{name}/of-{number}/manifests/latest", team.ann.basic)
        assert stored.body == layout.manifest_bytes


@pytest.mark.parametrize("image", ["multi", "mid"])
def test_images_of_several_platforms_and_of_many_megabytes_keep_their_bytes(
    image: str, team: ClosedGroup, clients: dict[str, Program], images: Images, scratch: Path
) -> None:
    layout, host, login = images[image], team.server.host, team.ann
    reference, folder = f"{host}/{PROJECT}/{image}:latest", scratch / "oras"
    assert clients["oras"].login(folder, host, login.user, login.secret).done
    pushed = clients["oras"].push(folder, layout.path, reference)
    assert pushed.done, pushed.text
    pulled = clients["oras"].pull(folder, reference)
    assert pulled.done, pulled.text
    assert {digest.partition(":")[2] for digest in layout.blobs} <= blobs_below(folder / "pulled")


def answered(server: Gateway, path: str) -> list[tuple[str, int]]:
    """Methods and statuses of the requests to a path that the log has so far, but those that lacked a token."""
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request" and line["path"] == path]
    return [(line["method"], line["status"]) for line in requests if line["status"] != 401]


def test_a_copy_of_a_proxied_image_to_a_project_mounts_its_blobs(
    team: ClosedGroup, clients: dict[str, Program], images: Images, scratch: Path
) -> None:
    """crane copies within one registry by mounts, as a build does that begins with a proxied image."""
    host, folder, layout = team.server.host, scratch / "crane", images["tiny"]
    assert clients["crane"].login(folder, host, team.ann.user, team.ann.secret).done
    assert clients["crane"].pull(folder, team.image()).done  # the cache holds it then
    home = PrivateHome(scratch / "home")
    words = [str(build_go_client(CRANE)), "copy", "--insecure", team.image(), f"{host}/{PROJECT}/copied:latest"]
    home.run(words, DOCKER_CONFIG=str(folder))
    path, layers = f"/v2/{PROJECT}/copied/blobs/uploads/", len(layout.blobs) - 1
    wait_until(lambda: len(answered(team.server, path)) >= layers, what="no mounts in the log")
    assert set(answered(team.server, path)) == {("POST", 201)}
    stored = raw.get(f"http://{host}/v2/{PROJECT}/copied/manifests/latest", team.ann.basic)
    assert stored.body == layout.manifest_bytes


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_large_blob_is_stored_as_it_was_sent(framing: str, team: ClosedGroup) -> None:
    """Its bytes go past the server's own reader, and two requests share its connection."""
    content = seeded(f"large push, {framing}", 9_000_001)
    chunks = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    line, body = {
        "length": (f"Content-Length: {len(content)}", content),
        "chunks": ("Transfer-Encoding: chunked", framed),
    }[framing]
    uploads, login = f"/v2/{PROJECT}/large/blobs/uploads/", team.ann.basic["Authorization"]
    location = raw.request("POST", f"{team.server.url}{uploads}", team.ann.basic).headers["location"]
    head = f"PATCH {location} HTTP/1.1\r\nHost: {team.server.host}\r\nAuthorization: {login}\r\n{line}\r\n\r\n"
    end = f"PUT {location}?digest={digest_of(content)} HTTP/1.1\r\nHost: {team.server.host}\r\nConnection: close\r\n"
    with socket.create_connection((HOST, team.server.port), timeout=60) as connection:
        connection.sendall(head.encode() + body + f"{end}Authorization: {login}\r\n\r\n".encode())
        answers = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert [line.split()[1] for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1")] == [b"202", b"201"]
    pulled = raw.get(f"{team.server.url}/v2/{PROJECT}/large/blobs/{digest_of(content)}", team.ann.basic)
    assert (pulled.status, pulled.body) == (200, content)
