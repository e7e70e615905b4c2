"""Tests of one download with many readers: joining, leaving, and the requests that the upstream receives."""

import re
from contextlib import ExitStack
from signal import SIGTERM

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.holds import Hold
from tests.parts.hub import Hub
from tests.parts.images import digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie, chunked, stalled
from tests.parts.processes import wait_until
from tests.parts.registry import Registry

from .conftest import LongLived
from .crowd import at_once
from .datafolder import await_rest, blob_file, holds, spools

CROWD = 16
TAIL = 32 * 1024


def offer(registry: Registry, published: Publish, seed: str, size: int) -> tuple[str, bytes]:
    """Publishes a blob of library/tiny that no manifest lists; returns its digest and bytes."""
    published("tiny")
    content = seeded(f"coalescing {seed}", size)
    return registry.put_blob("library/tiny", content), content


def blob_url(server: Gateway, digest: str, image: str = "library/tiny") -> str:
    return server.proxied_url(f"{image}/blobs/{digest}")


def await_departures(server: Gateway, digest: str, count: int) -> None:
    """Waits until the server has seen `count` clients of a blob leave in the middle."""
    line = re.compile(rf"(?=.* complete=False).*{digest}.*")
    wait_until(lambda: len(line.findall(server.log_text())) >= count, what=f"{count} clients of {digest} have not left")


@pytest.fixture(scope="module")
def server(long_lived: LongLived, plain_hub_servers: Hub, tls_hub_servers: Hub) -> Gateway:
    hubs = {"docker.io": plain_hub_servers.settings(), "tls.example": tls_hub_servers.settings()}
    return long_lived({"upstreams": hubs})


@pytest.fixture(params=["library/tiny", "tls.example/library/tiny"], ids=["http", "https"])
def image(request: pytest.FixtureRequest) -> str:
    """Name of the same image by way of the Hub over http and over https."""
    return str(request.param)


@pytest.fixture
def any_hub(image: str, request: pytest.FixtureRequest) -> Hub:
    hub: Hub = request.getfixturevalue("tls_hub" if image.startswith("tls") else "hub")
    return hub


