"""Names of Docker Hub's images and of Docker Hub itself."""

import pytest

from cache.oci.names import RepositoryName
from gateway import docker_hub


@pytest.mark.parametrize(
    ("upstream", "image", "full", "short"),
    [
        ("docker.io", "alpine", "library/alpine", []),
        ("docker.io", "library/alpine", "library/alpine", ["alpine"]),
        ("docker.io", "acme/app", "acme/app", []),
        ("quay.io", "alpine", "alpine", []),
        ("quay.io", "library/alpine", "library/alpine", []),
    ],
)
def test_an_official_image_has_a_short_and_a_full_name(upstream: str, image: str, full: str, short: list[str]) -> None:
    assert docker_hub.full_name(upstream, RepositoryName(image)) == RepositoryName(full)
    assert docker_hub.short_names(upstream, RepositoryName(image)) == short


def test_its_alias_is_the_same_upstream() -> None:
    assert docker_hub.canonical_name("index.docker.io") == docker_hub.canonical_name("docker.io") == "docker.io"
    assert docker_hub.canonical_name("quay.io") == "quay.io"
