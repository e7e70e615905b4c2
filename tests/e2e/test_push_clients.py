"""Tests of clients that make their manifests themselves: what each pushes is what it and others pull back."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.clients import Buildah, Podman, PrivateHome, Skopeo
from tests.parts.engines import Containerd
from tests.parts.gateway import Gateway
from tests.parts.go_clients import HELM, REGCTL, build_go_client
from tests.parts.images import Images, digest_of, seeded
from tests.parts.oras_python import CHUNK, OrasPython
from tests.parts.processes import binary, wait_until
from tests.parts.registry import Registry

from .closed_group import PROJECT, ClosedGroup
from .conftest import LongLived

BUILD = """\
FROM {base}
COPY sh /bin/sh
RUN echo built > /srv/{name}
"""


@pytest.fixture(scope="module")
def server(long_lived: LongLived, registry: Registry, published: Publish) -> Iterator[Gateway]:
    for image in ("tiny", "multi"):
        published(image)
    yield long_lived({"workers": 2, "log_format": "json", "upstreams": {"docker.io": registry.settings()}})


@pytest.fixture(scope="module")
def team(server: Gateway) -> ClosedGroup:
    return ClosedGroup(server)


@pytest.fixture
def buildah(team: ClosedGroup, scratch: Path) -> Iterator[Buildah]:
    buildah = Buildah(scratch / "buildah")
    buildah.login(team.server.host, team.ann.user, team.ann.secret)
    yield buildah
    buildah.close()


@pytest.fixture
def containerd(scratch: Path, processes: None) -> Iterator[Containerd]:
    engine = Containerd(scratch / "containerd")
    yield engine
    engine.stop()


def stored(team: ClosedGroup, repository: str, reference: str) -> tuple[str, Any]:
    """The manifest as the server has it: its digest and its parsed text."""
    answer = raw.get(f"{team.server.url}/v2/{PROJECT}/{repository}/manifests/{reference}", team.ann.basic)
    assert answer.status == 200, answer.body
    return digest_of(answer.body), json.loads(answer.body)


def requests(server: Gateway, path: str) -> list[dict[str, Any]]:
    """Lines of the access log whose paths begin with this one, without those that were told to log in."""
    lines = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
    ours = [line for line in lines if line["event"] == "request" and line["path"].startswith(path)]
    return [line for line in ours if line["status"] != 401]


def test_podman_pulls_what_it_pushed(team: ClosedGroup, podman: Podman) -> None:
    assert podman.login(team.server.host, team.ann.user, team.ann.secret).returncode == 0
    image = podman.pull(team.image())
    reference = f"{team.server.host}/{PROJECT}/podman:1"
    digest = podman.push(team.image(), reference)
    assert stored(team, "podman", "1")[0] == digest
    podman.remove_all()
    assert podman.pull(reference) == image
    assert podman.digest(reference) == digest


def build(buildah: Buildah, folder: Path, base: str, name: str) -> None:
    folder.mkdir()
    shutil.copy(binary("busybox", "busybox-static"), folder / "sh")
    (folder / "Dockerfile").write_text(BUILD.format(base=base, name=name))
    buildah.build(folder, name)


def test_buildah_pushes_what_it_built_from_a_proxied_image(
    team: ClosedGroup, buildah: Buildah, skopeo: Skopeo, scratch: Path
) -> None:
    build(buildah, scratch / "source", team.image(), "built")
    reference = f"{team.server.host}/{PROJECT}/buildah:1"
    digest = buildah.push("built", reference)
    [image] = buildah.run("images", "--quiet", "--no-trunc", "built").stdout.split()
    assert stored(team, "buildah", "1")[0] == digest
    pulled = skopeo.pull(reference, scratch / "pulled", credential=f"{team.ann.user}:{team.ann.secret}")
    assert pulled.digest == digest
    buildah.run("rmi", "--all", "--force")
    assert buildah.pull(reference) == image.removeprefix("sha256:")


def test_buildah_pushes_a_manifest_list_with_its_images(
    team: ClosedGroup, buildah: Buildah, skopeo: Skopeo, scratch: Path
) -> None:
    buildah.run("manifest", "create", "both")
    for architecture in ("amd64", "arm64"):
        base = f"--platform=linux/{architecture}"
        build(buildah, scratch / architecture, f"{base} {team.image()}", architecture)
        buildah.run("manifest", "add", f"--arch={architecture}", "both", architecture)
    reference = f"{team.server.host}/{PROJECT}/lists:1"
    digest = buildah.push_list("both", reference)
    stored_digest, index = stored(team, "lists", "1")
    assert stored_digest == digest
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    pulled = skopeo.pull(reference, scratch / "pulled", credential=f"{team.ann.user}:{team.ann.secret}")
    assert {entry["digest"] for entry in index["manifests"]} | {digest} <= set(pulled.files)


def test_oras_for_python_uploads_in_chunks_that_say_where_they_belong(
    team: ClosedGroup, scratch: Path, processes: None
) -> None:
    content = seeded("chunks", 3 * CHUNK + 1)
    file = scratch / "content.bin"
    file.write_bytes(content)
    client = OrasPython(scratch / "oras", team.ann.user, team.ann.secret)
    reference = f"{team.server.host}/{PROJECT}/chunks:1"
    digest = client.push(reference, file)
    stored_digest, manifest = stored(team, "chunks", "1")
    assert (stored_digest, manifest["layers"][0]["digest"]) == (digest, digest_of(content))

    def statuses() -> list[int]:
        uploads = requests(team.server, f"/v2/{PROJECT}/chunks/blobs/uploads/")
        return [line["status"] for line in uploads if line["method"] == "PATCH"]

    wait_until(lambda: len(statuses()) >= 4, what="the log lacks chunks")
    assert statuses() == [202] * 4
    assert client.pull(reference, scratch / "pulled").read_bytes() == content


def test_containerd_pushes_every_platform_of_what_it_pulled(
    team: ClosedGroup, containerd: Containerd, images: Images
) -> None:
    access = ["--plain-http", "--user", f"{team.ann.user}:{team.ann.secret}"]
    source = team.server.proxied("library/multi:latest", "team")
    reference = f"{team.server.host}/{PROJECT}/containerd:1"
    containerd.pull(*access, "--all-platforms", source)
    containerd.run("images", "tag", source, reference)
    containerd.run("images", "push", *access, reference)
    assert stored(team, "containerd", "1")[0] == images["multi"].digest
    for name in (source, reference):
        containerd.forget(name)
    containerd.pull(*access, "--all-platforms", reference)
    assert containerd.digest(reference) == images["multi"].digest


def test_regctl_uploads_in_chunks_where_it_is_told_to(
    team: ClosedGroup, images: Images, scratch: Path, processes: None
) -> None:
    """It compares the digest that each response states."""
    program, layout = build_go_client(REGCTL), images["multi"]
    home = PrivateHome(scratch / "regctl")
    host, reference = team.server.host, f"{team.server.host}/{PROJECT}/regctl:1"
    words = ["--tls=disabled", "--blob-max=20000", "--blob-chunk=50000", "--skip-check", host]
    home.run([str(program), "registry", "set", *words])
    login = ["registry", "login", f"--user={team.ann.user}", "--pass-stdin", host]
    home.run([str(program), *login], standard_input=team.ann.secret)
    home.run([str(program), "image", "copy", f"ocidir://{layout.path}:latest", reference])
    uploads = requests(team.server, f"/v2/{PROJECT}/regctl/blobs/uploads/")
    assert len([line for line in uploads if line["method"] == "PATCH" and line["status"] == 202]) > 5
    home.run([str(program), "image", "copy", reference, f"ocidir://{scratch / 'pulled'}:latest"])
    pulled = {digest_of(file.read_bytes()) for file in (scratch / "pulled" / "blobs" / "sha256").iterdir()}
    assert pulled == set(layout.blobs)


def test_helm_pulls_the_chart_that_it_pushed(team: ClosedGroup, scratch: Path, processes: None) -> None:
    program, home, host = str(build_go_client(HELM)), PrivateHome(scratch / "helm"), team.server.host
    login = ["registry", "login", "--plain-http", f"--username={team.ann.user}", "--password-stdin", host]
    home.run([program, *login], standard_input=team.ann.secret)
    home.run([program, "create", "chart"])
    home.run([program, "package", "--version=1.2.3+build.4", "chart"])
    [chart] = home.directory.glob("chart-*.tgz")
    pushed = home.run([program, "push", "--plain-http", str(chart), f"oci://{host}/{PROJECT}/charts"])
    [digest] = re.findall(r"Digest: (\S+)", pushed.stdout + pushed.stderr)
    stored_digest, manifest = stored(team, "charts/chart", "1.2.3_build.4")
    assert stored_digest == digest
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    words = ["--plain-http", "--version=1.2.3+build.4", f"--destination={scratch}"]
    home.run([program, "pull", *words, f"oci://{host}/{PROJECT}/charts/chart"])
    pulled = scratch / chart.name
    assert hashlib.sha256(pulled.read_bytes()).digest() == hashlib.sha256(chart.read_bytes()).digest()
