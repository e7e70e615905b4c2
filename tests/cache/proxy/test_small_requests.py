"""Requests with small responses: they wait behind no download, groups share their connections, and time is limited."""

import asyncio

import pytest

from cache.download.admission import PlaceLimits, UpstreamPlaces
from cache.oci.errors import UpstreamUnavailable
from cache.oci.names import RepositoryName, Tag
from cache.proxy.pull_through import PullTimings
from cache.runtime.fair_queue import Requester
from tests.cache.proxy.bench import BLOB, HIT, ONE, TTL, TWO, Bench, until
from tests.cache.samples import APP, LATEST, WEB

GREEDY, OTHER = Requester("a", "1"), Requester("b", "1")


@pytest.fixture
async def crowded(bench: Bench) -> Bench:
    """A bench with few places, of which one client got all that it may have, while more of its requests wait."""
    bench.shared.requests = UpstreamPlaces(PlaceLimits(places=8, spare=1, length=20, wait=5.0))
    bench.script.publish(ONE)
    bench.script.hold("get")
    names = [RepositoryName(f"crowd/{number}") for number in range(10)]
    await bench.begin(*[bench.open(name, requester=GREEDY).manifest(LATEST) for name in names])
    await until(lambda: bench.shared.requests.waiting().total() == 5)
    assert bench.shared.requests.held == 5
    return bench


async def test_a_crowd_of_one_client_leaves_places_to_other_groups(crowded: Bench) -> None:
    async with asyncio.timeout(30):
        assert (await crowded.open(requester=OTHER).stat_blob(BLOB)).size
        assert (await crowded.open(requester=OTHER).tags(None)).page.tags
    assert crowded.shared.waiting_misses().total() == 5


async def test_work_that_waits_goes_ahead_with_the_first_of_its_requesters(crowded: Bench) -> None:
    last = RepositoryName("crowd/9")
    await crowded.begin(crowded.open(last, requester=OTHER).manifest(LATEST))
    await until(lambda: crowded.shared.requests.held == 6)
    assert crowded.shared.requests.waiting().total() == 4


async def test_who_is_refused_learns_of_the_queue(crowded: Bench) -> None:
    places = crowded.shared.requests
    for number in range(10, 26):
        crowded.tasks.start(crowded.shared.requests.request(crowded.open()._source.origin, GREEDY), str(number))
    await until(lambda: places.waiting().total() == 20)
    with pytest.raises(UpstreamUnavailable, match="queue") as caught:
        await crowded.open(RepositoryName("crowd/late"), requester=GREEDY).manifest(Tag("late"))
    assert caught.value.headers["Retry-After"]


async def test_every_document_is_read_on_behalf_of_its_requester(bench: Bench) -> None:
    bench.script.publish(ONE)
    repository = bench.open(requester=OTHER)
    await repository.manifest(LATEST)
    await repository.tags(None)
    await repository.referrers(ONE.descriptor.digest, None)
    for tells_digest, moved in ((True, TWO), (False, ONE)):
        bench.script.tells_digest = tells_digest
        bench.script.publish(moved)
        bench.clock.advance(TTL)
        await repository.manifest(LATEST)
    assert bench.script.requesters == [OTHER] * 5


async def test_downloads_do_not_delay_small_requests(bench: Bench) -> None:
    bench.flights.places = UpstreamPlaces(PlaceLimits(places=0, spare=0))
    bench.script.publish(ONE)
    assert (await bench.open().manifest(LATEST)).manifest == ONE
    assert (await bench.open().stat_blob(BLOB)).size


@pytest.mark.parametrize("what", ["get", "head", "head blob"])
async def test_a_response_has_its_headers_in_time_whatever_it_takes(bench: Bench, what: str) -> None:
    bench.shared.timings = PullTimings(headers=0.05)
    bench.script.publish(ONE)
    bench.script.hold(what)
    repository = bench.open(APP)
    pulls = {"get": repository.manifest(LATEST), "head": repository.stat_manifest(LATEST)}
    pull = pulls.pop(what, None) or repository.stat_blob(BLOB)
    for other in pulls.values():
        other.close()
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamUnavailable, match="within") as caught:
            await pull
    assert caught.value.headers["Retry-After"]


@pytest.mark.parametrize("what", ["tag", "digest", "stat", "blob", "stat blob"])
async def test_what_is_cached_is_served_however_late_it_is_read(bench: Bench, what: str) -> None:
    await bench.hold_tag()
    await bench.hold_blob()
    bench.shared.timings = PullTimings(headers=0.0)
    bench.index._drop_all()
    repository, digest = bench.open(), ONE.descriptor.digest
    match what:
        case "tag":
            assert (await repository.manifest(LATEST)).status == HIT
        case "digest":
            assert (await repository.manifest(digest)).status == HIT
        case "stat":
            assert (await repository.stat_manifest(digest)).status == HIT
            assert (await repository.stat_manifest(LATEST)).status == HIT
        case "blob":
            found = await repository.blob(BLOB)
            found.blob.close()
            assert found.status == HIT
        case "stat blob":
            assert (await repository.stat_blob(BLOB)).status == HIT
    with pytest.raises(UpstreamUnavailable, match="within 0 s"):
        await bench.open(WEB).manifest(digest)
