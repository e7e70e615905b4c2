"""Tests of the first pull and later ones: the same bytes for every client, fetched from the upstream once."""

import json
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.clients import Podman, Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout
from tests.parts.registry import Registry

from .datafolder import await_rest, spools


def content(layout: ImageLayout) -> list[str]:
    """Digests of an image's layers and configs, without its manifests."""
    return [digest for digest in layout.blobs if digest not in layout.manifests]


def image_ids(layout: ImageLayout) -> list[str]:
    """Possible ids of the image in podman: the config of any of its platforms, in hex."""
    documents = [json.loads(layout.read(digest)) for digest in layout.manifests]
    return [document["config"]["digest"].partition(":")[2] for document in documents if "config" in document]


def assert_podman_pulls(podman: Podman, reference: str, layout: ImageLayout) -> None:
    """Asserts that podman pulls the image. It verifies digests itself; this compares the top manifest byte for byte."""
    podman.remove_all()
    assert podman.pull(reference) in image_ids(layout)
    assert podman.digest(reference) == layout.digest


def blob_gets(hub: Hub) -> int:
    return hub.count("hub", "GET", "/blobs/") + hub.count("cdn", "GET")


def outcomes(server: Gateway, image: str, layout: ImageLayout) -> dict[str, str]:
    """X-Cache of the image's tag, and of everything that belongs to it by digest."""
    paths = {"latest": "manifests/latest"} | {digest: f"manifests/{digest}" for digest in layout.manifests}
    paths |= {digest: f"blobs/{digest}" for digest in content(layout)}
    return {name: raw.head(server.proxied_url(f"{image}/{path}")).headers["x-cache"] for name, path in paths.items()}


@pytest.mark.parametrize("name", ["tiny", "multi", "big"])
def test_skopeo_gets_every_byte_once_from_the_upstream_and_then_without_it(
    name: str, hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout, image = published(name), f"library/{name}"
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    reference = server.proxied(f"{image}:latest")

    cold = skopeo.pull(reference, scratch / "cold")
    assert (cold.digest, cold.missing(layout)) == (layout.digest, [])
    assert [hub.downloads(digest) for digest in content(layout)] == [1] * len(content(layout))
    await_rest(server, image, *content(layout))
    assert spools(server) == []

    hub.log.clear()
    warm = skopeo.pull(reference, scratch / "warm")
    assert (warm.digest, warm.missing(layout)) == (layout.digest, [])
    assert blob_gets(hub) == 0

    server.restart()
    hub.refuse()
    again = skopeo.pull(reference, scratch / "again")
    assert (again.digest, again.missing(layout)) == (layout.digest, [])
    assert set(outcomes(server, image, layout).values()) == {"HIT"}

    server.stop()
    server.configure({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    server.start()
    stale = skopeo.pull(reference, scratch / "stale")
    assert (stale.digest, stale.missing(layout)) == (layout.digest, [])
    assert outcomes(server, image, layout) == dict.fromkeys(layout.blobs, "HIT") | {"latest": "STALE"}


@pytest.mark.parametrize("name", ["tiny", "multi"])
def test_podman_gets_every_byte_once_from_the_upstream_and_then_without_it(
    name: str, hub: Hub, published: Publish, gateway: GatewayFactory, podman: Podman
) -> None:
    layout = published(name)
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    reference = server.proxied(f"library/{name}:latest")
    assert_podman_pulls(podman, reference, layout)
    fetched = [digest for digest in content(layout) if hub.count("cdn", "GET", digest)]
    await_rest(server, f"library/{name}", *fetched)
    assert {hub.count("cdn", "GET", digest) for digest in fetched} == {1}

    hub.log.clear()
    assert_podman_pulls(podman, reference, layout)
    assert blob_gets(hub) == 0

    server.restart()
    hub.refuse()
    assert_podman_pulls(podman, reference, layout)

    server.stop()
    server.configure({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    server.start()
    assert_podman_pulls(podman, reference, layout)


def test_podman_pulls_300_mb(hub: Hub, published: Publish, gateway: GatewayFactory, podman: Podman) -> None:
    layout = published("big")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert_podman_pulls(podman, server.proxied("library/big:latest"), layout)
    await_rest(server, "library/big", *content(layout))
    assert spools(server) == []


def test_an_upstream_over_tls_with_an_authority_of_its_own(
    tls_hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": tls_hub.settings()}})
    assert skopeo.pull(server.proxied("library/multi:latest"), scratch / "pulled").missing(layout) == []
    assert {tls_hub.count("cdn", "GET", digest) for digest in content(layout)} == {1}


def test_a_certificate_of_an_unknown_authority_is_an_outage_and_not_a_pull(
    tls_hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": tls_hub.settings(ca_file="")}})
    answer = raw.get(server.proxied_url("library/tiny/manifests/latest"))
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    assert tls_hub.log.select() == []


@pytest.mark.parametrize("name", ["tiny", "multi", "big"])
def test_a_plain_registry_as_upstream(
    name: str,
    registry: Registry,
    published: Publish,
    gateway: GatewayFactory,
    skopeo: Skopeo,
    podman: Podman,
    scratch: Path,
) -> None:
    layout = published(name)
    server = gateway({"upstreams": {"docker.io": registry.settings()}})
    pulled = skopeo.pull(server.proxied(f"library/{name}:latest"), scratch / "pulled")
    assert (pulled.digest, pulled.missing(layout)) == (layout.digest, [])
    await_rest(server, f"library/{name}", *content(layout))
    if name != "big":
        assert_podman_pulls(podman, server.proxied(f"library/{name}:latest"), layout)
    registry.stop()
    try:
        again = skopeo.pull(server.proxied(f"library/{name}:latest"), scratch / "again")
        assert (again.digest, again.missing(layout)) == (layout.digest, [])
    finally:
        registry.start()


def test_a_private_address_is_not_reached_unless_the_settings_say_so(
    registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": registry.settings() | {"private_addresses": False}}})
    answer = raw.get(server.proxied_url("library/tiny/manifests/latest"))
    assert answer.status == 503
    assert b"private_addresses" in answer.body


def test_every_spelling_of_an_image_is_one_image(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    raw.get(server.proxied_url("library/tiny/manifests/latest"))
    for spelling in ("tiny", "library/tiny", "docker.io/tiny", "docker.io/library/tiny", "index.docker.io/tiny"):
        answer = raw.get(server.proxied_url(f"{spelling}/manifests/latest"))
        assert (answer.body, answer.headers["x-cache"]) == (layout.manifest_bytes, "HIT")


def test_skopeo_asks_for_nothing_but_what_it_was_asked_for(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    """The children of an index, and their blobs, are fetched only when a client requests them."""
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    reference = server.proxied("library/multi:latest")
    skopeo.pull(reference, scratch / "one", every_platform=False, platform=("linux", "amd64"))
    assert hub.count("hub", "GET", "/manifests/") == 2 + hub.count("hub", "GET", "/manifests/", status=401)
    assert hub.count("cdn", "GET") == 3
    assert skopeo.pull(reference, scratch / "all").missing(layout) == []
