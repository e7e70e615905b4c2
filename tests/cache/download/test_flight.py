"""Flights: one download, many readers, and nothing left behind."""

import asyncio
import random
import threading

import pytest

from cache.download.flight import worth_finishing
from cache.download.limits import DEFAULT_LIMITS
from cache.download.progress import FlightState
from cache.store.base import TAIL
from cache.upstream.errors import Corrupt, NotFound, RateLimited, Unavailable
from cache.values import BlobInfo, Fault
from tests.cache.download.flights_rig import FlightsRig, all_ended, fill_threads, read, read_until_refused, until
from tests.cache.download.scripted import ScriptedBody, refusing
from tests.cache.samples import ALICE, ANONYMOUS, APP, WEB, blob_of

KB = 1024
KEEP_SIZE = DEFAULT_LIMITS.keep_size


# Bytes from the upstream to the readers.


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, TAIL, TAIL + 1, 3 * 1024 * KB + 17])
async def test_arriving_bytes_are_read_stored_and_recorded(
    rig: FlightsRig, size: int, known: bool, algorithm: str
) -> None:
    content, digest = blob_of(size, algorithm)
    body = ScriptedBody(size if known else None)
    body.send(*[content[start : start + 700_000] for start in range(0, size, 700_000)])
    body.end()
    flight, follower, first = rig.join(body, digest)
    assert first
    await follower.started()
    assert await read(follower) == content
    await all_ended(rig)
    assert flight.state is FlightState.COMMITTED
    assert flight.size == size
    assert rig.store.stat(digest) == BlobInfo(digest, size)
    assert rig.recorded == [(digest, {APP})]
    assert body.opened == 1


async def test_the_size_is_known_once_the_upstream_has_responded(rig: FlightsRig) -> None:
    content, digest = blob_of(10)
    body = ScriptedBody(10, responds=False)
    flight, follower, _ = rig.join(body, digest)
    assert (flight.state, follower.size) == (FlightState.WAITING, None)
    body.respond()
    await follower.started()
    assert follower.size == 10
    body.send(content)
    body.end()
    await follower.verified()
    assert await read(follower) == content


async def test_followers_read_at_offsets_of_their_own(rig: FlightsRig) -> None:
    content, digest = blob_of(2_000_000)
    body = ScriptedBody(len(content))
    _, slow, _ = rig.join(body, digest)
    body.send(content[:1_000_000])
    await slow.started()
    early = slow.ready(0, None)
    first = await anext(early)
    _, late, began = rig.join(body, digest)
    assert not began
    reading = asyncio.ensure_future(read(late, 500_000, 1_500_000))
    body.send(content[1_000_000:])
    body.end()
    assert await reading == content[500_000:1_500_000]
    rest = b"".join([await slow.read(extent) async for extent in early])
    assert await slow.read(first) + rest == content
    slow.close()


async def test_many_followers_at_random_offsets_read_the_right_bytes(rig: FlightsRig) -> None:
    content, digest = blob_of(4_000_000)
    chance = random.Random(7)
    body = ScriptedBody(len(content))
    _, keeper, _ = rig.join(body, digest)
    reads = []
    for _ in range(30):
        start, stop = sorted(chance.sample(range(len(content)), 2))
        _, follower, _ = rig.join(body, digest)
        reads.append((start, stop, asyncio.ensure_future(read(follower, start, stop))))
    place = 0
    while place < len(content):
        step = chance.randrange(1, 150_000)
        body.send(content[place : place + step])
        place += step
    body.end()
    for start, stop, reading in reads:
        assert await reading == content[start:stop]
    keeper.close()


@pytest.mark.parametrize(("known", "stop"), [(True, None), (False, None), (True, 150 * KB), (False, 150 * KB)])
async def test_the_tail_of_a_requested_range_waits_for_the_verdict(
    rig: FlightsRig, known: bool, stop: int | None
) -> None:
    content, digest = blob_of(200 * KB)
    body = ScriptedBody(len(content) if known else None)
    flight, follower, _ = rig.join(body, digest)
    seen: list[tuple[int, bool]] = []

    async def watch() -> None:
        async for extent in follower.ready(0, stop):
            seen.append((extent.stop, flight.verified))

    watching = asyncio.ensure_future(watch())
    body.send(content)
    await until(lambda: flight.written == len(content) and seen and seen[-1][0] == (stop or len(content)) - TAIL)
    body.end()
    await watching
    end = stop or len(content)
    assert all(offset <= end - TAIL for offset, verified in seen if not verified)
    assert seen[-1] == (end, True)
    follower.close()


