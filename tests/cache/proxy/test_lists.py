"""Lists of tags and referrers: requested once for all who want the same, and remembered for a moment."""

import asyncio

import pytest

from cache.oci.errors import ManifestUnknown, NameUnknown, UpstreamUnavailable
from cache.oci.names import Tag
from cache.proxy.memory import RecentLists
from cache.proxy.repository import ProxiedRepository
from cache.upstream.errors import AccessDenied, Unavailable
from cache.values import PageStart, Source
from tests.cache.proxy.bench import BLOB, Bench
from tests.cache.samples import ALICE, ANONYMOUS, WEB


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
    assert all(page.tags == ["latest"] for page in await asyncio.gather(*waiting))
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
    assert (await bench.open().tags(10)).tags == ["latest"]


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
        assert memory.find((Source, 9)) == 9
    memory.note("large", memory.clock(), 31, 0)
    assert memory.find("large") is None
