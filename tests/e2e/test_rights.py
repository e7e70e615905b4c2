"""Tests of rights: bytes are shared between images; the right to them, and a failure, never is."""

from collections.abc import Iterator

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie, refused, stalled
from tests.parts.raw import RawResponse
from tests.parts.registry import Registry

from .crowd import at_once
from .datafolder import await_rest, error_of, holds

OTHER = "other.example"


@pytest.fixture
def both(liar: Liar, hub: Hub, gateway: GatewayFactory) -> Gateway:
    """Starts a server with two upstreams, the Hub and a registry of another origin, without prefetching."""
    upstreams = {"docker.io": hub.settings(), OTHER: liar.settings()}
    return gateway({"upstreams": upstreams, "cache": {"prefetch": False}})


def get(server: Gateway, path: str) -> RawResponse:
    return raw.get(server.proxied_url(path))


def head(server: Gateway, path: str) -> RawResponse:
    return raw.head(server.proxied_url(path))


def test_another_image_of_the_origin_wins_its_right_by_one_head(hub: Hub, published: Publish, both: Gateway) -> None:
    layout = published("tiny", repository="rights/first")
    published("tiny", repository="rights/second")
    layer = layout.layers[1]
    assert get(both, f"rights/first/blobs/{layer}").headers["x-cache"] == "MISS"
    await_rest(both, "rights/first", layer)
    hub.log.clear()
    answer = get(both, f"rights/second/blobs/{layer}")
    assert (answer.digest, answer.headers["x-cache"]) == (layer, "MISS")
    assert hub.count("hub", "HEAD", f"rights/second/blobs/{layer}", status=307) == 1
    assert hub.count("hub", "GET", "/blobs/") + hub.count("cdn", "GET") == 0
    hub.log.clear()
    assert get(both, f"rights/second/blobs/{layer}").headers["x-cache"] == "HIT"
    assert hub.log.select() == []


def test_a_head_wins_no_right(hub: Hub, published: Publish, both: Gateway) -> None:
    """Otherwise the next GET would tell whether another image has the blob."""
    layout = published("tiny", repository="rights/first")
    published("tiny", repository="rights/second")
    layer = layout.layers[1]
    get(both, f"rights/first/blobs/{layer}")
    await_rest(both, "rights/first", layer)
    for _ in range(2):
        assert head(both, f"rights/second/blobs/{layer}").headers["x-cache"] == "MISS"
    hub.refuse()
    assert get(both, f"rights/second/blobs/{layer}").status == 503


def test_a_manifest_by_digest_is_won_in_the_same_way(hub: Hub, published: Publish, both: Gateway) -> None:
    layout = published("tiny", repository="rights/first")
    published("tiny", repository="rights/second")
    get(both, "rights/first/manifests/latest")
    hub.log.clear()
    answer = get(both, f"rights/second/manifests/{layout.digest}")
    assert (answer.digest, answer.headers["x-cache"]) == (layout.digest, "MISS")
    assert hub.count("hub", "GET", "/manifests/") == 0
    assert hub.count("hub", "HEAD", "rights/second/manifests/", status=200) == 1


def test_an_image_that_the_upstream_does_not_show_is_unknown_though_its_bytes_are_here(
    hub: Hub, published: Publish, both: Gateway
) -> None:
    layout = published("tiny", repository="rights/first")
    published("multi", repository="rights/without")
    published("tiny", repository="rights/private")
    hub.private.add("rights/private")
    layer = layout.layers[1]
    get(both, "rights/first/manifests/latest")
    get(both, f"rights/first/blobs/{layer}")
    await_rest(both, "rights/first", layer)
    for image in ("rights/without", "rights/private", "rights/never"):
        for path, code in {
            f"blobs/{layer}": "BLOB_UNKNOWN",
            f"manifests/{layout.digest}": "MANIFEST_UNKNOWN",
        }.items():
            if image == "rights/without" and "manifests" in path:
                continue  # the registry behind the Hub serves every manifest it has to clients that know the digest
            answer = get(both, f"{image}/{path}")
            assert (answer.status, error_of(answer)["code"]) == (404, code)
            assert head(both, f"{image}/{path}").status == 404
    hub.refuse()
    answer = get(both, f"rights/without/blobs/{layer}")
    assert (answer.status, error_of(answer)["code"]) == (503, "UNAVAILABLE")


