"""Tests of ranges: of cached blobs and of blobs that are still growing."""

from collections.abc import Iterator

import pytest

from tests.conftest import Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import seeded
from tests.parts.raw import RawResponse
from tests.parts.registry import Registry

from .conftest import LongLived
from .crowd import at_once
from .datafolder import await_rest, error_of, trouble

SIZE = 3_000_000
HELD_AT = 1_000_000
TAIL = 32 * 1024
IMAGE = "library/tiny"


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub, published: Publish) -> Gateway:
    published("tiny")
    return long_lived({"upstreams": {"docker.io": plain_hub_servers.settings()}})


@pytest.fixture(scope="module")
def cached(server: Gateway, registry: Registry) -> tuple[str, bytes]:
    """URL and bytes of a cached blob."""
    content = seeded("ranges cached", SIZE)
    digest = registry.put_blob(IMAGE, content)
    url = server.proxied_url(f"{IMAGE}/blobs/{digest}")
    assert raw.get(url).body == content
    await_rest(server, IMAGE, digest)
    return url, content


@pytest.fixture
def growing(
    server: Gateway, registry: Registry, hub: Hub, request: pytest.FixtureRequest
) -> Iterator[tuple[str, bytes]]:
    """URL and bytes of a blob that no client has requested, and of which HELD_AT bytes will arrive."""
    content = seeded(request.node.nodeid, SIZE)
    digest = registry.put_blob(IMAGE, content)
    hub.hold(digest, after=HELD_AT)
    yield server.proxied_url(f"{IMAGE}/blobs/{digest}"), content
    assert hub.count("cdn", "GET", digest) == 1
    assert all(record.header("range") is None for record in hub.log.select("cdn"))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=100-", 100, SIZE),
        ("bytes=1000000-1999999", 1_000_000, 2_000_000),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        (f"bytes={SIZE - 10}-{SIZE + 10}", SIZE - 10, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        ("bytes=-500000", SIZE - 500_000, SIZE),
        (f"bytes=-{SIZE + 5}", 0, SIZE),
    ],
)
def test_a_part_of_a_cached_blob(asked: str, start: int, stop: int, cached: tuple[str, bytes]) -> None:
    url, content = cached
    answer = raw.get(url, {"Range": asked})
    assert_part(answer, content, start, stop)
    assert answer.headers["x-cache"] == "HIT"


def assert_part(answer: RawResponse, content: bytes, start: int, stop: int) -> None:
    assert (answer.status, answer.complete) == (206, True)
    assert answer.body == content[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(content)}"
    assert answer.headers["content-length"] == str(stop - start)
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "bytes=5-1", "bytes=a-b", "lines=1-2", "bytes=-", "0-5"])
def test_what_is_no_single_range_is_answered_with_the_whole(asked: str, cached: tuple[str, bytes]) -> None:
    url, content = cached
    answer = raw.get(url, {"Range": asked})
    assert (answer.status, answer.body) == (200, content)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 1}-{SIZE + 2}", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(asked: str, cached: tuple[str, bytes]) -> None:
    url, content = cached
    answer = raw.get(url, {"Range": asked})
    assert (answer.status, error_of(answer)["code"]) == (416, "RANGE_INVALID")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


def test_if_range_gives_the_part_of_the_same_blob_and_the_whole_of_another(cached: tuple[str, bytes]) -> None:
    url, content = cached
    etag = raw.head(url).headers["etag"]
    assert_part(raw.get(url, {"Range": "bytes=10-19", "If-Range": etag}), content, 10, 20)
    for other in ('"sha256:0"', f"W/{etag}", "Mon, 23 Nov 2026 10:00:00 GMT"):
        assert raw.get(url, {"Range": "bytes=10-19", "If-Range": other}).status == 200


def test_a_client_that_has_the_blob_is_told_so(cached: tuple[str, bytes]) -> None:
    url, _ = cached
    answer = raw.get(url, {"If-None-Match": raw.head(url).headers["etag"]})
    assert (answer.status, answer.body, answer.headers["x-cache"]) == (304, b"", "HIT")


def test_a_range_of_a_growing_blob_comes_as_far_as_the_blob_has_come(growing: tuple[str, bytes], hub: Hub) -> None:
    url, content = growing
    with raw.open_stream("GET", url, {"Range": "bytes=100000-799999"}) as stream:
        assert (stream.status, stream.headers["content-range"]) == (206, f"bytes 100000-799999/{SIZE}")
        begun = stream.read(700_000 - TAIL)
        hub.cdn.release()
        assert begun + stream.read_all() == content[100_000:800_000]
        assert stream.complete


@pytest.mark.parametrize(("asked", "start"), [("bytes=2500000-", 2_500_000), ("bytes=-10", SIZE - 10), ("bytes=0-", 0)])
def test_the_headers_of_a_range_do_not_wait_for_its_bytes(
    asked: str, start: int, growing: tuple[str, bytes], hub: Hub
) -> None:
    url, content = growing
    with raw.open_stream("GET", url, {"Range": asked}) as stream:
        assert (stream.status, stream.headers["content-length"]) == (206, str(SIZE - start))
        hub.cdn.release()
        assert (stream.read_all(), stream.complete) == (content[start:], True)


def test_parallel_ranges_that_hang_up_early_make_one_whole_blob(
    growing: tuple[str, bytes], hub: Hub, server: Gateway
) -> None:
    """containerd 2.1 pulls by open-ended ranges, and leaves each when it reaches the beginning of the next one."""
    url, content = growing
    step = SIZE // 6

    def part(number: int) -> bytes:
        with raw.open_stream("GET", url, {"Range": f"bytes={number * step}-"}) as stream:
            if number == 5:
                hub.cdn.release()
            taken = stream.read(step)
            stream.abort()
            return taken

    assert b"".join(at_once(6, part)) == content
    digest = url.rpartition("/")[2]
    await_rest(server, IMAGE, digest)
    assert trouble(server) == []