def test_sixteen_clients_of_a_cold_blob_cost_one_download_and_read_while_it_runs(
    any_hub: Hub, image: str, registry: Registry, published: Publish, server: Gateway
) -> None:
    hub, held_at = any_hub, 4_000_000
    digest, content = offer(registry, published, f"sixteen {image}", 12_000_000)
    hold = hub.hold(digest, after=held_at)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(s)
            for s in at_once(CROWD, lambda _: raw.open_stream("GET", blob_url(server, digest, image)))
        ]
        beginnings = at_once(CROWD, lambda n: streams[n].read(held_at // 2))
        assert not hold.released
        assert set(beginnings) == {content[: held_at // 2]}
        hold.release()
        rests = at_once(CROWD, lambda n: digest_of(beginnings[n] + streams[n].read_all()))
    assert rests == [digest] * CROWD
    assert all(stream.complete for stream in streams)
    assert sorted(stream.headers["x-cache"] for stream in streams) == ["COALESCED"] * (CROWD - 1) + ["MISS"]
    assert hub.count("cdn", "GET", digest) == 1
    assert hub.count("hub", "GET", digest, status=307) == 1
    assert hub.count("token") == 1
    await_rest(server, image, digest)
    assert spools(server) == []
    assert raw.get(blob_url(server, digest, image)).headers["x-cache"] == "HIT"


def test_sixteen_clients_of_sixteen_blobs_need_one_token(
    hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    blobs = [offer(registry, published, f"token {number}", 1_000)[0] for number in range(CROWD)]
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    answers = at_once(CROWD, lambda number: raw.get(blob_url(server, blobs[number])))
    assert [answer.digest for answer in answers] == blobs
    assert hub.count("token") == 1


def test_sixteen_clients_of_a_cold_tag_cost_one_manifest_get(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    layout = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    url = server.proxied_url("library/tiny/manifests/latest")
    answers = at_once(CROWD, lambda _: raw.get(url))
    assert {answer.body for answer in answers} == {layout.manifest_bytes}
    assert hub.count("hub", "GET", "/manifests/", status=200) == 1
    assert hub.count("token") == 1
    assert {answer.headers["x-cache"] for answer in answers} <= {"MISS", "COALESCED", "HIT"}
    assert [answer.headers["x-cache"] for answer in answers].count("MISS") == 1


def test_a_lone_client_reads_while_the_download_runs_but_for_the_tail(
    hub: Hub, registry: Registry, published: Publish, server: Gateway
) -> None:
    digest, content = offer(registry, published, "lone", 200_000)
    hold = hub.hold(digest, after=len(content) - 1)
    with raw.open_stream("GET", blob_url(server, digest)) as stream:
        assert stream.headers["content-length"] == str(len(content))
        begun = stream.read(len(content) - TAIL)
        assert not hold.released
        assert not holds(server, digest)
        hold.release()
        assert begun + stream.read_all() == content


def test_a_blob_without_a_length_is_shared_as_well(liar: Liar, gateway: GatewayFactory) -> None:
    content = seeded("no length", 2_000_000)
    digest, lie = liar.offer_blob(content), Lie(framing=chunked().framing, hold=Hold(1_000_000))
    liar.behave(digest, lie, "GET")
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    with ExitStack() as stack:
        streams = [
            stack.enter_context(s) for s in at_once(4, lambda _: raw.open_stream("GET", blob_url(server, digest)))
        ]
        begun = [stream.read(500_000) for stream in streams]
        assert lie.hold is not None
        lie.hold.release()
        assert [begun[number] + stream.read_all() for number, stream in enumerate(streams)] == [content] * 4
    assert all(stream.complete for stream in streams)
    assert liar.requests.count("liar", "GET", digest) == 1


def test_the_first_client_leaving_does_not_stop_the_others(
    any_hub: Hub, image: str, registry: Registry, published: Publish, server: Gateway
) -> None:
    hub = any_hub
    digest, content = offer(registry, published, f"leaving {image}", 3_000_000)
    hold = hub.hold(digest, after=1_000_000)
    first = raw.open_stream("GET", blob_url(server, digest, image))
    assert first.headers["x-cache"] == "MISS"
    with ExitStack() as stack:
        others = [stack.enter_context(raw.open_stream("GET", blob_url(server, digest, image))) for _ in range(3)]
        assert first.read(100_000) == content[:100_000]
        first.abort()
        await_departures(server, digest, 1)
        hold.release()
        assert [stream.read_all() for stream in others] == [content] * 3
    assert hub.count("cdn", "GET", digest) == 1
    await_rest(server, image, digest)


def test_a_slow_client_does_not_hold_the_others_up(
    hub: Hub, registry: Registry, published: Publish, server: Gateway
) -> None:
    digest, content = offer(registry, published, "slow", 30_000_000)
    with raw.open_stream("GET", blob_url(server, digest)) as slow:
        assert raw.get(blob_url(server, digest)).digest == digest
        await_rest(server, "library/tiny", digest)
        assert slow.received < len(content)
        assert slow.drain() == digest
        assert slow.complete


def test_what_is_small_or_well_begun_is_finished_without_readers_and_the_rest_is_given_up(
    hub: Hub, registry: Registry, published: Publish, server: Gateway
) -> None:
    published("big")
    well_begun, early, *_ = published("big").layers
    small, _ = offer(registry, published, "small", 1_000_000)
    held_at = {small: 200_000, well_begun: 25_000_000, early: 10_000_000}
    for digest, after in held_at.items():
        hub.hold(digest, after)
    # The early reader leaves last: when it ends, the time limit of the two others has passed as well.
    for digest, after in held_at.items():
        image = "library/tiny" if digest == small else "library/big"
        with raw.open_stream("GET", blob_url(server, digest, image)) as stream:
            stream.read(after - TAIL)
            stream.abort()
        await_departures(server, digest, 1)
    [record] = hub.log.select("cdn", "GET", early)
    wait_until(lambda: record.aborted)
    wait_until(lambda: len(spools(server)) == 2)
    assert not any(early.partition(":")[2] in name for name in spools(server))
    hub.cdn.release()
    await_rest(server, "library/big", well_begun)
    await_rest(server, "library/tiny", small)
    assert not holds(server, early)
    wait_until(lambda: spools(server) == [])
    with raw.open_stream("GET", blob_url(server, early, "library/big")) as stream:
        assert (stream.headers["x-cache"], stream.drain()) == ("MISS", early)


def test_a_client_that_comes_in_time_keeps_a_deserted_download_alive(
    hub: Hub, published: Publish, server: Gateway
) -> None:
    digest = published("big").layers[2]
    hub.hold(digest, after=2_000_000)
    with raw.open_stream("GET", blob_url(server, digest, "library/big")) as stream:
        stream.read(1_000_000)
        stream.abort()
    await_departures(server, digest, 1)
    with raw.open_stream("GET", blob_url(server, digest, "library/big")) as stream:
        assert stream.headers["x-cache"] == "COALESCED"
        hub.cdn.release()
        assert stream.drain() == digest
    assert hub.downloads(digest) == 1


def test_a_client_that_leaves_before_the_upstream_answers_leaves_nothing_behind(
    liar: Liar, gateway: GatewayFactory
) -> None:
    digest = liar.offer_blob(seeded("unanswered", 100_000))
    lie = liar.behave(digest, stalled(-1), "GET")
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    with pytest.raises(TimeoutError):
        raw.open_stream("GET", blob_url(server, digest), timeout=0.5)
    assert lie.hold is not None
    lie.hold.release()
    wait_until(lambda: spools(server) == [])
    assert raw.get(blob_url(server, digest)).digest == digest


def test_a_server_that_is_killed_in_mid_blob_goes_on_where_it_was(
    hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    digest, content = offer(registry, published, "killed", 1_000_000)
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    hub.hold(digest, after=500_000)
    with raw.open_stream("GET", blob_url(server, digest)) as stream:
        stream.read(500_000 - TAIL)
        wait_until(lambda: [(server.data / "spool" / name).stat().st_size for name in spools(server)] == [500_000])
        server.kill()
        stream.read_all()
        assert not stream.complete
    [left] = spools(server)
    hub.cdn.release()
    server.start()
    assert spools(server) == [left]
    assert raw.get(blob_url(server, digest)).body == content
    await_rest(server, "library/tiny", digest)
    assert blob_file(server, digest).read_bytes() == content
    [_, resumed] = hub.log.select("cdn", "GET", digest)
    assert (resumed.status, resumed.header("range")) == (206, "bytes=500000-")
    wait_until(lambda: spools(server) == [])


def test_a_server_that_is_stopped_in_mid_blob_lets_the_client_finish(
    hub: Hub, registry: Registry, published: Publish, gateway: GatewayFactory
) -> None:
    digest, content = offer(registry, published, "stopped", 1_000_000)
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    hold = hub.hold(digest, after=500_000)
    with raw.open_stream("GET", blob_url(server, digest)) as stream:
        begun = stream.read(100_000)
        server.process.signal(SIGTERM)
        hold.release()
        assert begun + stream.read_all() == content
    assert server.process.wait() == 0
    server.start()
    assert raw.get(blob_url(server, digest)).headers["x-cache"] == "HIT"
