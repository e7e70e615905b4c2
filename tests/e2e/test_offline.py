"""Tests of a dead upstream: an image that was pulled in any manner is available in every manner."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout
from tests.parts.liar import Liar
from tests.parts.lies import stalled
from tests.parts.processes import wait_until
from tests.parts.raw import RawResponse

from .datafolder import await_rest, error_of


def get(server: Gateway, path: str) -> RawResponse:
    return raw.get(server.proxied_url(f"library/multi/{path}"))


def head(server: Gateway, path: str) -> RawResponse:
    return raw.head(server.proxied_url(f"library/multi/{path}"))


def pull_as_docker(server: Gateway, layout: ImageLayout) -> None:
    """Pulls as docker and containerd do: HEAD by tag, GET by digest, then the blobs; never GET by tag."""
    assert head(server, "manifests/latest").headers["docker-content-digest"] == layout.digest
    pull_by_digest(server, layout)


def pull_as_skopeo(server: Gateway, layout: ImageLayout) -> None:
    """Pulls as skopeo does: GET by tag, then the rest; never HEAD."""
    assert get(server, "manifests/latest").body == layout.manifest_bytes
    pull_by_digest(server, layout)


def pull_by_digest(server: Gateway, layout: ImageLayout) -> None:
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert get(server, f"{kind}/{digest}").body == layout.read(digest)
    await_rest(server, "library/multi", *(digest for digest in layout.blobs if digest not in layout.manifests))


def assert_all_is_there(server: Gateway, layout: ImageLayout, outcome: str) -> None:
    """Asserts that tags have `outcome` and digests HIT, and that HEAD and GET return the same headers."""
    for digest in layout.blobs:
        kind = "manifests" if digest in layout.manifests else "blobs"
        assert_same(head(server, f"{kind}/{digest}"), get(server, f"{kind}/{digest}"), layout.read(digest), "HIT")
    by_tag = get(server, "manifests/latest")
    assert_same(head(server, "manifests/latest"), by_tag, layout.manifest_bytes, outcome)
    assert by_tag.headers["content-type"] == layout.media_type
    assert by_tag.headers["docker-content-digest"] == layout.digest


def assert_same(short: RawResponse, long: RawResponse, body: bytes, outcome: str) -> None:
    assert (long.status, long.complete, long.body) == (200, True, body)
    assert (short.status, short.complete) == (200, True)
    for name in ("content-type", "content-length", "docker-content-digest", "docker-distribution-api-version", "etag"):
        assert short.headers[name] == long.headers[name]
    for answer in (short, long):
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["x-cache"] == outcome
        assert ("age" in answer.headers) == (outcome == "STALE")
        assert (answer.headers.get("warning") or "").startswith("299 - " if outcome == "STALE" else "")
    if outcome != "STALE":
        assert "warning" not in long.headers


@pytest.mark.parametrize("pull", [pull_as_docker, pull_as_skopeo])
def test_an_image_pulled_in_one_manner_is_there_in_every_manner(
    pull: Callable[[Gateway, ImageLayout], None],
    hub: Hub,
    published: Publish,
    gateway: GatewayFactory,
    skopeo: Skopeo,
    scratch: Path,
) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    pull(server, layout)
    hub.refuse()
    assert_all_is_there(server, layout, "HIT")
    assert skopeo.pull(server.proxied("library/multi:latest"), scratch / "fresh").missing(layout) == []

    server.stop()
    server.configure({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    server.start()
    assert_all_is_there(server, layout, "STALE")
    assert skopeo.pull(server.proxied("library/multi:latest"), scratch / "stale").missing(layout) == []

    hub.accept()
    wait_until(lambda: get(server, "manifests/latest").headers["x-cache"] == "REVALIDATED")


def test_age_counts_the_seconds_since_the_upstream_last_confirmed(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "1s"}})
    get(server, "manifests/latest")
    hub.refuse()
    while (answer := get(server, "manifests/latest")).headers["x-cache"] == "HIT":
        pass
    assert answer.headers["x-cache"] == "STALE"
    assert 1 <= int(answer.headers["age"]) <= 5


@pytest.mark.parametrize("dead", [("hub",), ("token",), ("hub", "token", "cdn")])
def test_whatever_part_of_the_upstream_is_dead_the_tag_is_served_stale(
    dead: tuple[str, ...], hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    pull_as_skopeo(server, layout)
    hub.tokens.revoke_all()
    hub.refuse(*dead)
    assert_all_is_there(server, layout, "STALE")


def test_after_the_grace_a_tag_is_not_served_any_more_and_its_digest_is(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s", "grace": "0s"}})
    pull_as_skopeo(server, layout)
    hub.refuse()
    answer = get(server, "manifests/latest")
    assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
    assert get(server, f"manifests/{layout.digest}").body == layout.manifest_bytes


def test_a_head_alone_promises_nothing_that_is_not_here(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert head(server, "manifests/latest").headers["docker-content-digest"] == layout.digest
    hub.refuse()
    assert head(server, "manifests/latest").headers["x-cache"] == "HIT"
    assert get(server, "manifests/latest").status == 503
    assert get(server, f"manifests/{layout.digest}").status == 503


def test_without_anything_cached_an_outage_is_a_503_with_retry_after(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    hub.refuse()
    paths = ["manifests/latest", f"manifests/{layout.digest}", f"blobs/{layout.layers[0]}", "tags/list"]
    for path in [*paths, f"referrers/{layout.digest}"]:
        answer = get(server, path)
        assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
    for path in paths[:3]:
        assert head(server, path).status == 503


def test_an_upstream_that_answers_late_is_not_waited_for(
    liar: Liar, published: Publish, gateway: GatewayFactory
) -> None:
    """The response is stale after 2 s; the revalidation continues, and its result counts when it arrives."""
    layout = liar.offer(published("multi"))
    server = gateway({"upstreams": {"docker.io": liar.settings()}, "cache": {"ttl": "0s"}})
    pull_as_skopeo(server, layout)
    lie = liar.behave("/manifests/latest", stalled(-1))
    answer = get(server, "manifests/latest")
    assert (answer.body, answer.headers["x-cache"]) == (layout.manifest_bytes, "STALE")
    assert 1.5 < answer.seconds < 4
    assert lie.hold is not None
    lie.hold.release()
    liar.honest()
    wait_until(lambda: get(server, "manifests/latest").headers["x-cache"] == "REVALIDATED")
