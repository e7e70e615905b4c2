"""Tags under rules of freshness, while a limit is nearly used up, and after they were absent."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cache.index.sql import SqlIndex
from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    UpstreamUnavailable,
)
from cache.oci.names import Tag
from cache.policy.freshness import TagRule, TagRules
from cache.proxy.memory import Absences
from cache.proxy.pull_through import PullTimings
from cache.upstream.allowance import Allowance
from cache.upstream.errors import AccessDenied, Corrupt, RateLimited, Unavailable, UpstreamError
from cache.values import Outcome, Source
from tests.cache.proxy.bench import (
    BLOB,
    GRACE,
    HIT,
    MISS,
    ONE,
    REVALIDATED,
    TTL,
    TWO,
    Bench,
    until,
)
from tests.cache.samples import (
    ALICE,
    ANONYMOUS,
    APP,
    LATEST,
    WEB,
)

YEARS = timedelta(days=9999)

# Clocks that were wrong.


@pytest.mark.parametrize("fresh_only", [False, True])
async def test_a_tag_that_was_pulled_under_a_wrong_clock_is_confirmed_and_dated_anew(
    bench: Bench, fresh_only: bool
) -> None:
    bench.clock.advance(YEARS)
    await bench.hold_tag()
    bench.clock.advance(-YEARS)
    bench.script.publish(TWO)
    found = await bench.open(fresh_only=fresh_only).manifest(LATEST)
    assert (found.manifest, found.status) == (TWO, MISS)
    bench.script.take_calls()
    assert (await bench.open(fresh_only=fresh_only).manifest(LATEST)).status == HIT
    pointer = await bench.index.find_pointer(ANONYMOUS, APP, LATEST)
    assert pointer is not None
    assert pointer.checked_at == bench.clock.now


async def test_a_refresh_dates_a_tag_of_the_future_anew(bench: Bench) -> None:
    bench.clock.advance(YEARS)
    await bench.hold_tag()
    bench.clock.advance(-YEARS)
    assert (await bench.open().refresh(LATEST)).manifest == ONE
    for index in (bench.index, again := SqlIndex(bench.index.path)):
        pointer = await index.find_pointer(ANONYMOUS, APP, LATEST)
        assert pointer is not None
        assert pointer.checked_at == bench.clock.now
    again.close()


async def test_what_was_remembered_under_a_wrong_clock_is_forgotten(bench: Bench) -> None:
    bench.shared.absences = Absences(timedelta(minutes=1))
    bench.clock.advance(YEARS)
    with pytest.raises(ManifestUnknown):
        await bench.open().manifest(LATEST)
    bench.clock.advance(-YEARS)
    bench.script.publish(ONE)
    assert (await bench.open().manifest(LATEST)).status == MISS


# Limits.


def limited(bench: Bench, remaining: int, **more: Any) -> None:
    """Note that the upstream has stated so many of a hundred pulls as left."""
    known = Allowance(limit=100, remaining=remaining, window=21600, told_at=time.time(), **more)
    bench.script.ledger.note(ANONYMOUS, lambda _: known)


async def test_while_little_is_left_tags_are_fresh_ten_times_longer(bench: Bench) -> None:
    await bench.hold_tag()
    limited(bench, 7)
    bench.clock.advance(TTL * 10 - timedelta(seconds=1))
    assert (await bench.open().manifest(LATEST)).status == HIT
    assert bench.script.take_calls() == []
    bench.clock.advance(timedelta(seconds=1))
    assert (await bench.open().manifest(LATEST)).status == REVALIDATED


async def test_while_next_to_nothing_is_left_it_is_kept_for_images_that_are_not_cached(bench: Bench) -> None:
    await bench.hold_tag()
    limited(bench, 3)
    bench.clock.advance(TTL * 10)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status.outcome) == (ONE, Outcome.STALE)
    assert "nearly used up: 3 of 100 are left" in found.status.warning
    assert "last confirmed by registry.example 10 min ago" in found.status.warning
    assert bench.script.take_calls() == []
    bench.script.publish(TWO, Tag("new"))
    assert (await bench.open().manifest(Tag("new"))).status == MISS


async def test_checks_that_cost_nothing_are_not_saved_and_the_pulls_after_them_are(bench: Bench) -> None:
    await bench.hold_tag()
    limited(bench, 3)
    repository = bench.open()
    repository._client.quota.free_checks = True
    bench.clock.advance(TTL)
    assert (await repository.manifest(LATEST)).status == REVALIDATED
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    bench.script.take_calls()
    found = await repository.manifest(LATEST)
    assert (found.manifest, found.status.outcome) == (ONE, Outcome.STALE)
    assert bench.script.take_calls() == ["head"]


async def test_a_miss_waits_for_a_pause_that_ends_soon_and_is_counted_while_it_waits(bench: Bench) -> None:
    bench.script.publish(ONE)
    limited(bench, 0, until=time.time() + 10)
    [waiting] = await bench.begin(bench.open().manifest(LATEST))
    await until(lambda: bench.shared.waiting_misses() == {ANONYMOUS.origin: 1})
    assert bench.script.calls == []
    limited(bench, 50)
    async with asyncio.timeout(10):
        assert (await waiting).status == MISS
    assert bench.shared.waiting_misses() == {ANONYMOUS.origin: 0}


# Freshness by rule, absences, and fresh-only.

NEGATIVE = timedelta(seconds=10)


@contextmanager
def bench_with(folder: Path, rules: TagRules) -> Iterator[Bench]:
    bench = Bench(folder, rules)
    try:
        yield bench
    finally:
        bench.index.close()


async def test_each_tag_is_fresh_for_the_time_of_its_rule(tmp_path: Path) -> None:
    rules = TagRules(TTL, GRACE, (TagRule("v*", timedelta(days=1)),))
    with bench_with(tmp_path, rules) as bench:
        for tag in (LATEST, Tag("v1")):
            bench.script.publish(ONE, tag)
            await bench.open().manifest(tag)
        bench.script.take_calls()
        bench.clock.advance(TTL)
        assert (await bench.open().manifest(Tag("v1"))).status == HIT
        assert (await bench.open().stat_manifest(Tag("v1"))).status == HIT
        assert bench.script.take_calls() == []
        assert (await bench.open().manifest(LATEST)).status == REVALIDATED
        bench.clock.advance(timedelta(days=1))
        assert (await bench.open().stat_manifest(Tag("v1"))).status == REVALIDATED
        assert bench.script.take_calls() == ["head", "head"]


@pytest.mark.parametrize("reference", [LATEST, ONE.descriptor.digest])
@pytest.mark.parametrize("credential", [ANONYMOUS, ALICE])
@pytest.mark.parametrize("refusal", [None, AccessDenied("not for you")])
async def test_what_the_upstream_does_not_have_is_asked_for_once_in_a_while(
    tmp_path: Path, reference: Tag | Digest, credential: Source, refusal: UpstreamError | None
) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, negative_ttl=NEGATIVE)) as bench:
        bench.script.failure = refusal
        for _ in range(3):
            with pytest.raises(ManifestUnknown):
                await bench.open(source=credential).manifest(reference)
            with pytest.raises(ManifestUnknown):
                await bench.open(source=credential).stat_manifest(reference)
        assert len(bench.script.take_calls()) == 1
        with pytest.raises(ManifestUnknown):  # an absence concerns one image alone
            await bench.open(WEB, credential).manifest(reference)
        assert len(bench.script.take_calls()) == 1
        bench.script.failure = None
        bench.script.publish(ONE)
        bench.clock.advance(NEGATIVE)
        assert (await bench.open(source=credential).manifest(reference)).manifest == ONE


async def test_an_outage_is_not_remembered_as_an_absence(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, negative_ttl=NEGATIVE)) as bench:
        bench.script.publish(ONE)
        bench.script.failure = Unavailable("down")
        with pytest.raises(UpstreamUnavailable):
            await bench.open().manifest(LATEST)
        bench.script.failure = None
        assert (await bench.open().manifest(LATEST)).status == MISS


async def test_a_tag_that_is_gone_leaves_its_digests_and_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, negative_ttl=NEGATIVE)) as bench:
        await bench.hold_tag()
        bench.clock.advance(TTL)
        del bench.script.manifests[LATEST]
        for _ in range(3):
            with pytest.raises(ManifestUnknown):
                await bench.open().manifest(LATEST)
        assert bench.script.take_calls() == ["head"]
        assert (await bench.open().manifest(ONE.descriptor.digest)).status == HIT


async def test_a_blob_that_is_unknown_is_asked_for_each_time(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, negative_ttl=NEGATIVE)) as bench:
        bench.script.blobs.clear()
        for _ in range(2):
            with pytest.raises(BlobUnknown):
                await bench.open().stat_blob(BLOB)
        assert bench.script.take_calls() == ["head blob", "head blob"]


@pytest.mark.parametrize("failure", [Unavailable("down"), RateLimited("slowly", 7), Corrupt("a page of HTML")])
async def test_fresh_only_is_refused_past_the_ttl_in_an_outage(bench: Bench, failure: UpstreamError) -> None:
    await bench.hold_tag()
    bench.script.failure = failure
    assert (await bench.open(fresh_only=True).manifest(LATEST)).status == HIT
    bench.clock.advance(TTL)
    for read in (bench.open(fresh_only=True).manifest, bench.open(fresh_only=True).stat_manifest):
        with pytest.raises(UpstreamUnavailable, match="fresh-only") as caught:
            await read(LATEST)
        assert failure.reason in str(caught.value)
        assert int(caught.value.headers["Retry-After"]) == (7 if isinstance(failure, RateLimited) else 5)
    assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    assert (await bench.open(fresh_only=True).manifest(ONE.descriptor.digest)).status == HIT
    bench.script.failure = None
    assert (await bench.open(fresh_only=True).manifest(LATEST)).status == REVALIDATED


async def test_a_rule_may_be_fresh_only_too(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, (TagRule("latest", TTL, fresh_only=True),))) as bench:
        await bench.hold_tag()
        bench.clock.advance(TTL)
        bench.script.failure = Unavailable("down")
        with pytest.raises(UpstreamUnavailable, match="fresh-only"):
            await bench.open().manifest(LATEST)


async def test_a_silent_upstream_is_not_waited_for_long_until_it_responds(
    bench: Bench,
) -> None:
    await bench.hold_tag()
    bench.script.publish(ONE, Tag("v1"))
    await bench.open().manifest(Tag("v1"))
    bench.clock.advance(TTL)
    bench.script.hold("head")
    bench.shared.timings = PullTimings(revalidation=0.01)
    assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    bench.shared.timings = PullTimings(revalidation=60.0, revalidation_after_silence=0.01)
    async with asyncio.timeout(30):
        assert (await bench.open().manifest(Tag("v1"))).status.outcome is Outcome.STALE
    bench.script.release("head")
    await until(lambda: bench.shared.outages.find(ANONYMOUS) is None)


async def test_refreshing_calls_the_upstream_whatever_is_fresh(bench: Bench) -> None:
    bench.script.publish(ONE)
    first = await bench.open().refresh(LATEST)
    assert (first.before, first.manifest) == (None, ONE)
    same = await bench.open().refresh(LATEST)
    assert (same.before, same.manifest) == (ONE.descriptor.digest, ONE)
    bench.script.publish(TWO)
    moved = await bench.open().refresh(LATEST)
    assert (moved.before, moved.manifest) == (ONE.descriptor.digest, TWO)
    assert bench.script.take_calls() == ["get", "head", "head", "get"]
    assert (await bench.open().manifest(LATEST)).status == HIT


async def test_refreshing_drops_a_tag_that_is_gone_and_looks_again_for_what_was_absent(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, negative_ttl=NEGATIVE)) as bench:
        await bench.hold_tag()
        del bench.script.manifests[LATEST]
        with pytest.raises(ManifestUnknown):
            await bench.open().refresh(LATEST)
        with pytest.raises(ManifestUnknown):
            await bench.open().manifest(LATEST)
        bench.script.publish(TWO)
        refreshed = await bench.open().refresh(LATEST)
        assert (refreshed.before, refreshed.manifest) == (None, TWO)
