"""A slow upstream that serves ranges gets requests on several connections; whatever fails, one stream suffices."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cache.download.fill import FillResources, TransferRate, worth_dividing
from cache.download.flight import Flight
from cache.download.follower import Follower
from cache.download.incoming import Fetch
from cache.download.limits import DEFAULT_LIMITS
from cache.download.progress import FlightState
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.store.base import TAIL
from cache.upstream.egress import Egress
from cache.upstream.errors import Corrupt, RateLimited, Unavailable
from cache.upstream.reach import Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import BlobInfo, Part, Source
from tests.cache.download.flights_rig import FlightsRig, all_ended, read, read_until_refused, until
from tests.cache.samples import APP, blob_of
from tests.conftest import Publish
from tests.parts import lies
from tests.parts.certs import Authority
from tests.parts.holds import Hold
from tests.parts.hub import Hub
from tests.parts.images import MB, seeded
from tests.parts.liar import Liar
from tests.parts.lies import Lie
from tests.parts.records import Record
from tests.parts.registry import Registry

KB = 1024
CONNECTIONS, LARGE = DEFAULT_LIMITS.connections, DEFAULT_LIMITS.divide_from
SLOW, WINDOW = DEFAULT_LIMITS.fast_rate, DEFAULT_LIMITS.rate_window
SIZE = 6 * MB + 17
HELD_AT = 100 * KB
CONTENT, DIGEST = blob_of(SIZE)


@pytest.fixture
async def connect(authority: Authority) -> AsyncIterator[Callable[..., RegistryClient]]:
    made: list[Egress] = []

    def make(url: str, token_hosts: frozenset[str] = frozenset()) -> RegistryClient:
        made.append(Egress(Reach(private_addresses=True, ca_file=authority.ca_file)))
        origin = origin_of(url)
        return RegistryClient(Source(origin), url, made[-1], Tokens(origin, token_hosts, lambda: None))

    yield make
    for egress in made:
        await egress.close()


def make_eager(rig: FlightsRig) -> None:
    """Let every stream count as slow, and every blob as large; make pieces small."""
    rig.limit(rate_window=0.0, worth_dividing=0.0, fast_rate=10**12, divide_from=MB)
    rig.limit(piece=512 * KB, smallest_piece=256 * KB)


class Slow:
    """An upstream whose first stream of a blob stops until `release`; the bytes beyond arrive by ranges, or do not."""

    def __init__(self, liar: Liar, client: RegistryClient, rig: FlightsRig) -> None:
        self.liar, self.client, self.rig = liar, client, rig
        self.hold = Hold(HELD_AT)

    def fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self.client.open_blob(APP, digest, part)

    async def begin(self, *pieces: Lie, first: Lie | None = None, content: bytes = CONTENT) -> tuple[Flight, Follower]:
        """Begin a flight whose first stream is held; the range requests meet these lies, the last of them first."""
        digest = Digest.parse(self.liar.offer_blob(content))
        for lie in pieces:
            self.liar.behave(str(digest), lie)
        self.liar.behave(str(digest), (first or Lie(hold=self.hold)).only(1))
        flight, _ = self.rig.flights.join(self.client.source, APP, digest, self.fetch(digest))
        return flight, flight.follow()

    def ranged(self) -> list[Record]:
        return [record for record in self.liar.requests.select(method="GET") if record.header("range")]

    def whole(self) -> list[Record]:
        return [record for record in self.liar.requests.select(method="GET") if not record.header("range")]


@pytest.fixture(params=["plain", "tls"])
def slow(request: pytest.FixtureRequest, rig: FlightsRig, connect: Callable[..., RegistryClient]) -> Iterator[Slow]:
    upstream: Liar = request.getfixturevalue("liar" if request.param == "plain" else "tls_liar")
    make_eager(rig)
    slow = Slow(upstream, connect(upstream.url), rig)
    yield slow
    slow.hold.release()


async def settled(slow: Slow) -> None:
    """Wait until every helper has ended."""
    await until(lambda: slow.ranged() and len(fills()) == 1)


def fills() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fill"]


def range_of(record: Record) -> range:
    first, _, last = (record.header("range") or "").removeprefix("bytes=").partition("-")
    return range(int(first), int(last) + 1)


# Bytes from several connections.


async def test_the_bytes_beyond_a_slow_stream_arrive_in_pieces_each_once(slow: Slow) -> None:
    flight, follower = await slow.begin()
    await settled(slow)
    assert flight.written <= HELD_AT
    assert not flight.verified
    slow.hold.release()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert flight.state is FlightState.COMMITTED
    assert slow.rig.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)
    parts = sorted((range_of(record) for record in slow.ranged()), key=lambda part: part.start)
    assert all(one.stop <= two.start for one, two in pairwise(parts))
    assert all(record.status == 206 for record in slow.ranged())
    assert len(slow.whole()) == 1


async def test_a_follower_reads_from_the_start_while_pieces_arrive(slow: Slow) -> None:
    flight, follower = await slow.begin()
    beginning = b""
    async for extent in follower.ready(0, None):
        beginning += await follower.read(extent)
        if len(beginning) >= HELD_AT:
            break
    assert beginning == CONTENT[:HELD_AT]
    assert not flight.verified
    slow.hold.release()
    assert await read(follower, HELD_AT) == CONTENT[HELD_AT:]


async def test_the_first_stream_ends_where_other_connections_have_continued(slow: Slow) -> None:
    _, follower = await slow.begin()
    await settled(slow)
    slow.hold.release()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert sum(len(range_of(record)) for record in slow.ranged()) > SIZE / 2


@pytest.mark.parametrize(
    "lie",
    [
        lies.whole(),
        lies.refused(416),
        lies.refused(429),
        lies.refused(503),
        lies.html(),
        Lie(headers={"Content-Range": f"bytes 0-9/{SIZE}"}),
        Lie(headers={"Content-Range": f"bytes */{SIZE}"}),
        Lie(headers={"Content-Range": None}),
        lies.chunked(),
        lies.long(),
        lies.short(0),
    ],
    ids=["whole", "416", "429", "503", "html", "other", "none measured", "no header", "chunked", "longer", "empty"],
)
async def test_an_upstream_that_refuses_ranges_after_all_serves_the_whole_in_one_stream(slow: Slow, lie: Lie) -> None:
    _, follower = await slow.begin(lie)
    await settled(slow)
    slow.liar.honest() if lie.cut is not None else slow.hold.release()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert lie.cut is not None or len(slow.whole()) == 1
    assert len(slow.ranged()) >= CONNECTIONS - 1


@pytest.mark.parametrize("lie", [lies.reset(100_000), lies.short(100_000)])
async def test_a_piece_that_breaks_off_is_fetched_by_others(slow: Slow, lie: Lie) -> None:
    _, follower = await slow.begin(lie.only(2))
    await settled(slow)
    slow.hold.release()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert len(slow.whole()) == 1


async def test_when_ranges_fail_for_good_a_second_stream_fetches_the_rest(slow: Slow) -> None:
    flight, follower = await slow.begin(lies.refused(503), Lie().only(2), lies.reset(300_000).only(1))
    await settled(slow)
    slow.hold.release()
    slow.liar.behave(str(DIGEST), lies.refused(416))
    slow.liar.behave(str(DIGEST), Lie(whole=True))
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert flight.state is FlightState.COMMITTED
    assert len(slow.whole()) <= 2


async def test_a_first_stream_that_breaks_off_is_no_failure_while_pieces_arrive(slow: Slow) -> None:
    hold = slow.hold
    _, follower = await slow.begin(first=Lie(hold=hold, reset=HELD_AT + 5))
    await settled(slow)
    hold.release()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)


async def test_a_first_stream_that_breaks_off_fails_the_flight_where_ranges_are_refused(slow: Slow) -> None:
    _, follower = await slow.begin(lies.refused(416), first=Lie(hold=slow.hold, reset=HELD_AT + 5))
    await settled(slow)
    slow.hold.release()
    _, error = await read_until_refused(follower)
    assert isinstance(error, Unavailable)


@pytest.mark.parametrize("at", [0, -1])
async def test_a_wrong_byte_in_a_piece_is_found_by_the_digest_of_the_whole(slow: Slow, at: int) -> None:
    flight, follower = await slow.begin(lies.flipped(at).only(1))
    await settled(slow)
    slow.hold.release()
    got, error = await read_until_refused(follower)
    assert isinstance(error, Corrupt)
    assert len(got) <= SIZE - TAIL
    await all_ended(slow.rig)
    assert flight.state is FlightState.FAILED
    assert list(slow.rig.store.walk()) == []
    assert len(list(slow.rig.quarantine.iterdir())) == 1


# Aborts.


async def test_an_abort_wakes_every_thread_that_waits_for_bytes(slow: Slow) -> None:
    """The fixture checks that no thread, spool or descriptor is left."""
    holding = Hold(1000)
    flight, follower = await slow.begin(Lie(hold=holding))
    await until(holding.reached.is_set)
    await until(lambda: len(slow.ranged()) == CONNECTIONS - 1)
    flight.abort()
    await all_ended(slow.rig)
    assert flight.state is FlightState.FAILED
    follower.close()
    holding.release()


async def test_closing_ends_a_flight_of_many_connections(slow: Slow) -> None:
    holding = Hold(1000)
    _, follower = await slow.begin(Lie(hold=holding))
    await until(holding.reached.is_set)
    await slow.rig.flights.close()
    await all_ended(slow.rig)
    follower.close()
    holding.release()


async def test_helpers_are_shared_by_all_flights_to_an_upstream(slow: Slow) -> None:
    slots = slow.rig.flights._shared = FillResources(limit=4)
    holding = Hold(1000)
    _, one = await slow.begin(Lie(hold=holding))
    await until(lambda: len(slow.ranged()) == 3)
    other, slow.hold = slow.hold, Hold(HELD_AT)
    content = CONTENT + b"?"
    _, two = await slow.begin(Lie(hold=holding), content=content)
    await until(lambda: len(slow.ranged()) == 4)
    await until(lambda: len(fills()) == 2 + 4)
    assert not slots.acquire(slow.client.source.origin)
    for hold in (holding, other, slow.hold):
        hold.release()
    assert await read(one) == CONTENT
    assert await read(two) == content
    await all_ended(slow.rig)
    await until(lambda: not fills())
    assert slots._used == {}


async def test_a_fill_continues_without_a_thread_for_a_helper(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def only_the_first(thread: threading.Thread) -> None:
        if thread.name == "fill" and fills():
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_the_first)
    slow.hold.release()
    _, follower = await slow.begin()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert slow.ranged() == []
    assert slow.rig.flights._shared._used == {}


# Conditions for more connections.


async def test_an_upstream_that_does_not_offer_ranges_gets_one_request(slow: Slow) -> None:
    slow.hold.release()
    _, follower = await slow.begin(first=Lie(headers={"Accept-Ranges": None}))
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert slow.liar.requests.count() == 1


@pytest.mark.parametrize("size", [100, LARGE - 1])
async def test_a_small_blob_gets_one_request(slow: Slow, size: int) -> None:
    slow.rig.limit(divide_from=LARGE)
    content, _ = blob_of(size)
    slow.hold.release()
    _, follower = await slow.begin(content=content)
    assert await read(follower) == content
    await all_ended(slow.rig)
    assert slow.liar.requests.count() == 1


async def test_a_fast_upstream_gets_one_request(slow: Slow) -> None:
    slow.rig.limit(fast_rate=1)
    slow.hold.release()
    _, follower = await slow.begin()
    assert await read(follower) == CONTENT
    await all_ended(slow.rig)
    assert slow.liar.requests.count() == 1


@pytest.mark.parametrize(
    ("count", "seconds", "rate"), [(10_000, 0.01, 1_000_000), (100, WINDOW, 100 / WINDOW), (10_000, 2 * WINDOW, None)]
)
def test_a_rate_is_measured_once_the_window_is_full_and_not_over_a_stall(
    count: int, seconds: float, rate: float | None
) -> None:
    now = 0.0
    rates = TransferRate(clock=lambda: now)
    measured = []
    while now < 1:
        since, now = now, now + seconds
        measured.append(rates.add(count, since))
    assert {round(each) for each in measured if each is not None} == ({round(rate)} if rate else set())


@pytest.mark.parametrize(
    ("rest", "rate", "worth"),
    [(100 * MB, 10e6, True), (9_000_000, 10e6, False), (10_000 * MB, SLOW, False), (10_000 * MB, SLOW - 1, True)],
)
def test_dividing_is_worth_it_for_many_bytes_at_a_low_rate(rest: int, rate: float, worth: bool) -> None:
    assert worth_dividing(rest, rate) is worth


# The client.


@pytest.mark.parametrize("kind", ["liar", "tls_liar"])
async def test_a_part_is_served_exactly(
    kind: str, request: pytest.FixtureRequest, connect: Callable[..., RegistryClient]
) -> None:
    upstream: Liar = request.getfixturevalue(kind)
    upstream.offer_blob(CONTENT)
    client = connect(upstream.url)

    def work(part: Part) -> bytes:
        buffer = memoryview(bytearray(SIZE))
        got = b""
        with client.open_blob(APP, DIGEST, part) as stream:
            assert stream.size == part.stop - part.start
            while count := stream.receive_into(buffer):
                got += buffer[:count]
        return got

    for start, stop in [(0, 1), (SIZE - 1, SIZE), (1000, 3 * MB)]:
        assert await asyncio.to_thread(work, Part(start, stop, SIZE)) == CONTENT[start:stop]
    with pytest.raises(Unavailable):
        await asyncio.to_thread(work, Part(0, 10, SIZE + 1))
    upstream.behave("blobs", lies.refused(429, retry_after=7))
    with pytest.raises(RateLimited):
        await asyncio.to_thread(work, Part(0, 10, SIZE))


# A Docker Hub whose blob host serves 10 MB/s per connection.


async def test_a_slow_blob_host_gets_requests_on_several_connections_at_a_time(
    hub: Hub, registry: Registry, published: Publish, tmp_path: Path, connect: Callable[..., RegistryClient]
) -> None:
    published("tiny")
    rig = FlightsRig(tmp_path)
    size = 48 * MB
    digest = Digest.parse(registry.put_blob("library/tiny", seeded("ranged", size)))
    client, image = connect(hub.url, frozenset({hub.token_netloc})), RepositoryName("library/tiny")
    hub.cdn.rate = 10_000_000
    flight, _ = rig.flights.join(client.source, image, digest, lambda part=None: client.open_blob(image, digest, part))
    flight.follow().close()
    await all_ended(rig)
    assert flight.state is FlightState.COMMITTED
    assert rig.store.stat(digest) == BlobInfo(digest, size)
    records = hub.log.select(server="cdn", method="GET", path_contains=str(digest))
    whole = [record for record in records if record.header("range") is None]
    assert len(whole) == 1
    assert len(records) >= CONNECTIONS
    assert whole[0].sent < size / 2
    assert sum(len(range_of(record)) for record in records if record.header("range")) < size
    assert hub.count("hub", "GET", str(digest), 307) == len(records)
    await rig.tasks.close()
