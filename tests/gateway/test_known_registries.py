"""What is known of registries, and where it is published."""

from dataclasses import fields

import pytest

from cache.oci.names import RepositoryName
from gateway import known_registries
from gateway.known_registries import KNOWN_REGISTRIES, KnownRegistry, find_registry


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
    assert known_registries.full_name(upstream, RepositoryName(image)) == RepositoryName(full)
    assert known_registries.short_names(upstream, RepositoryName(image)) == short


def test_its_alias_is_the_same_upstream() -> None:
    assert known_registries.canonical_name("index.docker.io") == "docker.io"
    assert known_registries.canonical_name("docker.io") == "docker.io"
    assert known_registries.canonical_name("quay.io") == "quay.io"


@pytest.mark.parametrize("known", KNOWN_REGISTRIES, ids=lambda known: known.name)
def test_each_fact_has_a_public_source(known: KnownRegistry) -> None:
    stated = {field.name for field in fields(known) if getattr(known, field.name)} - {"name", "sources"}
    assert set(known.sources) == stated
    assert all(source.startswith("https://") for source in known.sources.values())


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("europe-docker.pkg.dev", "*.pkg.dev"),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", "*.dkr.ecr.*.amazonaws.com"),
        ("acme.azurecr.io", "*.azurecr.io"),
        ("pkg.dev", None),
        ("xghcr.io", None),
        ("ghcr.io.example", None),
        ("acme.azurecr.io.example", None),
        ("auth.docker.io", None),
    ],
)
def test_a_registry_is_known_by_its_whole_host(host: str, name: str | None) -> None:
    known = find_registry(host)
    assert (known.name if known else None) == name


def test_the_url_of_a_registry_follows_from_its_name() -> None:
    assert known_registries.default_url("docker.io") == "https://registry-1.docker.io"
    assert known_registries.default_url("europe-docker.pkg.dev") == "https://europe-docker.pkg.dev"
    assert known_registries.default_url("registry.example") == "https://registry.example"