# Failures.


@pytest.mark.parametrize("known", [True, False])
async def test_wrong_bytes_never_complete_and_are_not_kept(rig: FlightsRig, known: bool) -> None:
    content, digest = blob_of(200 * KB)
    wrong = content[:-1] + b"?"
    body = ScriptedBody(len(content) if known else None)
    flight, follower, _ = rig.join(body, digest)
    body.send(wrong)
    body.end()
    got, error = await read_until_refused(follower)
    assert isinstance(error, Corrupt)
    assert len(got) <= len(content) - TAIL
    await all_ended(rig)
    assert flight.state is FlightState.FAILED
    assert list(rig.store.walk()) == []
    assert rig.recorded == []
    assert [refused.fault for refused in rig.refused] == [Fault.DIGEST]
    assert [file.read_bytes() for file in rig.quarantine.iterdir()] == [wrong]


@pytest.mark.parametrize("sent", [199 * KB, 201 * KB])
async def test_a_wrong_length_is_as_bad_as_a_wrong_digest(rig: FlightsRig, sent: int) -> None:
    content, digest = blob_of(sent)
    body = ScriptedBody(200 * KB)
    _, follower, _ = rig.join(body, digest)
    body.send(content)
    body.end()
    got, error = await read_until_refused(follower)
    assert isinstance(error, Corrupt)
    assert len(got) <= 200 * KB - TAIL
    await all_ended(rig)
    assert list(rig.store.walk()) == []


async def test_a_failure_wakes_every_waiter_with_an_exception_of_its_own(rig: FlightsRig) -> None:
    digest = blob_of(1)[1]
    body = ScriptedBody(responds=False)
    followers = [rig.join(body, digest)[1] for _ in range(3)]
    waits = [
        asyncio.ensure_future(wait) for wait in (followers[0].started(), followers[1].verified(), read(followers[2]))
    ]
    body.respond(RateLimited("slowly", 17))
    errors = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(error) for error in errors] == [RateLimited] * 3
    assert all(isinstance(error, RateLimited) and error.retry_after == 17 for error in errors)
    assert len({id(error) for error in errors}) == 3
    for follower in followers:
        follower.close()


async def test_a_stream_that_breaks_off_fails_with_its_reason(rig: FlightsRig) -> None:
    content, digest = blob_of(200 * KB)
    body = ScriptedBody(len(content))
    _, follower, _ = rig.join(body, digest)
    body.send(content[: 100 * KB])
    body.fail(Unavailable("the connection broke"))
    _, error = await read_until_refused(follower)
    assert (type(error), error.reason) == (Unavailable, "the upstream is gone")


async def test_an_unexpected_error_fails_the_flight(rig: FlightsRig) -> None:
    body = ScriptedBody(responds=False)
    body.respond(ZeroDivisionError("?"))
    _, follower, _ = rig.join(body, blob_of(1)[1])
    with pytest.raises(Unavailable, match="ZeroDivisionError"):
        await follower.started()
    follower.close()


async def test_a_folder_that_cannot_be_written_fails_with_the_reason(rig: FlightsRig) -> None:
    rig.spools.rmdir()
    _, follower, _ = rig.join(ScriptedBody(), blob_of(1)[1])
    with pytest.raises(Unavailable, match="cannot be written to disk"):
        await follower.started()
    follower.close()
    await all_ended(rig)
    rig.spools.mkdir()


async def test_a_thread_that_cannot_be_started_fails_the_flight_and_the_next_one_runs(
    rig: FlightsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, digest = blob_of(10)

    def no_start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_start)
    _, follower, _ = rig.join(ScriptedBody.whole(content), digest)
    with pytest.raises(Unavailable):
        await follower.started()
    follower.close()
    monkeypatch.undo()
    await all_ended(rig)
    _, follower, first = rig.join(ScriptedBody.whole(content), digest)
    assert first
    assert await read(follower) == content


async def test_a_failed_commit_still_serves_the_readers(rig: FlightsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    content, digest = blob_of(200 * KB)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rig.store, "adopt", full)
    body = ScriptedBody.whole(content)
    flight, follower, _ = rig.join(body, digest)
    assert await read(follower) == content
    await all_ended(rig)
    assert flight.state is FlightState.VERIFIED
    assert rig.store.stat(digest) is None
    assert rig.recorded == []


