"""Tests of prefetching with real clients: each digest is fetched once, and only for the client that pulls."""

from pathlib import Path

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.hub import Hub

from .crowd import at_once
from .datafolder import await_rest, spools


def test_a_pull_costs_one_fetch_of_each_digest(
    hub: Hub, published: Publish, gateway: GatewayFactory, skopeo: Skopeo, scratch: Path
) -> None:
    layout = published("mid")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert skopeo.pull(server.proxied("library/mid:latest"), scratch / "mid").missing(layout) == []
    for digest in layout.blobs:
        if digest not in layout.manifests:
            assert hub.downloads(digest) == 1


def test_a_manifest_alone_brings_its_blobs_and_a_crowd_joins_them(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("mid")
    layer = max(layout.layers, key=lambda digest: layout.blobs[digest].stat().st_size)
    hold = hub.hold(layer)
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert raw.get(server.proxied_url("library/mid/manifests/latest")).headers["x-cache"] == "MISS"
    assert hold.reached.wait(30)
    streams = at_once(8, lambda _: raw.open_stream("GET", server.proxied_url(f"library/mid/blobs/{layer}")))
    outcomes = sorted(stream.headers["x-cache"] for stream in streams)
    assert outcomes == ["COALESCED"] * 7 + ["MISS"]
    hold.release()
    for stream in streams:
        assert stream.drain() == layer
        stream.close()
    await_rest(server, "library/mid", layer)
    assert hub.downloads(layer) == 1


def test_an_index_a_head_and_a_switch_that_is_off_start_nothing(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert raw.get(server.proxied_url("library/multi/manifests/latest")).status == 200
    assert raw.head(server.proxied_url("library/tiny/manifests/latest")).status == 200
    off = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"prefetch": False}}, name="off")
    assert raw.get(off.proxied_url("library/tiny/manifests/latest")).status == 200
    for one in (server, off):
        assert raw.get(f"{one.url}/-/ready").status == 200  # everything that was to start has started
        assert spools(one) == []
    assert hub.count("cdn") == 0