def test_the_same_digest_of_another_origin_is_downloaded_and_verified_again(
    hub: Hub, liar: Liar, published: Publish, both: Gateway
) -> None:
    layout = liar.offer(published("tiny", repository="rights/first"))
    layer = layout.layers[1]
    get(both, "rights/first/manifests/latest")
    get(both, f"rights/first/blobs/{layer}")
    await_rest(both, "rights/first", layer)
    for path in (f"manifests/{layout.digest}", f"blobs/{layer}"):
        answer = get(both, f"{OTHER}/any/name/{path}")
        assert (answer.body, answer.headers["x-cache"]) == (layout.read(path.partition("/")[2]), "MISS")
        assert liar.requests.count("liar", "GET", path) == 1
    await_rest(both, f"{OTHER}/any/name", layer)
    assert holds(both, layer)


def test_wrong_bytes_of_another_origin_do_not_touch_what_is_here(
    hub: Hub, liar: Liar, published: Publish, both: Gateway
) -> None:
    layout = liar.offer(published("tiny", repository="rights/first"))
    layer = layout.layers[1]
    get(both, f"rights/first/blobs/{layer}")
    await_rest(both, "rights/first", layer)
    liar.behave(layer, Lie(flip=-1), "GET")
    wrong = get(both, f"{OTHER}/any/name/blobs/{layer}")
    assert wrong.status == 502 or not wrong.complete  # the verdict may come before the headers were sent
    liar.behave(layer, refused(404), "GET")
    assert get(both, f"{OTHER}/any/name/blobs/{layer}").status == 404
    again = get(both, f"rights/first/blobs/{layer}")
    assert (again.digest, again.headers["x-cache"]) == (layer, "HIT")


@pytest.fixture
def held(hub: Hub, registry: Registry, published: Publish, both: Gateway) -> Iterator[tuple[str, bytes, raw.RawStream]]:
    """A blob that is arriving for rights/first, and its first reader; rights/second has the blob too."""
    published("tiny", repository="rights/first")
    published("tiny", repository="rights/second")
    published("multi", repository="rights/without")
    content = seeded("rights held", 2_000_000)
    digest = registry.put_blob("rights/first", content)
    registry.put_blob("rights/second", content)
    hub.hold(digest, after=500_000)
    with raw.open_stream("GET", both.proxied_url(f"rights/first/blobs/{digest}")) as stream:
        stream.read(100_000)
        hub.log.clear()
        yield digest, content, stream


def test_a_running_download_is_joined_by_an_image_that_has_asked_for_itself(
    hub: Hub, both: Gateway, held: tuple[str, bytes, raw.RawStream]
) -> None:
    digest, content, first = held
    with raw.open_stream("GET", both.proxied_url(f"rights/second/blobs/{digest}")) as second:
        assert second.headers["x-cache"] == "MISS"
        assert second.read(100_000) == content[:100_000]
        assert hub.count("hub", "HEAD", f"rights/second/blobs/{digest}", status=307) == 1
        hub.cdn.release()
        assert content[:100_000] + second.read_all() == content
    assert content[:100_000] + first.read_all() == content
    assert hub.count("hub", "GET", "/blobs/") == 0
    await_rest(both, "rights/first", digest)
    await_rest(both, "rights/second", digest)
    hub.refuse()
    assert get(both, f"rights/second/blobs/{digest}").headers["x-cache"] == "HIT"


def test_a_running_download_is_not_joined_by_an_image_that_may_not(
    hub: Hub, both: Gateway, held: tuple[str, bytes, raw.RawStream]
) -> None:
    digest, content, first = held
    answers = at_once(4, lambda _: get(both, f"rights/without/blobs/{digest}"))
    assert [(answer.status, error_of(answer)["code"]) for answer in answers] == [(404, "BLOB_UNKNOWN")] * 4
    hub.cdn.release()
    assert content[:100_000] + first.read_all() == content


def test_a_refusal_ends_only_those_of_the_image_that_was_refused(liar: Liar, both: Gateway) -> None:
    """The fetch begins for one image; when that is refused, it begins again for another that has waited for it."""
    content = seeded("refused", 100_000)
    digest = liar.offer_blob(content)
    late = liar.behave(f"/bad/name/blobs/{digest}", Lie(status=404, body=b"", hold=stalled(-1).hold), "GET")
    assert late.hold is not None

    def ask(number: int) -> RawResponse:
        if number == 0:
            return get(both, f"{OTHER}/bad/name/blobs/{digest}")
        assert late.hold is not None
        assert late.hold.reached.wait(30)
        if number == 1:
            liar.requests.wait_for(3, "liar", "HEAD", digest)
            late.hold.release()
            return get(both, f"{OTHER}/good/name/blobs/{digest}")
        return get(both, f"{OTHER}/good{number}/name/blobs/{digest}")

    bad, *good = at_once(5, ask)
    assert (bad.status, error_of(bad)["code"]) == (404, "BLOB_UNKNOWN")
    assert [answer.body for answer in good] == [content] * 4
    assert liar.requests.count("liar", "GET", digest) == 2