async def test_joining_a_failed_flight_begins_a_new_one(rig: FlightsRig) -> None:
    content, digest = blob_of(10)
    failed, follower, _ = rig.join(refusing(NotFound("no such thing")), digest)
    with pytest.raises(NotFound):
        await follower.started()
    assert rig.flights.find(ANONYMOUS, digest) is None
    flight, again, first = rig.join(ScriptedBody.whole(content), digest)
    assert first
    assert flight is not failed
    follower.close()
    assert await read(again) == content


async def test_the_cleanup_of_a_failed_flight_leaves_the_next_one_alone(rig: FlightsRig) -> None:
    content, digest = blob_of(10)
    _, follower, _ = rig.join(refusing(NotFound("no such thing")), digest)
    with pytest.raises(NotFound):
        await follower.started()
    body = ScriptedBody(10)
    flight, again, _ = rig.join(body, digest)
    await again.started()
    assert rig.flights.find(ANONYMOUS, digest) is flight
    body.send(content)
    body.end()
    assert await read(again) == content
    follower.close()


# Flights that are shared.


async def test_each_source_and_digest_has_a_flight_of_its_own(rig: FlightsRig) -> None:
    (content, digest), (other_content, other_digest) = blob_of(10), blob_of(11)
    body, alice, other = ScriptedBody.whole(content), ScriptedBody.whole(content), ScriptedBody.whole(other_content)
    _, follower, _ = rig.join(body, digest)
    alices = rig.flights.join(
        ALICE, APP, digest, alice.fetch, even_if_stored=True
    )  # though the first may have all_ended
    _, others, other_first = rig.join(other, other_digest)
    assert alices[1]
    assert other_first
    assert await read(alices[0].follow()) == await read(follower) == content
    assert await read(others) == other_content
    await all_ended(rig)
    assert rig.store.stat(digest) == BlobInfo(digest, 10)


async def test_all_images_that_joined_are_recorded(rig: FlightsRig) -> None:
    content, digest = blob_of(10)
    body = ScriptedBody(10)
    _, one, _ = rig.join(body, digest, APP)
    _, two, first = rig.join(body, digest, WEB)
    assert not first
    body.send(content)
    body.end()
    assert await read(one) == await read(two) == content
    await all_ended(rig)
    assert rig.recorded[-1] == (digest, {APP, WEB})


async def test_an_image_that_joins_during_the_recording_is_recorded_too(rig: FlightsRig) -> None:
    content, digest = blob_of(10)
    rig.may_record.clear()
    _, one, _ = rig.join(ScriptedBody.whole(content), digest, APP)
    await rig.recording.wait()
    _, two, first = rig.join(ScriptedBody(), digest, WEB)
    assert not first
    rig.may_record.set()
    assert await read(one) == await read(two) == content
    await all_ended(rig)
    assert rig.recorded[-1] == (digest, {APP, WEB})


# Readers that leave.


async def test_the_first_follower_leaving_does_not_stop_the_others(rig: FlightsRig) -> None:
    rig.limit(abandon_after=0.0)
    content, digest = blob_of(200 * KB)
    body = ScriptedBody()
    _, first, _ = rig.join(body, digest)
    _, second, _ = rig.join(body, digest)
    body.send(content[: 100 * KB])
    await first.started()
    first.close()
    first.close()
    for _ in range(3):
        await asyncio.sleep(0)  # a timer of no length would have fired
    body.send(content[100 * KB :])
    body.end()
    assert await read(second) == content
    assert not body.aborted.is_set()


async def test_a_cancelled_reader_does_not_end_the_flight(rig: FlightsRig) -> None:
    content, digest = blob_of(200 * KB)
    body = ScriptedBody(len(content))
    flight, follower, _ = rig.join(body, digest)
    reading = asyncio.ensure_future(read(follower))
    body.send(content[: 100 * KB])
    await until(lambda: flight.written)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    body.send(content[100 * KB :])
    body.end()
    await all_ended(rig)
    assert rig.store.stat(digest) == BlobInfo(digest, len(content))


@pytest.mark.parametrize("responds", [True, False])
async def test_an_abandoned_flight_that_is_not_worth_finishing_ends(rig: FlightsRig, responds: bool) -> None:
    rig.limit(abandon_after=0.0)
    _, digest = blob_of(200 * KB)
    body = ScriptedBody(KEEP_SIZE + 1, responds=responds)
    flight, follower, _ = rig.join(body, digest)
    if responds:
        await follower.started()
    follower.close()
    await until(lambda: not flight.joinable)
    body.respond()
    await all_ended(rig)
    assert flight.state is FlightState.FAILED
    assert rig.recorded == []


