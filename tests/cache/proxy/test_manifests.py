"""Manifests of a proxied repository: which image gets which one, from where, and by which right."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from cache.index.sql import SqlIndex
from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    UpstreamUnavailable,
)
from cache.oci.names import Tag
from cache.proxy.memory import RecentManifests
from cache.proxy.pull_through import PullTimings
from cache.proxy.repository import ProxiedRepository
from cache.upstream.errors import AccessDenied, Corrupt, NoStatement, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import Link, Outcome
from tests.cache.download.scripted import ScriptedBody
from tests.cache.proxy.bench import (
    BLOB,
    COALESCED,
    CONTENT,
    GRACE,
    HIT,
    MISS,
    ONE,
    REVALIDATED,
    TTL,
    TWO,
    Bench,
    content,
)
from tests.cache.samples import (
    ALICE,
    ANONYMOUS,
    APP,
    ELSEWHERE,
    LATEST,
    WEB,
)

# Manifests by tag.


async def test_an_unknown_tag_is_fetched_with_one_get_and_then_held(bench: Bench) -> None:
    bench.script.publish(ONE)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (ONE, MISS)
    assert bench.script.take_calls() == ["get"]
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (ONE, HIT)
    assert bench.script.take_calls() == []


async def test_requests_during_a_fetch_share_it(bench: Bench) -> None:
    bench.script.publish(ONE)
    bench.script.hold("get")
    [first] = await bench.begin(bench.open().manifest(LATEST))
    others = await bench.begin(*[bench.open().manifest(LATEST) for _ in range(5)])
    bench.script.release("get")
    assert (await first).status == MISS
    assert [(await other).status for other in others] == [COALESCED] * 5
    assert bench.script.take_calls() == ["get"]


@pytest.mark.parametrize("failure", [None, Unavailable("down")])
async def test_within_its_ttl_a_tag_is_a_hit_whether_the_upstream_lives_or_not(
    bench: Bench, failure: UpstreamError | None
) -> None:
    await bench.hold_tag()
    bench.script.failure = failure
    bench.clock.advance(TTL - timedelta(seconds=1))
    assert (await bench.open().manifest(LATEST)).status == HIT
    assert (await bench.open().stat_manifest(LATEST)).status == HIT
    assert bench.script.calls == []


async def test_past_its_ttl_a_tag_that_did_not_move_is_revalidated_by_a_head(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (ONE, REVALIDATED)
    assert bench.script.take_calls() == ["head"]
    assert (await bench.open().manifest(LATEST)).status == HIT


async def test_past_its_ttl_a_tag_that_moved_is_fetched_by_digest(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (TWO, MISS)
    assert bench.script.take_calls() == ["head", "get"]
    assert (await bench.open().manifest(LATEST)).manifest == TWO
    assert (await bench.open().manifest(ONE.descriptor.digest)).status == HIT


async def test_an_upstream_that_tells_no_digest_is_asked_for_the_document(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.tells_digest = False
    bench.clock.advance(TTL)
    assert (await bench.open().manifest(LATEST)).status == REVALIDATED
    assert bench.script.take_calls() == ["get"]
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (TWO, MISS)


@pytest.mark.parametrize("tells_digest", [True, False])
async def test_a_manifest_that_is_in_memory_alone_is_recorded_again_when_it_is_confirmed(
    bench: Bench, tells_digest: bool
) -> None:
    bench.script.tells_digest = tells_digest
    await bench.hold_tag()
    evict_rows(bench)
    bench.clock.advance(TTL)
    assert (await bench.open().manifest(LATEST)).status == REVALIDATED
    bench.script.failure = RateLimited("too many requests")
    bench.clock.advance(TTL)
    with another_worker(bench) as worker:
        found = await worker.manifest(LATEST)
    assert (found.manifest, found.status.outcome) == (ONE, Outcome.STALE)


def evict_rows(bench: Bench) -> None:
    """Deletes the rows of all content, as the sweep of another worker does, which leaves memory here."""
    with closing(sqlite3.connect(bench.index.path)) as database, database:
        for table in ("links", "manifests", "pointers"):
            database.execute(f"DELETE FROM {table}")


@contextmanager
def another_worker(bench: Bench) -> Iterator[ProxiedRepository]:
    """The repository as another worker opens it, which has nothing in memory."""
    index, mine = SqlIndex(bench.index.path, clock=lambda: bench.clock().timestamp()), bench.shared.index
    bench.shared.index, bench.shared.recent = index, RecentManifests()
    yield bench.open()
    bench.shared.index = mine
    index.close()


async def test_all_who_revalidate_share_one_head(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL)
    bench.script.hold("head")
    gets = await bench.begin(*[bench.open().manifest(LATEST) for _ in range(3)])
    heads = await bench.begin(*[bench.open().stat_manifest(LATEST) for _ in range(3)])
    bench.script.release("head")
    assert [(await get).status for get in gets] == [REVALIDATED] * 3
    assert [(await head).status for head in heads] == [REVALIDATED] * 3
    assert bench.script.take_calls() == ["head"]


async def test_later_revalidations_coalesce_when_the_tag_moved(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    bench.script.hold("head")
    first, other = await bench.begin(bench.open().manifest(LATEST), bench.open().manifest(LATEST))
    bench.script.release("head")
    assert (await first).status == MISS
    assert (await other).status == COALESCED
    assert (await other).manifest == TWO


@pytest.mark.parametrize("failure", [Unavailable("down"), RateLimited("slowly", 5), Corrupt("a page of HTML")])
async def test_past_its_ttl_a_tag_is_served_stale_within_grace_in_an_outage(
    bench: Bench, failure: UpstreamError
) -> None:
    await bench.hold_tag()
    bench.script.failure = failure
    bench.clock.advance(TTL + GRACE - timedelta(seconds=1))
    found = await bench.open().manifest(LATEST)
    assert found.manifest == ONE
    assert (found.status.outcome, found.status.age) == (Outcome.STALE, TTL + GRACE - timedelta(seconds=1))
    assert failure.reason in found.status.warning
    assert "last confirmed by registry.example 30 days ago" in found.status.warning
    assert "failing since 2024-05-31T12:00:59Z" in found.status.warning
    target = await bench.open().stat_manifest(LATEST)
    assert (target.descriptor, target.status.outcome) == (ONE.descriptor, Outcome.STALE)


async def test_beyond_grace_an_outage_is_an_outage(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.failure = Unavailable("down")
    bench.clock.advance(TTL + GRACE)
    with pytest.raises(UpstreamUnavailable):
        await bench.open().manifest(LATEST)
    bench.script.failure = None
    assert (await bench.open().manifest(LATEST)).status == REVALIDATED


async def test_a_tag_is_served_stale_while_a_slow_upstream_is_still_awaited(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    bench.shared.timings = PullTimings(revalidation=0.01)
    bench.script.hold("head")
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status.outcome, found.status.age) == (ONE, Outcome.STALE, TTL)
    assert "did not respond in time" in found.status.warning
    bench.shared.timings = PullTimings(revalidation_after_silence=10)
    bench.script.release("head")
    later = await bench.open().manifest(LATEST)
    assert later.manifest == TWO
    assert later.status in (COALESCED, HIT)
    assert bench.script.take_calls() == ["head", "get"]


async def test_an_upstream_that_failed_of_late_is_not_waited_for_in_vain(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL)
    bench.shared.timings = PullTimings(revalidation=300)
    bench.script.fails = True
    bench.script.hold("head")
    async with asyncio.timeout(30):
        assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    bench.script.fails = False
    async with asyncio.timeout(30):  # later requests do not wait either
        assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    bench.script.release("head")


async def test_revalidating_takes_two_seconds_at_most_and_all_else_twenty() -> None:
    timings = PullTimings()
    assert (timings.revalidation, timings.headers) == (2.0, 20.0)
    assert timings.response < timings.headers


async def test_beyond_grace_only_the_upstream_s_response_counts(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL + GRACE)
    bench.shared.timings = PullTimings(response=0.02, revalidation=0.0)
    bench.script.hold("head")
    with pytest.raises(UpstreamUnavailable):
        await bench.open().manifest(LATEST)
    bench.script.release("head")


async def test_a_tag_that_is_gone_is_unknown_and_its_digest_stays_readable(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL)
    del bench.script.manifests[LATEST]
    with pytest.raises(ManifestUnknown):
        await bench.open().manifest(LATEST)
    bench.script.failure = Unavailable("down")
    assert (await bench.open().manifest(ONE.descriptor.digest)).status == HIT
    with pytest.raises(UpstreamUnavailable):  # the pointer is gone with the tag, so nothing may be served stale
        await bench.open().manifest(LATEST)


async def test_a_denial_of_the_credential_takes_its_rights_to_the_image_away_and_no_others(bench: Bench) -> None:
    for image in (APP, WEB):
        await bench.hold_tag(image, ALICE)
        await bench.hold_blob(image, ALICE)
    await bench.hold_tag(APP, ANONYMOUS)
    bench.script.failures["head", APP] = bench.script.failures["tags", APP] = AccessDenied("not any more")
    bench.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await bench.open(APP, ALICE).manifest(LATEST)
    assert not await bench.index.linked(Link(ALICE, APP, ONE.descriptor.digest))
    assert not await bench.index.linked(Link(ALICE, APP, BLOB))
    assert await bench.index.find_pointer(ALICE, APP, LATEST) is None
    assert await bench.index.linked(Link(ALICE, WEB, BLOB))
    assert await bench.index.linked(Link(ANONYMOUS, APP, ONE.descriptor.digest))


@pytest.mark.parametrize("granted", ["a tag known good", "the list of tags", "neither responds"])
@pytest.mark.parametrize("reference", [LATEST, TWO.descriptor.digest, BLOB])
async def test_a_refusal_of_one_reference_takes_that_one_away_and_not_the_image(
    bench: Bench, reference: Tag | Digest, granted: str
) -> None:
    kept = Tag("kept")
    bench.script.publish(ONE, kept)
    await bench.open(APP, ALICE).manifest(kept)
    bench.clock.advance(TTL)
    await bench.hold_tag(APP, ALICE)
    denied = AccessDenied("blocked by policy")
    for call in ("head", "get", "get blob", "head blob"):
        bench.script.failures[call, APP, reference] = denied
    if granted == "the list of tags":
        bench.script.failures["head", APP] = denied
    elif granted == "neither responds":
        bench.script.failures["head", APP] = bench.script.failures["tags", APP] = Unavailable("down")
    await bench.index.record(Link(ALICE, APP, TWO.descriptor.digest), Link(ALICE, APP, BLOB))
    bench.clock.advance(TTL)
    repository = bench.open(APP, ALICE)
    with pytest.raises((ManifestUnknown, BlobUnknown)):
        await (repository.blob(BLOB) if reference == BLOB else repository.manifest(reference))
    assert (await bench.index.find_pointer(ALICE, APP, LATEST) is None) is (reference == LATEST)
    assert await bench.index.linked(Link(ALICE, APP, BLOB)) is (reference != BLOB)
    assert await bench.index.linked(Link(ALICE, APP, TWO.descriptor.digest)) is (reference != TWO.descriptor.digest)
    assert await bench.index.find_pointer(ALICE, APP, kept) is not None
    assert (await repository.manifest(ONE.descriptor.digest)).status == HIT


async def test_a_denial_of_strangers_is_a_tag_that_is_gone(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.failure = AccessDenied("no such thing for you")
    bench.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await bench.open().manifest(LATEST)
    assert await bench.index.find_pointer(ANONYMOUS, APP, LATEST) is None
    assert (await bench.open().manifest(ONE.descriptor.digest)).status == HIT


@pytest.mark.parametrize("how", ["blob", "stat_blob", "follow"])
async def test_a_denial_of_the_credential_for_a_blob_takes_its_rights_away_too(bench: Bench, how: str) -> None:
    await bench.hold_tag(APP, ALICE)
    for call in ("head blob", "get blob", "head", "tags"):
        bench.script.failures[call, APP] = AccessDenied("not any more")
    if how == "follow":  # another image's download is running; APP may join it if it proves its right
        bench.script.bodies[WEB] = ScriptedBody(len(CONTENT))
        other = await bench.open(WEB, ALICE).blob(BLOB)
    repository = bench.open(APP, ALICE)
    with pytest.raises(BlobUnknown):
        await (repository.stat_blob(BLOB) if how == "stat_blob" else repository.blob(BLOB))
    assert not await bench.index.linked(Link(ALICE, APP, ONE.descriptor.digest))
    assert await bench.index.find_pointer(ALICE, APP, LATEST) is None
    if how == "follow":
        bench.script.bodies[WEB].send(CONTENT)
        bench.script.bodies[WEB].end()
        assert await content(other) == CONTENT


# HEAD of manifests.


async def test_a_head_of_an_unknown_tag_is_passed_on_and_downloads_nothing(bench: Bench) -> None:
    bench.script.publish(ONE)
    found = await bench.open().stat_manifest(LATEST)
    assert (found.descriptor, found.status) == (ONE.descriptor, MISS)
    assert bench.script.take_calls() == ["head"]
    assert (await bench.open().stat_manifest(LATEST)).status == HIT


async def test_head_by_tag_then_get_by_digest_serves_the_tag_with_the_upstream_dead(bench: Bench) -> None:
    """Docker and containerd pull like this."""
    bench.script.publish(ONE)
    await bench.open().stat_manifest(LATEST)
    assert (await bench.open().manifest(ONE.descriptor.digest)).status == MISS
    bench.script.failure = Unavailable("down")
    assert (await bench.open().manifest(LATEST)).status == HIT
    bench.clock.advance(TTL)
    assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE


async def test_heads_of_an_unknown_tag_coalesce(bench: Bench) -> None:
    bench.script.publish(ONE)
    bench.script.hold("head")
    [first] = await bench.begin(bench.open().stat_manifest(LATEST))
    [other] = await bench.begin(bench.open().stat_manifest(LATEST))
    bench.script.release("head")
    assert (await first).status == MISS
    assert (await other).status == COALESCED
    assert bench.script.take_calls() == ["head"]


async def test_a_head_by_digest_is_passed_on_and_gives_no_right(bench: Bench) -> None:
    bench.script.publish(ONE)
    digest = ONE.descriptor.digest
    found = await bench.open().stat_manifest(digest)
    assert (found.descriptor, found.status) == (ONE.descriptor, MISS)
    assert not await bench.index.linked(Link(ANONYMOUS, APP, digest))
    await bench.open().manifest(digest)
    bench.script.take_calls()
    assert (await bench.open().stat_manifest(digest)).status == HIT
    assert bench.script.calls == []


# Manifests by digest, and the right to them.


async def test_a_digest_is_fetched_once_and_then_held_for_ever(bench: Bench) -> None:
    bench.script.publish(ONE)
    digest = ONE.descriptor.digest
    assert (await bench.open().manifest(digest)).status == MISS
    bench.clock.advance(TTL + GRACE * 10)
    bench.script.failure = Unavailable("down")
    assert (await bench.open().manifest(digest)).status == HIT


async def test_another_image_of_the_same_origin_proves_its_right_to_a_manifest_by_a_head(bench: Bench) -> None:
    await bench.hold_tag()
    digest = ONE.descriptor.digest
    for image, source in ((WEB, ANONYMOUS), (APP, ALICE)):
        for _ in range(2):  # a HEAD wins no right, so that the next GET does not tell what is cached
            assert (await bench.open(image, source).stat_manifest(digest)).status == MISS
            assert bench.script.take_calls() == ["head"]
        assert (await bench.open(image, source).manifest(digest)).status == MISS
        assert bench.script.take_calls() == ["head"]
        assert (await bench.open(image, source).manifest(digest)).status == HIT
        assert bench.script.take_calls() == []


@pytest.mark.parametrize("failure", [Unavailable("503"), RateLimited("429")])
async def test_an_outage_that_a_proof_of_a_manifest_meets_is_no_reason_to_fetch_it(
    bench: Bench, failure: UpstreamError
) -> None:
    await bench.hold_tag()
    bench.script.failures["head", WEB] = failure
    with pytest.raises(UpstreamUnavailable):
        await bench.open(WEB).manifest(ONE.descriptor.digest)
    assert bench.script.take_calls() == ["head"]


@pytest.mark.parametrize("failure", [NotFound("404"), AccessDenied("403"), NoStatement("a page")])
async def test_a_manifest_that_another_image_has_is_fetched_where_no_head_proves_the_right(
    bench: Bench, failure: UpstreamError
) -> None:
    await bench.hold_tag()
    bench.script.failures["head", WEB] = failure
    digest = ONE.descriptor.digest
    assert (await bench.open(WEB).manifest(digest)).status == MISS
    assert bench.script.take_calls() == ["head", "get"]
    assert (await bench.open(WEB).manifest(digest)).status == HIT


@pytest.mark.parametrize("failure", [NotFound("none"), AccessDenied("no"), Unavailable("down")])
async def test_without_the_upstream_s_word_another_image_gets_nothing(bench: Bench, failure: UpstreamError) -> None:
    await bench.hold_tag()
    await bench.hold_blob()
    bench.script.failure = failure
    expected = UpstreamUnavailable if isinstance(failure, Unavailable) else ManifestUnknown
    expected_blob = UpstreamUnavailable if isinstance(failure, Unavailable) else BlobUnknown
    for repository in (bench.open(WEB), bench.open(APP, ALICE), bench.open(APP, ELSEWHERE)):
        with pytest.raises(expected):
            await repository.manifest(ONE.descriptor.digest)
        with pytest.raises(expected):
            await repository.stat_manifest(ONE.descriptor.digest)
        with pytest.raises(expected_blob):
            await repository.blob(BLOB)
        with pytest.raises(expected_blob):
            await repository.stat_blob(BLOB)
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


async def test_another_origin_must_send_the_manifest_itself(bench: Bench) -> None:
    await bench.hold_tag()
    assert (await bench.open(APP, ELSEWHERE).manifest(ONE.descriptor.digest)).status == MISS
    assert bench.script.take_calls() == ["get"]
