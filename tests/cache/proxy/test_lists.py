"""Lists of tags and referrers: requested once for all who want the same, and remembered for a moment."""

import asyncio
from datetime import timedelta

import pytest

from cache.oci.errors import ManifestUnknown, NameUnknown, UpstreamUnavailable
from cache.oci.media_types import OCI_MANIFEST
from cache.oci.names import Tag
from cache.proxy.memory import RecentLists
from cache.proxy.pull_through import PullTimings
from cache.proxy.repository import ProxiedRepository
from cache.upstream.errors import AccessDenied, NotFound, Unavailable, UpstreamError
from cache.values import Outcome, PageStart, Source, TagPage
from tests.cache.proxy.bench import BLOB, GRACE, TTL, Bench, until
from tests.cache.samples import ALICE, ANONYMOUS, APP, LATEST, WEB


class Monotonic:
    def __init__(self, bench: Bench) -> None:
        self.now = 0.0
        bench.shared.lists = RecentLists(clock=lambda: self.now)


@pytest.fixture
def clock(bench: Bench) -> Monotonic:
    """The clock of the memory of lists."""
    return Monotonic(bench)


async def test_requests_at_the_same_time_share_one(bench: Bench, clock: Monotonic) -> None:
    bench.script.hold("tags")
    waiting = await bench.begin(*(bench.open(fresh_only=fresh).tags(10) for fresh in (False, True) * 50))
    clock.now += 60
    bench.script.release("tags")
    assert all(found.page.tags == ["latest"] for found in await asyncio.gather(*waiting))
    assert bench.script.take_calls() == ["tags"]


async def test_a_list_is_remembered_for_a_second_after_its_request(bench: Bench, clock: Monotonic) -> None:
    for _ in range(3):
        await bench.open().tags(10)
        await bench.open().referrers(BLOB, None)
    assert bench.script.take_calls() == ["tags", "referrers"]
    clock.now += 1.0
    await bench.open().tags(10)
    await bench.open().referrers(BLOB, None)
    assert bench.script.take_calls() == ["tags", "referrers"]


async def test_a_list_that_took_long_is_not_remembered(bench: Bench, clock: Monotonic) -> None:
    bench.script.hold("tags")
    [waiting] = await bench.begin(bench.open().tags(10))
    await asyncio.sleep(0)
    clock.now += 1.0
    bench.script.release("tags")
    await waiting
    await bench.open().tags(10)
    assert bench.script.take_calls() == ["tags", "tags"]


async def test_a_group_that_takes_only_what_is_fresh_gets_no_remembered_list(bench: Bench, clock: Monotonic) -> None:
    for _ in range(2):
        await bench.open(fresh_only=True).tags(10)
        await bench.open(fresh_only=True).referrers(BLOB, None)
    assert bench.script.take_calls() == ["tags", "referrers"] * 2


@pytest.mark.parametrize(
    "other",
    [
        lambda bench: bench.open(source=ALICE).tags(10),
        lambda bench: bench.open(WEB).tags(10),
        lambda bench: bench.open().tags(None),
        lambda bench: bench.open().tags(10, PageStart(None, "latest")),
    ],
    ids=["another credential", "another image", "no count", "another page"],
)
async def test_another_list_is_another_request(bench: Bench, clock: Monotonic, other: object) -> None:
    await bench.open().tags(10)
    await other(bench)  # type: ignore[operator]
    assert bench.script.take_calls() == ["tags", "tags"]


async def test_what_one_credential_may_list_is_no_list_of_another(bench: Bench, clock: Monotonic) -> None:
    await bench.open(source=ALICE).tags(10)
    bench.script.failure = AccessDenied("no")
    with pytest.raises(NameUnknown):
        await bench.open(source=ANONYMOUS).tags(10)


