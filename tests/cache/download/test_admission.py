"""Admission: a download takes a thread and files only when it has its place, which groups and clients share fairly."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.download.admission import PlaceLimits, UpstreamPlaces
from cache.download.flight import Flight
from cache.download.follower import Follower
from cache.download.progress import FlightState
from cache.oci.digest import Digest
from cache.runtime.fair_queue import Requester
from cache.upstream.errors import Unavailable
from tests.cache.download.flights_rig import FlightsRig, all_ended, fill_threads, read, until
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ANONYMOUS, APP, blob_of, open_descriptors

LIMITS = PlaceLimits(places=8, spare=1, length=20, wait=5.0)
MOST, GREEDY, NEIGHBOUR, OTHER = 5, Requester("a", "1"), Requester("a", "2"), Requester("b", "1")
"""One client alone gets at most `MOST` of these places."""


class Crowd:
    """Downloads of distinct blobs, each with one reader, whose upstream does not respond before the test lets it."""

    def __init__(self, rig: FlightsRig) -> None:
        self.rig = rig
        self.bodies: list[ScriptedBody] = []
        self.readers: list[tuple[Flight, Follower]] = []

    def begin(self, who: Requester, count: int = 1) -> list[tuple[Flight, Follower]]:
        begun = [self.follow(blob_of(1000 + len(self.bodies))[1], who) for _ in range(count)]
        self.readers += begun
        return begun

    def follow(self, digest: Digest, who: Requester) -> tuple[Flight, Follower]:
        body = ScriptedBody(1000, responds=False)
        self.bodies.append(body)
        flight, _ = self.rig.flights.join(ANONYMOUS, APP, digest, body.fetch)
        return flight, flight.follow(who)

    @property
    def running(self) -> int:
        return sum(body.requested.is_set() and not body.closed.is_set() for body in self.bodies)

    async def end(self) -> None:
        for body in self.bodies:
            body.respond(Unavailable("over"))
        for _, follower in self.readers:
            follower.close()
        await all_ended(self.rig)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[FlightsRig]:
    rig = FlightsRig(tmp_path)
    rig.flights.places = UpstreamPlaces(LIMITS)
    yield rig
    await rig.tasks.close()
    assert rig.flights.places.held == 0
    assert not rig.flights.places.waiting().total()


@pytest.fixture
async def crowd(rig: FlightsRig) -> AsyncIterator[Crowd]:
    crowd = Crowd(rig)
    yield crowd
    await crowd.end()


async def test_what_waits_has_no_thread_no_spool_and_no_descriptor(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST)
    await until(lambda: crowd.running == MOST)
    threads, descriptors, files = threading.active_count(), open_descriptors(), len(rig.spool_files())
    crowd.begin(GREEDY, LIMITS.length)
    await until(lambda: rig.flights.places.waiting().total() == LIMITS.length)
    assert len(fill_threads()) == crowd.running == MOST
    assert (threading.active_count(), open_descriptors(), len(rig.spool_files())) == (threads, descriptors, files)


async def test_a_crowd_of_one_client_leaves_places_to_its_neighbours_and_to_other_groups(crowd: Crowd) -> None:
    crowd.begin(GREEDY, LIMITS.length)
    await until(lambda: crowd.running == MOST)
    content, digest = blob_of(2000)
    for who in (NEIGHBOUR, OTHER):
        flight, _ = crowd.rig.flights.join(ANONYMOUS, APP, digest, ScriptedBody.whole(content).fetch)
        assert await read(flight.follow(who)) == content
        await until(lambda: not crowd.rig.flights.find(ANONYMOUS, digest))
        crowd.rig.store.delete(digest)
    assert crowd.running == MOST


async def test_a_queued_download_goes_ahead_with_the_first_of_its_readers(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST + 5)
    queued, _ = crowd.readers[-1]
    assert queued.place.waits
    joined, follower = crowd.follow(queued.digest, OTHER)
    assert joined is queued
    await until(lambda: queued.place.is_held)
    await until(lambda: crowd.running == MOST + 1)
    follower.close()


async def test_a_reader_that_leaves_the_queue_takes_its_download_along(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST)
    [(flight, follower)] = crowd.begin(GREEDY)
    joined, other = crowd.follow(flight.digest, GREEDY)
    follower.close()
    assert joined is flight
    assert rig.flights.places.waiting().total() == 1, "another reader still waits"
    other.close()
    await until(lambda: len(rig.flights) == MOST)
    assert rig.flights.places.waiting().total() == 0
    assert not crowd.bodies[-1].opened


async def test_in_a_full_queue_the_latest_of_the_group_with_the_most_is_refused(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST + LIMITS.length)
    begun = crowd.begin(OTHER, 8)
    await until(lambda: rig.flights.places.waiting().total() == LIMITS.length)
    refused = [flight for flight, _ in crowd.readers if flight.place.is_refused]
    assert refused
    assert not {flight for flight, _ in begun} & set(refused)
    assert refused == [
        flight for flight, _ in crowd.readers[MOST + LIMITS.length - len(refused) : MOST + LIMITS.length]
    ]
    for flight in refused:
        await until(lambda flight=flight: flight.state is FlightState.FAILED)
        assert isinstance(flight.error, Unavailable)
        assert flight.error.retry_after
        assert "queue" in flight.error.reason
        assert not flight.joinable


async def test_who_waits_too_long_learns_that_it_waited_in_the_queue(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST)
    [(flight, follower)] = crowd.begin(GREEDY)
    with pytest.raises(Unavailable, match="in the queue for a connection") as caught:
        await flight.admitted(0.01)
    assert caught.value.retry_after
    follower.close()
    await until(lambda: flight.state is FlightState.FAILED)
    with pytest.raises(Unavailable, match="in the queue for a connection"):
        rig.flights.places = UpstreamPlaces(PlaceLimits(places=0, spare=0, wait=0.01))
        await rig.flights.places.request(ANONYMOUS.origin, OTHER)


async def test_a_download_without_readers_yields_its_place_to_one_that_waits(rig: FlightsRig, crowd: Crowd) -> None:
    rig.limit(abandon_after=0.01)
    content, digest = blob_of(100_000)
    slow = ScriptedBody(len(content))
    flight, _ = rig.flights.join(ANONYMOUS, APP, digest, slow.fetch)
    follower = flight.follow(GREEDY)
    slow.send(content[:10])
    await follower.started()
    follower.close()
    crowd.begin(GREEDY, MOST - 1)
    await until(lambda: crowd.running == MOST - 1)
    assert not slow.aborted.wait(0.1), "it is worth finishing"
    [(waiting, _)] = crowd.begin(GREEDY)
    await until(lambda: waiting.place.is_held)
    assert slow.aborted.is_set()


async def test_a_verified_download_is_recorded_before_it_yields_its_place(rig: FlightsRig, crowd: Crowd) -> None:
    rig.limit(abandon_after=0.01)
    rig.may_record.clear()
    content, digest = blob_of(100_000)
    flight, _ = rig.flights.join(ANONYMOUS, APP, digest, ScriptedBody.whole(content).fetch)
    assert await read(flight.follow(GREEDY)) == content
    await rig.recording.wait()
    crowd.begin(GREEDY, MOST)
    await until(lambda: rig.flights.places.waiting().total() == 1)
    timer = flight._abandon_timer
    assert timer is not None
    await until(lambda: timer.when() < asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    assert not flight.aborted
    rig.may_record.set()
    await until(lambda: bool(rig.recorded))
    await until(lambda: not rig.flights.places.waiting().total())


async def test_a_stopping_server_waits_for_no_place(rig: FlightsRig, crowd: Crowd) -> None:
    crowd.begin(GREEDY, MOST + 3)
    await until(lambda: crowd.running == MOST)
    for body in crowd.bodies:
        body.respond(Unavailable("over"))
    await rig.flights.close()
    await all_ended(rig)
    assert [body.opened for body in crowd.bodies] == [1] * MOST + [0] * 3
