"""Retries: a stream that breaks off is resumed, or fetched from the start, and no reader notices."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from cache.download.flight import Flight
from cache.download.follower import Follower
from cache.download.incoming import Fetch, LeastRate
from cache.download.limits import DEFAULT_LIMITS
from cache.download.progress import FlightState
from cache.download.retry import RetryBudget
from cache.oci.digest import Digest
from cache.store.base import TAIL
from cache.upstream.egress import Egress
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.upstream.reach import Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import BlobInfo, Fault, Source
from tests.cache.download.flights_rig import FlightsRig, all_ended, read, read_until_refused
from tests.cache.samples import APP, blob_of
from tests.parts import lies
from tests.parts.certs import Authority
from tests.parts.liar import Liar
from tests.parts.lies import Framing, Lie
from tests.parts.records import Record

PAUSES, LONGEST_PAUSE = DEFAULT_LIMITS.retry_pauses, DEFAULT_LIMITS.longest_retry_pause
SIZE = 300_000
CONTENT, DIGEST = blob_of(SIZE)


class Breaking:
    """An upstream whose streams break off, and flights from it."""

    def __init__(self, liar: Liar, client: RegistryClient, rig: FlightsRig) -> None:
        self.liar, self.client, self.rig = liar, client, rig
        liar.offer_blob(CONTENT)

    def fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self.client.open_blob(APP, digest, part)

    def begin(self, *responses: Lie) -> tuple[Flight, Follower]:
        """Begin a flight that meets these lies, in this order, and honest responses after them."""
        for lie in reversed(responses):
            self.liar.behave(str(DIGEST), lie.only(1))
        flight, _ = self.rig.flights.join(self.client.source, APP, DIGEST, self.fetch(DIGEST))
        return flight, flight.follow()

    def requests(self) -> list[Record]:
        return self.liar.requests.select(method="GET")


@pytest.fixture(params=["plain", "tls"])
async def breaking(request: pytest.FixtureRequest, rig: FlightsRig, authority: Authority) -> AsyncIterator[Breaking]:
    liar: Liar = request.getfixturevalue("liar" if request.param == "plain" else "tls_liar")
    egress = Egress(Reach(private_addresses=True, ca_file=authority.ca_file))
    origin = origin_of(liar.url)
    client = RegistryClient(Source(origin), liar.url, egress, Tokens(origin, frozenset(), lambda: None))
    yield Breaking(liar, client, rig)
    await egress.close()


async def arrives(breaking: Breaking, *responses: Lie) -> list[Record]:
    flight, follower = breaking.begin(*responses)
    assert await read(follower) == CONTENT
    await all_ended(breaking.rig)
    assert flight.state is FlightState.COMMITTED
    assert breaking.rig.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)
    return breaking.requests()


@pytest.mark.parametrize("at", [0, 1, SIZE // 2, SIZE - 1])
@pytest.mark.parametrize("breaks", [lies.reset, lies.short])
async def test_the_rest_is_requested_where_a_stream_breaks_off(
    breaking: Breaking, breaks: Callable[[int], Lie], at: int
) -> None:
    _, again = await arrives(breaking, breaks(at))
    # A reset may overtake the bytes before it.
    first = int((again.header("range") or "bytes=0-")[6:-1])
    assert first == at if breaks is lies.short else first <= at
    assert again.status == (206 if first else 200)
    assert again.path == breaking.requests()[0].path


@pytest.mark.parametrize("at", [1, SIZE // 2, SIZE - 1])
async def test_an_upstream_without_ranges_serves_the_whole_and_present_bytes_are_skipped(
    breaking: Breaking, at: int
) -> None:
    _, again = await arrives(breaking, lies.short(at), lies.whole())
    assert again.header("range") == f"bytes={at}-"
    assert (again.status, again.sent) == (200, SIZE)


@pytest.mark.parametrize("refusal", [lies.refused(416), lies.refused(503), lies.html()])
async def test_an_upstream_that_refuses_the_rest_gets_a_request_for_the_whole(breaking: Breaking, refusal: Lie) -> None:
    _, _, again = await arrives(breaking, lies.short(SIZE // 2), refusal)
    assert again.header("range") is None


@pytest.mark.parametrize(
    "given",
    [f"bytes 0-{SIZE - 1}/{SIZE}", f"bytes 150000-{SIZE - 2}/{SIZE}", f"bytes 150000-{SIZE}/{SIZE + 1}", "bytes 1-2"],
)
async def test_another_part_than_was_requested_is_not_accepted(breaking: Breaking, given: str) -> None:
    _, _, again = await arrives(breaking, lies.short(150_000), Lie(headers={"Content-Range": given}))
    assert again.header("range") is None


@pytest.mark.parametrize("at", [1, SIZE // 2, SIZE - 1, SIZE])
@pytest.mark.parametrize("whole", [False, True])
async def test_a_body_of_unknown_length_is_resumed_too(breaking: Breaking, at: int, whole: bool) -> None:
    """The last byte that is present is requested again: then there always is a rest, whose header states the size."""
    _, again = await arrives(breaking, lies.unfinished(at), Lie(framing=Framing.CHUNKED, whole=whole))
    assert again.header("range") == f"bytes={at - 1}-"


async def test_a_stream_may_break_off_again_and_again_as_long_as_bytes_arrive(breaking: Breaking) -> None:
    breaking.rig.limit(retry_progress=1000)
    records = await arrives(breaking, *[lies.short(10_000)] * 12)
    assert [record.header("range") for record in records[1:]] == [f"bytes={n}0000-" for n in range(1, 13)]


async def test_after_three_retries_the_download_fails_for_all_readers(breaking: Breaking) -> None:
    flight, follower = breaking.begin(lies.short(100_000), *[lies.short(0)] * 9)
    other = flight.follow()
    for got, error in (await read_until_refused(follower), await read_until_refused(other)):
        assert type(error) is Unavailable
        assert CONTENT.startswith(got)
    assert len(breaking.requests()) == 1 + len(PAUSES)


@pytest.mark.parametrize("status", [404, 401, 403])
async def test_a_refusal_of_the_rest_ends_the_download(breaking: Breaking, status: int) -> None:
    _, follower = breaking.begin(lies.short(100_000), *[lies.refused(status)] * 3)
    _, error = await read_until_refused(follower)
    assert isinstance(error, NotFound | AccessDenied)
    assert len(breaking.requests()) <= 3


async def test_an_upstream_that_refuses_at_once_gets_one_request(breaking: Breaking) -> None:
    _, follower = breaking.begin(lies.refused(503))
    _, error = await read_until_refused(follower)
    assert isinstance(error, Unavailable)
    assert len(breaking.requests()) == 1


async def test_halves_that_do_not_match_cost_one_new_start(breaking: Breaking) -> None:
    """A reader that has bytes of the first half ends short; one that has none does not notice."""
    hold = lies.stalled(SIZE // 2).hold
    wrong_half = Lie(flip=0, cut=SIZE // 2, hold=hold)
    flight, follower = breaking.begin(wrong_half)
    late = flight.follow()
    extents = follower.ready(0, None)
    await anext(extents)
    assert hold is not None
    hold.release()
    with pytest.raises(Unavailable, match="started over"):
        async for extent in extents:
            assert extent.stop <= SIZE - TAIL
    follower.close()
    assert await read(late) == CONTENT
    assert [record.header("range") for record in breaking.requests()] == [None, f"bytes={SIZE // 2}-", None]
    await all_ended(breaking.rig)
    assert breaking.rig.refused == []


async def test_a_new_start_that_is_wrong_too_is_the_last(breaking: Breaking) -> None:
    _, follower = breaking.begin(Lie(flip=0, cut=SIZE // 2), Lie(), lies.flipped(5), Lie(), Lie())
    _, error = await read_until_refused(follower)
    assert isinstance(error, Unavailable | Corrupt)
    await all_ended(breaking.rig)
    assert len(breaking.requests()) == 3
    assert [refused.fault for refused in breaking.rig.refused] == [Fault.DIGEST]


async def test_another_length_than_before_is_a_new_start(breaking: Breaking) -> None:
    flight, follower = breaking.begin(lies.short(100_000), Lie(extra=b"!", whole=True))
    await asyncio.wait_for(flight_over(flight), 30)
    follower.close()
    assert flight.state is FlightState.COMMITTED
    assert [record.header("range") for record in breaking.requests()] == [None, "bytes=100000-", None]


async def flight_over(flight: Flight) -> None:
    while flight.state not in (FlightState.COMMITTED, FlightState.FAILED):
        await flight.changed()


async def test_an_abort_ends_a_pause(rig: FlightsRig, liar: Liar) -> None:
    rig.limit(retry_pauses=(60.0,))
    egress = Egress(Reach(private_addresses=True))
    origin = origin_of(liar.url)
    client = RegistryClient(Source(origin), liar.url, egress, Tokens(origin, frozenset(), lambda: None))
    breaking = Breaking(liar, client, rig)
    flight, follower = breaking.begin(lies.short(100_000))
    await follower.started()
    await rig.flights.close()
    await all_ended(rig)
    assert flight.state is FlightState.FAILED
    follower.close()
    await egress.close()


# The budget.


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (Unavailable("x"), PAUSES[0]),
        (Unavailable("x", 3), 3),
        (Unavailable("x", 9999), LONGEST_PAUSE),
        (RateLimited("x"), PAUSES[0]),
        (RateLimited("x", 3), 3),
        (RateLimited("x", 9999), LONGEST_PAUSE),
        (Corrupt("x", Fault.HTML), PAUSES[0]),
        (Corrupt("x", Fault.SIZE), None),
        (NotFound("x"), None),
        (AccessDenied("x"), None),
    ],
)
def test_only_errors_that_may_pass_are_retried(error: UpstreamError, pause: float | None) -> None:
    retry = RetryBudget().spend(error, 0, DEFAULT_LIMITS)
    assert (retry[0] if retry else None) == pause


def test_pauses_grow_and_end_and_progress_restores_them() -> None:
    budget, error, progress = RetryBudget(100), Unavailable("x"), DEFAULT_LIMITS.retry_progress
    for pause in PAUSES:
        retry = budget.spend(error, 100 + progress - 1, DEFAULT_LIMITS)
        assert retry is not None
        assert retry[0] == pause
        budget = retry[1]
    assert budget.spend(error, 100 + progress - 1, DEFAULT_LIMITS) is None
    again = budget.spend(error, 100 + 2 * progress, DEFAULT_LIMITS)
    assert again is not None
    assert again[0] == PAUSES[0]


def test_a_trickle_is_ended_and_a_slow_stream_is_not() -> None:
    now = 0.0
    slow, trickle = LeastRate(DEFAULT_LIMITS, lambda: now), LeastRate(DEFAULT_LIMITS, lambda: now)
    for second in range(1, 10 * int(DEFAULT_LIMITS.least_rate_span)):
        now = float(second)
        slow.add(DEFAULT_LIMITS.least_rate)
    with pytest.raises(Unavailable, match="bytes arrived in"):
        trickle.add(1)
