"""Tests of what an upstream or a client must not make the read path do."""

import gzip
import json
from collections.abc import Callable

import pytest

from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import CONFIG, LAYER, MANIFEST, Images, digest_of
from tests.parts.liar import Liar
from tests.parts.lies import answered
from tests.parts.processes import wait_until

ACCEPT = [("Accept", MANIFEST)]


def test_addresses_in_a_manifest_are_not_visited(
    gateway: Callable[..., Gateway], liar: Liar, canary: Liar, images: Images
) -> None:
    """No address in a manifest is visited: the fixture `canary` fails when a connection to it is made."""
    layer, config = liar.offer_blob(b"layer"), liar.offer_blob(b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": 2, "urls": [f"{canary.url}/config"]},
        "layers": [{"mediaType": LAYER, "digest": layer, "size": 5, "urls": [f"{canary.url}/layer"]}],
    }
    content = json.dumps(document).encode()
    liar.offer_manifest("latest", MANIFEST, content)
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    answer = raw.get(server.proxied_url("library/foreign/manifests/latest"), ACCEPT)
    assert answer.body == content
    for digest in (layer, config):
        assert raw.get(server.proxied_url(f"library/foreign/blobs/{digest}")).complete
    server.cli("cache", "explain", "foreign")
    assert canary.connections == 0


@pytest.mark.parametrize("how", ["registry", "tokens"])
def test_a_right_is_not_won_while_the_upstream_cannot_be_asked(
    gateway: Callable[..., Gateway], hub: Hub, published: Callable[..., str], images: Images, how: str
) -> None:
    published("tiny", repository="acme/one")
    published("tiny", repository="acme/two")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    digest = images.tiny.layers[0]
    assert raw.get(server.proxied_url(f"acme/one/blobs/{digest}")).digest == digest
    wait_until(lambda: raw.head(server.proxied_url(f"acme/one/blobs/{digest}")).headers["x-cache"] == "HIT")
    if how == "tokens":
        hub.tokens.down = True
    else:
        hub.down = True
    for ask in (raw.get, raw.head):
        answer = ask(server.proxied_url(f"acme/two/blobs/{digest}"))
        assert answer.status == 503
        assert len(answer.body) < 1000
    assert raw.get(server.proxied_url(f"acme/one/blobs/{digest}")).headers["x-cache"] == "HIT"


def test_what_is_here_and_what_is_not_are_refused_in_the_same_words(
    gateway: Callable[..., Gateway], hub: Hub, published: Callable[..., str], images: Images
) -> None:
    published("tiny", repository="acme/shown")
    published("tiny", repository="acme/hidden")
    hub.private = {"acme/hidden"}
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    here, nowhere = images.tiny.layers[0], digest_of(b"nobody has this")
    assert raw.get(server.proxied_url(f"acme/shown/blobs/{here}")).complete
    wait_until(lambda: raw.head(server.proxied_url(f"acme/shown/blobs/{here}")).headers["x-cache"] == "HIT")

    def refusals(digest: str) -> list[tuple[int, bytes, list[str]]]:
        found = []
        for kind in ("blobs", "manifests"):
            for name in ("acme/hidden", "acme/absent"):
                for ask in (raw.get, raw.head):
                    answer = ask(server.proxied_url(f"{name}/{kind}/{digest}"), ACCEPT)
                    found.append((answer.status, answer.body, sorted(name for name, _ in answer.headers.lines)))
        return found

    assert refusals(here) == refusals(nowhere)


def test_nothing_is_unpacked_beyond_the_size_of_a_document(gateway: Callable[..., Gateway], liar: Liar) -> None:
    """A body of 100 MB of zeros, compressed a thousand to one, is refused as a manifest after its first 4 MiB."""
    bomb = gzip.compress(bytes(100_000_000), mtime=0)
    packed = answered(200, bomb, content_type=MANIFEST, content_encoding="gzip")
    liar.behave("/manifests/", packed)
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    answer = raw.get(server.proxied_url("library/bomb/manifests/latest"), ACCEPT)
    assert answer.status == 502
    assert "more than" in answer.body.decode()
    assert not list((server.data / "quarantine").glob("*"))
