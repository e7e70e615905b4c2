"""Tests of the fault proxy: it forwards true responses and spoils the responses it is told to spoil."""

from collections.abc import Iterator

import pytest

from tests.parts import raw
from tests.parts.liar import Liar
from tests.parts.lies import Lie, delayed, flipped, long, refused, reset, short, stalled, trickled, whole
from tests.parts.raw import RawResponse
from tests.parts.records import Record
from tests.parts.registry import Registry

from .library import Content, library
from .proxy import HONEST, FaultProxy
from .upstream import FaultyHub
from .weather import ANSWERS, BODIES, Weather

CONTENT = bytes(range(256)) * 4_000
MIDDLE = len(CONTENT) // 2


@pytest.fixture
def blob(liar: Liar) -> Content:
    return Content(liar.offer_blob(CONTENT), CONTENT)


@pytest.fixture
def proxied(liar: Liar) -> Iterator[FaultProxy]:
    with FaultProxy(liar.port) as proxy:
        yield proxy


def get(proxy: FaultProxy, blob: Content, **headers: str) -> RawResponse:
    return raw.get(f"{proxy.url}/v2/any/blobs/{blob.digest}", headers)


def test_without_a_lie_everything_is_passed_on(liar: Liar, proxied: FaultProxy, blob: Content) -> None:
    answer = get(proxied, blob, Range="bytes=10-19", Authorization="Bearer x")
    assert (answer.status, answer.body, answer.headers["content-range"]) == (
        206,
        CONTENT[10:20],
        f"bytes 10-19/{blob.size}",
    )
    assert liar.requests.select()[-1].header("authorization") == "Bearer x"
    assert get(proxied, blob).body == CONTENT
    assert raw.head(f"{proxied.url}/v2/any/blobs/{blob.digest}").headers["content-length"] == str(blob.size)
    assert proxied.told == []


@pytest.mark.parametrize("at", [0, 1, MIDDLE, -1])
@pytest.mark.parametrize("break_at", [reset, short])
def test_a_body_breaks_where_it_is_told_to(proxied: FaultProxy, blob: Content, break_at: object, at: int) -> None:
    proxied.behave("/blobs/", break_at(at))  # type: ignore[operator]
    answer = get(proxied, blob)
    assert (answer.body, answer.complete, answer.reset) == (CONTENT[:at], False, break_at is reset)


@pytest.mark.parametrize("at", [0, MIDDLE, -1])
def test_one_byte_is_wrong(proxied: FaultProxy, blob: Content, at: int) -> None:
    proxied.behave("/blobs/", flipped(at))
    answer = get(proxied, blob)
    wrong = [offset for offset in range(blob.size) if answer.body[offset] != CONTENT[offset]]
    assert answer.complete
    assert wrong == [range(blob.size)[at]]


@pytest.mark.parametrize(
    ("lie", "status", "size"), [(long(b"!!"), 206, 12), (whole(), 200, len(CONTENT)), (refused(503), 503, None)]
)
def test_an_answer_is_another_one(proxied: FaultProxy, blob: Content, lie: Lie, status: int, size: int | None) -> None:
    proxied.behave("/blobs/", lie)
    answer = get(proxied, blob, Range="bytes=0-9")
    assert answer.status == status
    assert raw.head(f"{proxied.url}/v2/any/blobs/{blob.digest}").complete
    assert size is None or len(answer.body) == size
    assert proxied.faults() == {blob.digest: 2}


def test_bytes_stop_until_they_are_let_go(proxied: FaultProxy, blob: Content) -> None:
    lie = proxied.behave("/blobs/", stalled(MIDDLE))
    assert lie.hold
    with raw.open_stream("GET", f"{proxied.url}/v2/any/blobs/{blob.digest}") as stream:
        assert stream.read(MIDDLE) == CONTENT[:MIDDLE]
        assert lie.hold.reached.wait(30)
        lie.hold.release()
        assert stream.read_all() == CONTENT[MIDDLE:]


@pytest.mark.parametrize("lie", [trickled(100_000, 0.01), delayed(0.1)])
def test_a_slow_answer_is_right(proxied: FaultProxy, blob: Content, lie: Lie) -> None:
    proxied.behave("/blobs/", lie)
    answer = get(proxied, blob)
    assert (answer.body, answer.complete) == (CONTENT, True)
    assert answer.seconds >= 0.1


def test_a_stopped_proxy_refuses_until_it_is_started(proxied: FaultProxy, blob: Content) -> None:
    proxied.stop()
    with pytest.raises(ConnectionRefusedError):
        get(proxied, blob)
    proxied.start()
    assert get(proxied, blob).body == CONTENT


def test_pieces_are_counted_apart(proxied: FaultProxy, blob: Content) -> None:
    for asked in ({}, {"Range": "bytes=100-"}, {"Range": "bytes=100-199"}):
        get(proxied, blob, **asked)
    assert proxied.gets() == {blob.digest: 2}
    assert proxied.gets(pieces=True) == {blob.digest: 1}


def test_the_same_seed_makes_the_same_weather() -> None:
    record = Record("any", "GET", "/", "", {})

    def drawn(seed: int) -> list[tuple[int | None, int | None, int | None, float]]:
        weather = Weather(seed, 0.5)
        choose = weather.over((*BODIES, *ANSWERS))
        lies = [choose(record) for _ in range(200)]
        return [(lie.status, lie.cut, lie.reset, lie.delay) for lie in lies]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_clear_sky_tells_the_truth_and_holds_nothing() -> None:
    weather = Weather(1, 1.0)
    choose = weather.over((lambda chance: stalled(0),))
    lie = choose(Record("any", "GET", "/", "", {}))
    assert lie.hold and not lie.hold.released
    weather.clear()
    assert lie.hold.released
    assert choose(Record("any", "GET", "/", "", {})) == HONEST


def test_every_byte_of_a_hub_passes_a_proxy(registry: Registry) -> None:
    [image] = library(registry, (1_000,), "faults/passing")
    with FaultyHub(registry) as upstream:
        answer = raw.get(f"{upstream.front.url}/v2/{image.name}/blobs/{image.layer.digest}")
        assert answer.status == 401
        realm = answer.headers["www-authenticate"].split('"')[1]
        granted = raw.get(f"{realm}?service=registry.docker.io&scope=repository:{image.name}:pull").body
        bearer = {"Authorization": "Bearer " + granted.decode().split('"token"')[1].split('"')[1]}
        led = raw.get(f"{upstream.front.url}/v2/{image.name}/blobs/{image.layer.digest}", bearer)
        assert led.status == 307
        assert led.headers["location"].startswith(upstream.cdn.url)
        assert raw.get(led.headers["location"]).body == image.layer.data
