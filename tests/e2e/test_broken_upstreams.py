"""Tests of upstreams that hang, refuse or fail: they cost little, other upstreams are not affected, and they
recover."""

import json
import socket
import time
from contextlib import ExitStack

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import MANIFEST, Images, digest_of
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.processes import HOST, wait_until
from tests.parts.registry import Registry

from .datafolder import await_rest, error_of

HIT_LATENCY = 1.0
"""Seconds: far above the latency of a hit, far below any wait for an upstream."""


def document(name: str) -> bytes:
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
    image = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    return json.dumps(image | {"annotations": {"test.name": name}}).encode()


def two_upstreams(liar: Liar, other: Liar) -> dict[str, object]:
    return {"upstreams": {"bad.example": liar.settings(), "good.example": other.settings()}}


def ask(server: Gateway, path: str) -> socket.socket:
    """Sends a request whose response nobody waits for."""
    connection = socket.create_connection((HOST, server.port), 10)
    target = server.proxied_url(path).removeprefix(server.url)
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
    return connection


def test_an_upstream_that_hangs_under_three_hundred_requests_slows_no_other(
    liar: Liar, gateway: GatewayFactory
) -> None:
    with Liar() as other, ExitStack() as open_connections:
        server = gateway(two_upstreams(liar, other))
        liar.behave("/", lies.stalled(-1))
        digest = liar.offer_blob(bytes(100_000))
        for number in range(300):
            path = f"blobs/{digest}" if number % 2 else "manifests/latest"
            open_connections.enter_context(ask(server, f"bad.example/any/name{number}/{path}"))
        wait_until(lambda: liar.requests.count() >= 50)
        for number in range(20):
            name = f"tag{number}"
            content = document(name)
            other.offer_manifest(name, MANIFEST, content)
            layer = other.offer_blob(f"layer {number}".encode() * 10_000)
            for path, body in ((f"manifests/{name}", content), (f"blobs/{layer}", other.blobs[layer])):
                answer = raw.get(server.proxied_url(f"good.example/any/name/{path}"))
                assert (answer.status, answer.body, answer.headers["x-cache"]) == (200, body, "MISS")
                assert answer.seconds < 4


def test_while_blobs_fill_slowly_small_requests_of_the_same_upstream_do_not_wait(
    liar: Liar, gateway: GatewayFactory
) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    hold = lies.stalled(40_000)
    liar.behave("/blobs/", hold, "GET")
    with ExitStack() as open_connections:
        for number in range(60):
            digest = liar.offer_blob(f"{number}".encode() * 50_000)
            open_connections.enter_context(ask(server, f"any/name/blobs/{digest}"))
        wait_until(lambda: liar.requests.count(path_contains="/blobs/") >= 30)  # the others wait for a connection
        liar.offer_manifest("latest", MANIFEST, document("latest"))
        answer = raw.get(server.proxied_url("any/name/manifests/latest"))
        assert (answer.status, answer.headers["x-cache"]) == (200, "MISS")
        assert answer.seconds < 4
        liar.honest()


@pytest.mark.parametrize("fault", ["refused", "503"])
def test_a_dead_upstream_is_refused_at_once_and_asked_again_by_itself(
    fault: str, liar: Liar, gateway: GatewayFactory, images: Images
) -> None:
    layout = liar.offer(images.tiny)
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    held = server.proxied_url("held/image/manifests/latest")
    assert raw.get(held).status == 200
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert raw.get(server.proxied_url(f"held/image/{kind}/{digest}")).status == 200
    await_rest(server, "held/image", *(digest for digest in layout.blobs if digest not in layout.manifests))
    if fault == "refused":
        liar.stop()
    else:
        liar.behave("/", lies.refused(503))
    for number in range(7):
        answer = raw.get(server.proxied_url(f"image/number{number}/manifests/latest"))
        assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "failing since" in error_of(answer)["message"]

    stale = raw.get(held)
    assert (stale.body, stale.headers["x-cache"]) == (layout.manifest_bytes, "STALE")
    assert stale.headers["warning"] and stale.seconds < HIT_LATENCY
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        answer = raw.get(server.proxied_url(f"held/image/{kind}/{digest}"))
        assert (answer.digest, answer.headers["x-cache"]) == (digest, "HIT")

    if fault == "refused":
        liar.start()
    liar.honest()
    wait_until(lambda: raw.get(held).headers["x-cache"] == "REVALIDATED", 40)


