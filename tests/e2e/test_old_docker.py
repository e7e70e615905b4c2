"""Tests that old versions of Docker get each image as it was pushed, native or proxied, whatever they accept."""

from pathlib import Path

import pytest

from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import Images, digest_of
from tests.parts.registry import Registry

from .conftest import LongLived
from .datafolder import error_of

SCHEMA_1 = ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"]
DOCKER = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
]
OCI = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"]
ACCEPTED = {"17.09": SCHEMA_1 + DOCKER, "18.09": SCHEMA_1 + DOCKER + OCI, "19.03": SCHEMA_1 + DOCKER + OCI}
"""What each version accepts: the types that its copy of docker/distribution registers (manifest/*/), which its client
sends in as many headers and in any order (registry/client/repository.go). OCI's came with moby 18.06."""

PLACES = ["team/app", "team/dependency_proxy/containers/old"]
"""A project, and an image of an upstream."""


@pytest.fixture(scope="module")
def server(
    long_lived: LongLived, plain_hub_servers: Hub, registry: Registry, images: Images, workplace: Path
) -> Gateway:
    """Starts a server on which both places have the image `tiny` with the tags `docker` and `oci`."""
    server = long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}})
    server.json("group", "create", "team", "--visibility", "public", "--anonymous-pull")
    server.json("project", "create", "team/app", "--visibility", "public")
    root = (server.data / "keys" / "root-password").read_text().strip()
    skopeo = Skopeo(workplace / "old-docker")
    options = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    for tag, form in (("docker", "v2s2"), ("oci", "oci")):
        copy = ["copy", "--quiet", *options, "--format", form, images.tiny.source]
        skopeo.run(*copy, f"docker://{registry.netloc}/library/old:{tag}")
        skopeo.run(*copy, "--dest-creds", f"root:{root}", f"docker://{server.host}/team/app:{tag}")
    return server


def accepting(media_types: list[str]) -> list[tuple[str, str]]:
    return [("Accept", media_type) for media_type in media_types]


@pytest.mark.parametrize("version", ACCEPTED)
@pytest.mark.parametrize("tag", ["docker", "oci"])
@pytest.mark.parametrize("place", PLACES)
def test_an_old_docker_gets_every_image_as_it_was_pushed(version: str, tag: str, place: str, server: Gateway) -> None:
    url = f"{server.url}/v2/{place}/manifests/{tag}"
    answer = raw.get(url, accepting(ACCEPTED[version]))
    assert answer.status == 200
    assert answer.headers["Content-Type"] == (OCI if tag == "oci" else DOCKER)[0]
    assert answer.headers["Docker-Content-Digest"] == digest_of(answer.body)
    assert raw.head(url, accepting(ACCEPTED[version])).headers["Docker-Content-Digest"] == digest_of(answer.body)


@pytest.mark.parametrize("tag", ["docker", "oci"])
@pytest.mark.parametrize("place", PLACES)
def test_a_docker_that_accepts_the_first_format_alone_is_told_to_be_updated(
    tag: str, place: str, server: Gateway
) -> None:
    answer = raw.get(f"{server.url}/v2/{place}/manifests/{tag}", accepting(SCHEMA_1))
    assert (answer.status, error_of(answer)["code"]) == (404, "MANIFEST_UNKNOWN")
    assert "Docker 17.12 or later" in error_of(answer)["message"]


@pytest.mark.parametrize("place", PLACES)
def test_clients_without_a_list_of_formats_get_the_image(place: str, server: Gateway) -> None:
    assert raw.get(f"{server.url}/v2/{place}/manifests/oci").status == 200