async def test_a_failure_is_shared_and_not_remembered(bench: Bench, clock: Monotonic) -> None:
    bench.script.hold("tags")
    bench.script.failure = Unavailable("down")
    waiting = await bench.begin(*(bench.open().tags(10) for _ in range(3)))
    bench.script.release("tags")
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [UpstreamUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    assert bench.script.take_calls() == ["tags"]
    bench.script.failure = None
    assert (await bench.open().tags(10)).page.tags == ["latest"]


async def test_a_refusal_forgets_what_was_listed(bench: Bench, clock: Monotonic) -> None:
    repository: ProxiedRepository = bench.open(source=ALICE)
    await repository.tags(10)
    bench.script.failure = AccessDenied("not any more")
    with pytest.raises(ManifestUnknown):
        await repository.manifest(Tag("v1"))
    with pytest.raises(NameUnknown):
        await bench.open(source=ALICE).tags(10)


def test_the_memory_is_bounded_by_count_and_by_bytes() -> None:
    for memory in (RecentLists[int](max_count=3), RecentLists[int](max_bytes=30)):
        for number in range(10):
            memory.note((Source, number), memory.clock(), 10, number)
        assert len(memory) <= 3
        assert memory.find((Source, 9), 1.0) == 9
    memory.note("large", memory.clock(), 31, 0)
    assert memory.find("large", 1.0) is None


# In an outage.

DOWN = Unavailable("registry.example responded with 503")
MANY = TagPage(["v1", "v2", "v3"], PageStart("next=x%26", "v3"))
SIGNATURE = {"mediaType": OCI_MANIFEST, "digest": str(BLOB), "size": 7}


async def test_lists_that_were_seen_are_served_stale_while_the_upstream_fails(bench: Bench, clock: Monotonic) -> None:
    bench.script.pages["n=1000"], bench.script.referrers = MANY, [SIGNATURE]
    await bench.open().tags(10)
    await bench.open().referrers(BLOB, None)
    bench.script.failure = DOWN
    bench.clock.advance(timedelta(hours=3))
    clock.now += 3 * 3600
    for count, expected in ((10, MANY), (2, TagPage(["v1", "v2"], PageStart("n=1000", "v2", 2)))):
        found = await bench.open().tags(count)
        assert (found.page, found.status.outcome, found.status.age) == (expected, Outcome.STALE, timedelta(hours=3))
        assert "last confirmed by registry.example 3 h ago" in found.status.warning
        assert "503" in found.status.warning
    signed = await bench.open().referrers(BLOB, None)
    assert (signed.page.manifests, signed.status.outcome) == ([SIGNATURE], Outcome.STALE)
    bench.script.failure = None
    assert (await bench.open().tags(10)).status.outcome is None


async def test_a_list_that_was_not_seen_is_not_served(bench: Bench, clock: Monotonic) -> None:
    await bench.open(source=ALICE).tags(10)
    bench.script.failure = DOWN
    for other in (bench.open(), bench.open(WEB, source=ALICE)):
        with pytest.raises(UpstreamUnavailable):
            await other.tags(10)
    for query in (bench.open(source=ALICE).tags(None), bench.open(source=ALICE).referrers(BLOB, None)):
        with pytest.raises(UpstreamUnavailable):
            await query


async def test_a_group_that_takes_only_what_is_fresh_gets_no_stale_list(bench: Bench, clock: Monotonic) -> None:
    await bench.open().tags(10)
    bench.script.failure = DOWN
    with pytest.raises(UpstreamUnavailable):
        await bench.open(fresh_only=True).tags(10)


async def test_a_list_beyond_the_grace_is_not_served(bench: Bench, clock: Monotonic) -> None:
    await bench.open().tags(10)
    bench.script.failure = DOWN
    clock.now += 60
    bench.clock.advance(TTL + GRACE)
    with pytest.raises(UpstreamUnavailable):
        await bench.open().tags(10)


@pytest.mark.parametrize("refusal", [AccessDenied("not any more"), NotFound("gone")])
async def test_a_refused_list_is_not_served_in_a_later_outage(
    refusal: UpstreamError, bench: Bench, clock: Monotonic
) -> None:
    await bench.open().tags(10)
    await bench.open().referrers(BLOB, None)
    clock.now += 1
    bench.script.failure = refusal
    with pytest.raises(NameUnknown):
        await bench.open().tags(10)
    bench.script.failure = DOWN
    for query in (bench.open().tags(10), bench.open().referrers(BLOB, None)):
        with pytest.raises(UpstreamUnavailable):
            await query


async def test_a_credential_that_loses_an_image_loses_its_lists(bench: Bench, clock: Monotonic) -> None:
    await bench.hold_tag(source=ALICE)
    await bench.open(source=ALICE).tags(10)
    bench.clock.advance(TTL)
    clock.now += 60
    bench.script.failure = AccessDenied("not any more")
    with pytest.raises(ManifestUnknown):
        await bench.open(source=ALICE).manifest(LATEST)
    bench.script.failure = DOWN
    with pytest.raises(UpstreamUnavailable):
        await bench.open(source=ALICE).tags(10)


async def test_a_list_that_was_requested_before_a_refusal_is_not_kept(bench: Bench, clock: Monotonic) -> None:
    bench.script.hold("tags")
    [waiting] = await bench.begin(bench.open(source=ALICE).tags(10))
    await until(lambda: bench.script.waiting("tags"))
    bench.script.failures["get", APP] = AccessDenied("not any more")
    with pytest.raises(ManifestUnknown):
        await bench.open(source=ALICE).manifest(Tag("v1"))
    bench.script.release("tags")
    await waiting
    bench.script.failure = DOWN
    with pytest.raises(UpstreamUnavailable):
        await bench.open(source=ALICE).tags(10)


async def test_a_list_that_never_comes_is_waited_for_a_while_only(bench: Bench, clock: Monotonic) -> None:
    await bench.open().tags(10)
    clock.now += 60
    bench.shared.timings = PullTimings(list=0.01)
    bench.script.hold("tags")
    assert (await bench.open().tags(10)).status.outcome is Outcome.STALE
    bench.script.release("tags")