def test_while_the_circuit_is_open_only_probes_reach_the_upstream(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    liar.behave("/", lies.refused(500))
    begun, asked = time.monotonic(), 0
    while liar.requests.count() < 8:  # five requests open it; probes follow at once, after one and after two seconds
        answer = raw.get(server.proxied_url(f"image/number{asked}/manifests/latest"))
        assert answer.status == 503
        asked += 1
    assert time.monotonic() - begun > 2.5
    assert asked > 20
    assert [record.path for record in liar.requests.select()[5:]] == ["/v2/"] * 3


def test_an_image_that_fails_alone_takes_no_other_image_away(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    liar.behave("/bad/image/", lies.refused(500))
    for number in range(10):
        assert raw.get(server.proxied_url(f"bad/image/manifests/tag{number}")).status == 503
        liar.offer_manifest(f"tag{number}", MANIFEST, document(f"tag{number}"))
        assert raw.get(server.proxied_url(f"good/image/manifests/tag{number}")).status == 200


@pytest.mark.parametrize("attack", ["manifests by the digest of a layer", "pages after a name that is none"])
def test_no_request_of_a_client_takes_a_real_registry_away_from_another(
    attack: str, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    layers = {}
    for number in range(4):
        name = f"attacked/by{number}"
        layers[name] = [
            published("tiny", repository=name).layers[0],
            *(registry.put_blob(name, f"layer {number} {more}".encode()) for more in range(3)),
        ]
    server = gateway({"upstreams": {"docker.io": registry.settings()}, "cache": {"prefetch": False}})
    manifest = published("tiny", repository="victim/image").digest
    for place in range(4):
        for name, digests in layers.items():
            if attack.startswith("manifests"):
                answer = raw.get(server.proxied_url(f"{name}/manifests/{digests[place]}"))
                assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
            else:
                answer = raw.get(server.proxied_url(f"{name}/tags/list?last=%00{place}"))
                assert (answer.status, error_of(answer)["code"]) == (400, "TAG_INVALID")
            victim = registry.put_blob("victim/image", f"{attack} {place} {name}".encode())
            assert raw.get(server.proxied_url(f"victim/image/blobs/{victim}")).digest == victim
    assert raw.get(server.proxied_url("victim/image/manifests/latest")).digest == manifest


def test_many_images_that_fail_at_a_real_registry_shut_no_other_out(
    registry: Registry, gateway: GatewayFactory
) -> None:
    names = [f"many/by{number}" for number in range(12)]
    layers = {name: registry.put_blob(name, f"layer of {name}".encode()) for name in names}
    server = gateway({"upstreams": {"docker.io": registry.settings()}, "cache": {"prefetch": False}})
    for turn in range(3):
        for name, layer in layers.items():
            assert raw.get(server.proxied_url(f"{name}/manifests/{layer}")).status == 503
        victim = registry.put_blob("many/victims", f"victim {turn}".encode())
        assert raw.get(server.proxied_url(f"many/victims/blobs/{victim}")).digest == victim


def test_layers_requested_as_manifests_leave_their_image_to_others(registry: Registry, gateway: GatewayFactory) -> None:
    layers = [registry.put_blob("one/image", f"layer {number}".encode()) for number in range(4)]
    server = gateway({"upstreams": {"docker.io": registry.settings()}, "cache": {"prefetch": False}})
    for turn in range(5):
        for layer in layers:
            assert raw.get(server.proxied_url(f"one/image/manifests/{layer}")).status == 503
        victim = registry.put_blob("one/image", f"victim {turn}".encode())
        assert raw.get(server.proxied_url(f"one/image/blobs/{victim}")).digest == victim


def test_login_pages_for_blobs_of_one_image_take_no_other_image_away(liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"prefetch": False}})
    liar.behave("/bad/image/", lies.html())
    for number in range(5):
        bad = liar.offer_blob(f"bad {number}".encode() * 10_000)
        assert raw.get(server.proxied_url(f"bad/image/blobs/{bad}")).status in (502, 503)
        good = liar.offer_blob(f"good {number}".encode() * 10_000)
        assert raw.get(server.proxied_url(f"good/image/blobs/{good}")).digest == good


def test_an_upstream_that_hangs_is_waited_for_by_one_client_and_not_by_each(
    liar: Liar, gateway: GatewayFactory
) -> None:
    liar.offer_manifest("latest", MANIFEST, document("latest"))
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    url = server.proxied_url("any/name/manifests/latest")
    assert raw.get(url).status == 200
    liar.behave("/", lies.stalled(-1))
    waited = [raw.get(url) for _ in range(4)]
    assert [answer.headers["x-cache"] for answer in waited] == ["STALE"] * 4
    assert waited[0].seconds > 1.5
    assert all(answer.seconds < 1.5 for answer in waited[1:])


@pytest.mark.parametrize(
    "lie",
    [lies.redirected("http://nowhere.invalid/blob"), lies.redirected("https://127.0.0.1:9/blob"), lies.until_close(0)],
    ids=["no such name", "refused", "nothing"],
)
def test_where_a_blob_s_host_fails_manifests_still_come(lie: Lie, liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    liar.behave("/blobs/", lie, "GET")
    for number in range(5):
        digest = liar.offer_blob(f"blob {number}".encode() * 10_000)
        answer = raw.get(server.proxied_url(f"any/name/blobs/{digest}"))
        # a wrong body may be detected before the head is sent
        assert not answer.complete or answer.status in (502, 503)
        liar.offer_manifest(f"tag{number}", MANIFEST, document(f"tag{number}"))
        assert raw.get(server.proxied_url(f"any/name/manifests/tag{number}")).status == 200


def test_a_certificate_that_nobody_vouches_for_is_an_outage(tls_liar: Liar, gateway: GatewayFactory) -> None:
    server = gateway({"upstreams": {"docker.io": {"url": tls_liar.url, "private_addresses": True}}})
    answer = raw.get(server.proxied_url("any/name/manifests/latest"))
    assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
    assert "certificate" in error_of(answer)["message"]
    assert answer.headers["retry-after"]


def test_a_token_that_ends_between_two_requests_is_renewed_without_anybody_noticing(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny")
    hub.tokens.lifetime = 1
    # Prefetched content would be requested in the moment between a token and its end.
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"prefetch": False}})
    for digest in layout.blobs:
        hub.tokens.revoke_all()
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert raw.get(server.proxied_url(f"library/tiny/{kind}/{digest}")).digest == digest