async def test_an_abandoned_flight_that_is_worth_finishing_is_committed(rig: FlightsRig) -> None:
    rig.limit(abandon_after=0.0)
    content, digest = blob_of(200 * KB)
    body = ScriptedBody(len(content))
    flight, follower, _ = rig.join(body, digest)
    await follower.started()
    follower.close()
    await until(
        lambda: flight._abandon_timer is not None and flight._abandon_timer.when() < asyncio.get_running_loop().time()
    )
    body.send(content)
    body.end()
    await all_ended(rig)
    assert not body.aborted.is_set()
    assert rig.recorded == [(digest, {APP})]


async def test_a_reader_that_joins_in_time_keeps_an_abandoned_flight(rig: FlightsRig) -> None:
    rig.limit(abandon_after=0.0)
    content, digest = blob_of(200 * KB)
    body = ScriptedBody()
    _, follower, _ = rig.join(body, digest)
    await follower.started()
    follower.close()
    _, saviour, first = rig.join(body, digest)
    assert not first
    body.send(content)
    body.end()
    assert await read(saviour) == content
    assert not body.aborted.is_set()


async def test_a_reader_that_joins_after_the_abort_gets_a_new_flight(rig: FlightsRig) -> None:
    """An aborted download may take long to end; no reader joins it meanwhile."""
    rig.limit(abandon_after=0.0)
    content, digest = blob_of(10)
    slow = ScriptedBody(responds=False)
    given_up, follower, _ = rig.join(slow, digest)
    await asyncio.to_thread(slow.requested.wait, 30)
    follower.close()
    await until(lambda: not given_up.joinable)
    assert given_up.state is FlightState.WAITING
    flight, again, first = rig.join(ScriptedBody.whole(content), digest)
    assert first
    assert flight is not given_up
    assert await read(again) == content
    slow.respond()
    await all_ended(rig)


async def test_a_body_received_whole_is_never_aborted(rig: FlightsRig) -> None:
    """Its connection may serve another download by then."""
    content, digest = blob_of(10)
    body = ScriptedBody.whole(content)
    _, follower, _ = rig.join(body, digest)
    assert await read(follower) == content
    await all_ended(rig)
    assert body.closed.is_set()
    assert not body.aborted.is_set()


# Closing.


async def test_closing_while_filling_wakes_readers_and_leaves_nothing(rig: FlightsRig) -> None:
    content, digest = blob_of(200 * KB)
    body = ScriptedBody(len(content))
    flight, follower, _ = rig.join(body, digest)
    reading = asyncio.ensure_future(read_until_refused(follower))
    body.send(content[: 100 * KB])
    await until(lambda: flight.written)
    await rig.tasks.close()
    _, error = await reading
    assert isinstance(error, Unavailable)
    assert body.aborted.is_set()
    assert rig.spool_files() == []


@pytest.mark.parametrize("responds", [True, False])
async def test_closing_does_not_wait_for_an_upstream_that_does_not_respond(rig: FlightsRig, responds: bool) -> None:
    rig.limit(stop_within=0.01)
    body = ScriptedBody(responds=responds, deaf=True)
    flight, follower, _ = rig.join(body, blob_of(1)[1])
    await asyncio.to_thread((body.receiving if responds else body.requested).wait, 30)
    await rig.tasks.close()
    assert fill_threads()
    with pytest.raises(Unavailable):
        await follower.verified()
    follower.close()
    body.respond()
    body.end()
    for thread in fill_threads():
        await asyncio.to_thread(thread.join, 30)
    assert flight.state is FlightState.FAILED
    assert not body.ended.is_set() or responds


@pytest.mark.parametrize(
    ("size", "written", "worth"),
    [
        (None, 10**9, False),
        (0, 0, True),
        (KEEP_SIZE, 0, True),
        (KEEP_SIZE + 1, 0, False),
        (400_000_000, 99_999_999, False),
        (400_000_000, 100_000_000, True),
    ],
)
def test_small_downloads_and_those_well_under_way_are_worth_finishing(
    size: int | None, written: int, worth: bool
) -> None:
    assert worth_finishing(size, written) is worth


async def test_a_body_without_length_or_end_is_given_up(rig: FlightsRig) -> None:
    rig.limit(unsized=10)
    body = ScriptedBody(size=None)
    _, follower, _ = rig.join(body, blob_of(100)[1])
    body.send(b"x" * 11)
    with pytest.raises(Corrupt, match="without end"):
        await follower.verified()
    follower.close()
