"""ProxiedRepository: who gets what from where, over a real index and store and a scripted upstream."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cache.download.flight import Flights
from cache.download.incoming import Incoming
from cache.download.leased_spool import LEASES, DownloadStorage
from cache.index.sql import SqlIndex
from cache.index.usage import UsageFile
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import TagRule, TagRules
from cache.proxy.repository import ProxiedRepository
from cache.proxy.rights import record_arrival
from cache.proxy.shared import PullThrough, PullTimings
from cache.repository import CacheStatus, FoundBlob
from cache.runtime.tasks import Tasks
from cache.store.base import OpenBlob
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.upstream.ledger import Ledger, Quota
from cache.upstream.quota import Allowance, RequestKind
from cache.values import Link, Outcome, Part, ReferrersPage, Rest, Source, TagPage
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import (
    ALICE,
    ANONYMOUS,
    APP,
    ELSEWHERE,
    LATEST,
    NOON,
    WEB,
    blob_of,
    manifest_of,
    open_descriptors,
)

T = TypeVar("T")
TTL, GRACE = timedelta(minutes=1), timedelta(days=30)
RULES = TagRules(TTL, GRACE)
ONE, TWO = manifest_of("one"), manifest_of("two")
CONTENT, BLOB = blob_of(100_000)
HIT, MISS, STALE, REVALIDATED, COALESCED = (CacheStatus(outcome) for outcome in Outcome)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, by: timedelta) -> None:
        self.now += by


class Script:
    """What the upstream holds, says and was asked; shared by clients of all sources."""

    def __init__(self) -> None:
        self.manifests: dict[Tag | Digest, Manifest] = {}
        self.blobs: dict[Digest, bytes] = {BLOB: CONTENT}
        self.bodies: dict[RepositoryName, ScriptedBody] = {}
        self.failure: UpstreamError | None = None
        self.failures: dict[tuple[str, RepositoryName], UpstreamError] = {}
        self.tells_digest = True
        self.ledger = Ledger()
        self.fails = False
        self.calls: list[str] = []
        self._held: dict[str, asyncio.Event] = {}

    def publish(self, manifest: Manifest, tag: Tag = LATEST) -> None:
        self.manifests[tag] = self.manifests[manifest.descriptor.digest] = manifest

    def hold(self, what: str) -> None:
        self._held[what] = asyncio.Event()

    def release(self, what: str) -> None:
        self._held.pop(what).set()

    async def pause(self, what: str) -> None:
        if what in self._held:
            await self._held[what].wait()

    def note(self, what: str, image: RepositoryName) -> None:
        self.calls.append(what)
        error = self.failures.get((what, image), self.failure)
        if error is not None:
            raise error.again()

    def take_calls(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


class ScriptedClient:
    """An UpstreamClient that answers what the script says."""

    host = "registry.example"

    def __init__(self, script: Script, source: Source) -> None:
        self.source = source
        self.has_credential = not source.credential.is_anonymous
        self.quota = Quota(script.ledger, source)
        self._script = script

    @property
    def primary(self) -> "ScriptedClient":
        return self

    def fails(self, image: RepositoryName) -> bool:
        return self._script.fails

    def pause(self, ask: RequestKind) -> float:
        return self.quota.pause(ask)

    async def head_manifest(self, image: RepositoryName, reference: Tag | Digest) -> Descriptor | None:
        return (await self._manifest("head", image, reference)).descriptor if self._script.tells_digest else None

    async def get_manifest(self, image: RepositoryName, reference: Tag | Digest) -> Manifest:
        return await self._manifest("get", image, reference)

    async def head_blob(self, image: RepositoryName, digest: Digest) -> int | None:
        await self._script.pause("head blob")
        self._script.note("head blob", image)
        if digest not in self._script.blobs:
            raise NotFound("no such blob")
        return len(self._script.blobs[digest])

    @contextmanager
    def open_blob(self, image: RepositoryName, digest: Digest, part: Part | Rest | None = None) -> Iterator[Incoming]:
        self._script.note("get blob", image)
        if digest not in self._script.blobs:
            raise NotFound("no such blob")
        body = self._script.bodies.get(image) or ScriptedBody.whole(self._script.blobs[digest])
        with body.fetch(part) as incoming:
            yield incoming

    async def tags(self, image: RepositoryName, count: int | None, last: str | None) -> TagPage:
        await self._script.pause("tags")
        self._script.note("tags", image)
        return TagPage(["latest"], None)

    async def referrers(self, image: RepositoryName, digest: Digest, artifact_type: str | None) -> ReferrersPage:
        self._script.note("referrers", image)
        return ReferrersPage([], filtered=False)

    async def _manifest(self, what: str, image: RepositoryName, reference: Tag | Digest) -> Manifest:
        await self._script.pause(what)
        self._script.note(what, image)
        if reference not in self._script.manifests:
            raise NotFound("no such manifest")
        return self._script.manifests[reference]


class CountedPullThrough(PullThrough):
    """Tells when a request has come to wait for a shared task."""

    waiting = 0

    def share(
        self, key: Hashable, work: Callable[[], Coroutine[Any, Any, T | UpstreamError]]
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        self.waiting += 1
        return super().share(key, work)


class Bench:
    def __init__(self, folder: Path, rules: TagRules = RULES) -> None:
        (folder / "spools").mkdir()
        self.script, self.clock, self.tasks = Script(), Clock(), Tasks()
        self.index, self.store = SqlIndex(folder / "cache.db"), FilesystemStore(folder / "blobs")
        self.usage = UsageFile(folder / "usage.db")
        storage = DownloadStorage(folder / "spools", self.store, Quarantine(folder / "quarantine"))
        self.flights = Flights(storage, self.tasks, lambda flight: record_arrival(self.index, flight))
        self.shared = CountedPullThrough(
            index=self.index,
            usage=self.usage,
            store=self.store,
            flights=self.flights,
            tasks=self.tasks,
            rules=rules,
            clock=self.clock,
        )

    def open(
        self, image: RepositoryName = APP, source: Source = ANONYMOUS, *, fresh_only: bool = False
    ) -> ProxiedRepository:
        client = ScriptedClient(self.script, source)
        return ProxiedRepository(self.shared, client, image, fresh_only=fresh_only)

    async def landed(self) -> None:
        """Every download is over, and what it brought is written down."""
        await until(lambda: not self.flights)

    async def begin(self, *works: Coroutine[Any, Any, T]) -> "list[asyncio.Task[T]]":
        """Begun, and each waiting for a shared task."""
        wanted = self.shared.waiting + len(works)
        futures = [asyncio.create_task(work) for work in works]
        await until(lambda: self.shared.waiting == wanted)
        return futures

    async def hold_blob(self, image: RepositoryName = APP, source: Source = ANONYMOUS) -> None:
        """The blob is here, with a link for that image."""
        assert await content(await self.open(image, source).blob(BLOB)) == CONTENT
        await self.landed()
        self.script.take_calls()

    async def hold_tag(self, image: RepositoryName = APP, source: Source = ANONYMOUS) -> None:
        self.script.publish(ONE)
        await self.open(image, source).manifest(LATEST)
        self.script.take_calls()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    before = open_descriptors()
    bench = Bench(tmp_path)
    yield bench
    await bench.tasks.close()
    bench.index.close()
    assert len(bench.flights) == 0
    assert [path.name for path in (tmp_path / "spools").iterdir() if path.name != LEASES] == []
    assert open_descriptors() <= before


async def content(found: FoundBlob) -> bytes:
    blob: OpenBlob = found.blob
    try:
        return b"".join([await blob.read(extent) async for extent in blob.ready(0, None)])
    finally:
        blob.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the index and the downloads answer in threads
            await asyncio.sleep(0.001)


# Manifests by tag.


async def test_an_unknown_tag_is_fetched_with_one_get_and_then_held(bench: Bench) -> None:
    bench.script.publish(ONE)
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (ONE, MISS)
    assert bench.script.take_calls() == ["get"]
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status) == (ONE, HIT)
    assert bench.script.take_calls() == []


async def test_who_asks_while_it_is_fetched_shares_the_fetch(bench: Bench) -> None:
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
    assert (await bench.open().manifest(LATEST)).status == MISS
    assert bench.script.take_calls() == ["get"]


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


async def test_who_revalidates_with_the_first_coalesces_when_the_tag_moved(bench: Bench) -> None:
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
async def test_past_its_ttl_an_outage_is_answered_stale_within_grace(bench: Bench, failure: UpstreamError) -> None:
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


async def test_an_upstream_that_takes_too_long_is_answered_stale_and_heard_out(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.publish(TWO)
    bench.clock.advance(TTL)
    bench.shared.timings = PullTimings(revalidation=0.01)
    bench.script.hold("head")
    found = await bench.open().manifest(LATEST)
    assert (found.manifest, found.status.outcome, found.status.age) == (ONE, Outcome.STALE, TTL)
    assert "did not answer in time" in found.status.warning
    bench.shared.timings = PullTimings(revalidation_after_silence=10)
    bench.script.release("head")
    later = await bench.open().manifest(LATEST)
    assert later.manifest == TWO
    assert later.status in (COALESCED, HIT)
    assert bench.script.take_calls() == ["head", "get"]


async def test_an_upstream_that_failed_of_late_is_not_waited_for_in_vain(bench: Bench) -> None:
    await bench.hold_tag()
    bench.clock.advance(TTL)
    bench.shared.timings = PullTimings(revalidation=30)
    bench.script.fails = True
    bench.script.hold("head")
    async with asyncio.timeout(10):
        assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    bench.script.fails = False
    async with asyncio.timeout(10):  # nor by those who come after the one that waited
        assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    bench.script.release("head")


async def test_revalidating_takes_two_seconds_at_most_and_all_else_twenty() -> None:
    assert (PullTimings().revalidation, PullTimings().response) == (2.0, 20.0)


async def test_beyond_grace_there_is_no_answer_but_the_upstream_s(bench: Bench) -> None:
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
    bench.script.failures["head", APP] = AccessDenied("not any more")
    bench.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await bench.open(APP, ALICE).manifest(LATEST)
    assert not await bench.index.linked(Link(ALICE, APP, ONE.descriptor.digest))
    assert not await bench.index.linked(Link(ALICE, APP, BLOB))
    assert await bench.index.find_pointer(ALICE, APP, LATEST) is None
    assert await bench.index.linked(Link(ALICE, WEB, BLOB))
    assert await bench.index.linked(Link(ANONYMOUS, APP, ONE.descriptor.digest))


async def test_a_denial_of_strangers_is_a_tag_that_is_gone(bench: Bench) -> None:
    await bench.hold_tag()
    bench.script.failure = AccessDenied("no such thing for you")
    bench.clock.advance(TTL)
    with pytest.raises(ManifestUnknown):
        await bench.open().manifest(LATEST)
    assert await bench.index.find_pointer(ANONYMOUS, APP, LATEST) is None
    assert (await bench.open().manifest(ONE.descriptor.digest)).status == HIT


@pytest.mark.parametrize("asking", ["blob", "stat_blob", "follow"])
async def test_a_denial_of_the_credential_for_a_blob_takes_its_rights_away_too(bench: Bench, asking: str) -> None:
    await bench.hold_tag(APP, ALICE)
    bench.script.failures["head blob", APP] = bench.script.failures["get blob", APP] = AccessDenied("not any more")
    if asking == "follow":  # somebody else's download is running, which APP may join if it proves its right
        bench.script.bodies[WEB] = ScriptedBody(len(CONTENT))
        other = await bench.open(WEB, ALICE).blob(BLOB)
    repository = bench.open(APP, ALICE)
    with pytest.raises(BlobUnknown):
        await (repository.stat_blob(BLOB) if asking == "stat_blob" else repository.blob(BLOB))
    assert not await bench.index.linked(Link(ALICE, APP, ONE.descriptor.digest))
    assert await bench.index.find_pointer(ALICE, APP, LATEST) is None
    if asking == "follow":
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
    """As docker and containerd pull."""
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


@pytest.mark.parametrize("how", ["manifest", "stat_manifest"])
async def test_another_image_of_the_same_origin_wins_the_right_to_a_manifest_by_a_head(bench: Bench, how: str) -> None:
    await bench.hold_tag()
    digest = ONE.descriptor.digest
    for image, source in ((WEB, ANONYMOUS), (APP, ALICE)):
        found = await getattr(bench.open(image, source), how)(digest)
        assert found.status == REVALIDATED
        assert bench.script.take_calls() == ["head"]
        assert (await bench.open(image, source).manifest(digest)).status == HIT
        assert bench.script.take_calls() == []


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


# Blobs.


async def test_a_blob_is_fetched_once_and_then_held_for_ever(bench: Bench) -> None:
    found = await bench.open().blob(BLOB)
    assert found.status == MISS
    assert await content(found) == CONTENT
    await bench.landed()
    assert bench.script.take_calls() == ["get blob"]
    bench.script.failure = Unavailable("down")
    bench.clock.advance(TTL + GRACE * 10)
    found = await bench.open().blob(BLOB)
    assert (found.status, await content(found)) == (HIT, CONTENT)
    assert (await bench.open().stat_blob(BLOB)).status == HIT
    assert bench.script.calls == []


async def test_who_asks_for_a_blob_that_is_on_its_way_follows_it(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open().blob(BLOB)
    other = await bench.open().blob(BLOB)
    assert (first.status, other.status) == (MISS, COALESCED)
    assert first.blob.size == other.blob.size == len(CONTENT)
    body.send(CONTENT)
    body.end()
    assert await content(other) == await content(first) == CONTENT
    await first.blob.verified()
    assert bench.script.take_calls() == ["get blob"]


async def test_a_blob_whose_bytes_were_evicted_is_fetched_again(bench: Bench) -> None:
    await bench.hold_blob()
    bench.store.delete(BLOB)
    found = await bench.open().blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
    assert bench.script.take_calls() == ["get blob"]


@pytest.mark.parametrize(("image", "source"), [(WEB, ANONYMOUS), (APP, ALICE), (WEB, ALICE)])
async def test_another_image_of_the_same_origin_wins_the_right_to_a_blob_by_a_head(
    bench: Bench, image: RepositoryName, source: Source
) -> None:
    await bench.hold_blob()
    found = await bench.open(image, source).blob(BLOB)
    assert (found.status, await content(found)) == (REVALIDATED, CONTENT)
    assert bench.script.take_calls() == ["head blob"]
    found = await bench.open(image, source).blob(BLOB)
    assert (found.status, await content(found)) == (HIT, CONTENT)
    assert bench.script.take_calls() == []


async def test_another_origin_must_send_the_bytes_themselves(bench: Bench) -> None:
    await bench.hold_blob()
    found = await bench.open(APP, ELSEWHERE).blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
    await bench.landed()
    assert bench.script.take_calls() == ["get blob"]
    assert [info.size for info in bench.store.walk()] == [len(CONTENT)]


async def test_another_origin_that_sends_wrong_bytes_wins_nothing(bench: Bench) -> None:
    await bench.hold_blob()
    bench.script.bodies[APP] = ScriptedBody.whole(b"?" * len(CONTENT))
    with pytest.raises(UpstreamInvalid):
        await content(await bench.open(APP, ELSEWHERE).blob(BLOB))
    await bench.landed()
    assert not await bench.index.linked(Link(ELSEWHERE, APP, BLOB))
    found = await bench.open().blob(BLOB)
    assert (found.status, await content(found)) == (HIT, CONTENT)


async def test_a_head_of_a_blob_never_starts_a_download(bench: Bench) -> None:
    found = await bench.open().stat_blob(BLOB)
    assert (found.size, found.status) == (len(CONTENT), MISS)
    assert bench.script.take_calls() == ["head blob"]
    await bench.hold_blob()
    found = await bench.open(WEB).stat_blob(BLOB)
    assert (found.size, found.status) == (len(CONTENT), REVALIDATED)
    assert bench.script.take_calls() == ["head blob"]
    assert (await bench.open(WEB).stat_blob(BLOB)).status == HIT


async def test_an_image_proves_its_right_before_it_joins_another_image_s_download(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    other = await bench.open(WEB).blob(BLOB)
    assert other.status == COALESCED
    assert bench.script.take_calls() == ["get blob", "head blob"]
    body.send(CONTENT)
    body.end()
    assert await content(first) == await content(other) == CONTENT
    await bench.landed()
    assert await bench.index.linked(Link(ANONYMOUS, APP, BLOB))
    assert await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


async def test_an_image_without_the_right_does_not_join_another_image_s_download(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    bench.script.failures["head blob", WEB] = NotFound("not in this image")
    with pytest.raises(BlobUnknown):
        await bench.open(WEB).blob(BLOB)
    body.send(CONTENT)
    body.end()
    assert await content(first) == CONTENT
    await bench.landed()
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


@pytest.mark.parametrize("refusal", [NotFound("not in this image"), AccessDenied("not for you")])
async def test_a_refusal_of_one_image_ends_only_its_own_waiters(bench: Bench, refusal: UpstreamError) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(answered=False)
    first = asyncio.ensure_future(bench.open(APP).blob(BLOB))
    await asyncio.to_thread(body.asked.wait, 10)
    flight = bench.flights.find(ANONYMOUS, BLOB)
    assert flight is not None
    other = asyncio.ensure_future(bench.open(WEB).blob(BLOB))
    await until(lambda: WEB in flight.images)
    body.answer(refusal)
    with pytest.raises(BlobUnknown):
        await first
    found = await other
    assert (found.status, await content(found)) == (MISS, CONTENT)
    await bench.landed()
    assert bench.script.take_calls() == ["get blob", "head blob", "get blob"]
    assert not await bench.index.linked(Link(ANONYMOUS, APP, BLOB))
    assert await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


async def test_credentials_do_not_share_a_download(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP, ANONYMOUS).blob(BLOB)
    del bench.script.bodies[APP]
    other = await bench.open(APP, ALICE).blob(BLOB)
    assert (other.status, await content(other)) == (MISS, CONTENT)
    body.send(CONTENT)
    body.end()
    assert await content(first) == CONTENT


async def test_a_reader_that_leaves_while_it_waits_leaves_nothing(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(answered=False)
    waiting = asyncio.ensure_future(bench.open().blob(BLOB))
    await asyncio.to_thread(body.asked.wait, 10)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    body.send(CONTENT)
    body.size = len(CONTENT)
    body.end()
    body.answer()
    await bench.landed()
    assert (await bench.open().stat_blob(BLOB)).status == HIT


async def test_an_upstream_that_does_not_answer_for_a_blob_is_an_outage(bench: Bench) -> None:
    bench.shared.timings = PullTimings(response=0.02)
    body = bench.script.bodies[APP] = ScriptedBody(answered=False)
    with pytest.raises(UpstreamUnavailable):
        await bench.open().blob(BLOB)
    body.answer(Unavailable("at last"))
    await bench.landed()


async def test_a_blob_that_breaks_off_is_an_outage_and_one_that_is_wrong_is_not(bench: Bench) -> None:
    for failure, expected in ((Unavailable("broke"), UpstreamUnavailable), (Corrupt("HTML"), UpstreamInvalid)):
        body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
        found = await bench.open().blob(BLOB)
        verdict = asyncio.ensure_future(found.blob.verified())
        body.send(CONTENT[:50_000])
        body.fail(failure)
        with pytest.raises(expected):
            await content(found)
        with pytest.raises(expected):
            await verdict
        await bench.landed()


async def test_what_is_read_is_noted_as_used(bench: Bench) -> None:
    await bench.hold_tag()
    await bench.hold_blob()
    bench.clock.advance(timedelta(seconds=30))
    await bench.open().manifest(LATEST)
    (await bench.open(WEB).blob(BLOB)).blob.close()
    bench.usage.flush()
    later = NOON + timedelta(seconds=30)
    assert bench.usage.last_used() == {ONE.descriptor.digest: later, BLOB: later}


# Tags and referrers, and what failures become.


async def test_tags_and_referrers_are_passed_on(bench: Bench) -> None:
    assert (await bench.open().tags(None, None)).tags == ["latest"]
    assert (await bench.open().referrers(BLOB, None)).manifests == []


Call = Callable[[ProxiedRepository], Awaitable[object]]
QUESTIONS: dict[str, tuple[Call, type[RegistryError]]] = {
    "manifest by tag": (lambda repository: repository.manifest(LATEST), ManifestUnknown),
    "manifest by digest": (lambda repository: repository.manifest(ONE.descriptor.digest), ManifestUnknown),
    "head by tag": (lambda repository: repository.stat_manifest(LATEST), ManifestUnknown),
    "head by digest": (lambda repository: repository.stat_manifest(ONE.descriptor.digest), ManifestUnknown),
    "blob": (lambda repository: repository.blob(BLOB), BlobUnknown),
    "head of a blob": (lambda repository: repository.stat_blob(BLOB), BlobUnknown),
    "tags": (lambda repository: repository.tags(None, None), NameUnknown),
    "referrers": (lambda repository: repository.referrers(BLOB, None), NameUnknown),
}


@pytest.mark.parametrize(("ask", "unknown"), QUESTIONS.values(), ids=QUESTIONS)
async def test_every_failure_of_the_upstream_becomes_one_of_ours(
    bench: Bench, ask: Call, unknown: type[RegistryError]
) -> None:
    table: list[tuple[UpstreamError, type[RegistryError], str | None]] = [
        (NotFound("none"), unknown, None),
        (AccessDenied("no"), unknown, None),
        (Corrupt("HTML"), UpstreamInvalid, None),
        (Unavailable("down"), UpstreamUnavailable, "5"),
        (RateLimited("slowly"), UpstreamUnavailable, "5"),
        (RateLimited("slowly", 0), UpstreamUnavailable, "1"),
        (RateLimited("slowly", 17), UpstreamUnavailable, "17"),
        (RateLimited("slowly", 86_400), UpstreamUnavailable, "60"),
    ]
    for failure, expected, retry_after in table:
        bench.script.failure = failure
        with pytest.raises(RegistryError) as caught:
            await ask(bench.open())
        assert type(caught.value) is expected
        assert caught.value.headers.get("Retry-After") == retry_after
        await bench.landed()


@pytest.mark.parametrize("what", ["get", "head", "head blob", "tags"])
async def test_an_upstream_that_does_not_answer_is_an_outage(bench: Bench, what: str) -> None:
    asks = {"get": "manifest by tag", "head": "head by tag", "head blob": "head of a blob", "tags": "tags"}
    bench.shared.timings = PullTimings(response=0.02)
    bench.script.publish(ONE)
    bench.script.hold(what)
    with pytest.raises(UpstreamUnavailable, match="did not answer within"):
        await QUESTIONS[asks[what]][0](bench.open())
    bench.script.release(what)


async def test_waiters_for_one_failure_get_exceptions_of_their_own(bench: Bench) -> None:
    bench.script.failure = Unavailable("down")
    bench.script.hold("get")
    first, other = await bench.begin(bench.open().manifest(LATEST), bench.open().manifest(LATEST))
    bench.script.release("get")
    errors = await asyncio.gather(first, other, return_exceptions=True)
    assert [type(error) for error in errors] == [UpstreamUnavailable] * 2
    assert errors[0] is not errors[1]


async def test_a_client_that_leaves_does_not_stop_a_fetch_that_was_begun(bench: Bench) -> None:
    bench.script.publish(ONE)
    bench.script.hold("get")
    [leaver] = await bench.begin(bench.open().manifest(LATEST))
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    bench.script.release("get")
    found = await bench.open().manifest(LATEST)
    assert found.status in (COALESCED, HIT)
    assert bench.script.take_calls() == ["get"]


# Limits.


def limited(bench: Bench, remaining: int, **more: Any) -> None:
    """The upstream has said that so many of a hundred pulls are left."""
    known = Allowance(limit=100, remaining=remaining, window=21600, told_at=time.time(), **more)
    bench.script.ledger.note(ANONYMOUS, lambda _: known)


async def test_while_little_is_left_tags_are_checked_ten_times_more_seldom(bench: Bench) -> None:
    await bench.hold_tag()
    limited(bench, 7)
    bench.clock.advance(TTL * 10 - timedelta(seconds=1))
    assert (await bench.open().manifest(LATEST)).status == HIT
    assert bench.script.take_calls() == []
    bench.clock.advance(timedelta(seconds=1))
    assert (await bench.open().manifest(LATEST)).status == REVALIDATED


async def test_while_next_to_nothing_is_left_it_is_for_images_that_are_not_here(bench: Bench) -> None:
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


async def test_what_costs_nothing_is_not_saved_and_what_it_leads_to_is(bench: Bench) -> None:
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
    await until(lambda: bench.shared.waiting_misses() == {ANONYMOUS: 1})
    assert bench.script.calls == []
    limited(bench, 50)
    async with asyncio.timeout(10):
        assert (await waiting).status == MISS
    assert bench.shared.waiting_misses() == {ANONYMOUS: 0}


# Freshness by rule, what is absent, and who wants nothing stale.

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
        with pytest.raises(ManifestUnknown):  # another image is another question
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
async def test_who_wants_nothing_stale_is_refused_past_the_ttl_in_an_outage(
    bench: Bench, failure: UpstreamError
) -> None:
    await bench.hold_tag()
    bench.script.failure = failure
    assert (await bench.open(fresh_only=True).manifest(LATEST)).status == HIT
    bench.clock.advance(TTL)
    for ask in (bench.open(fresh_only=True).manifest, bench.open(fresh_only=True).stat_manifest):
        with pytest.raises(UpstreamUnavailable, match="fresh-only") as caught:
            await ask(LATEST)
        assert failure.reason in str(caught.value)
        assert int(caught.value.headers["Retry-After"]) == (7 if isinstance(failure, RateLimited) else 5)
    assert (await bench.open().manifest(LATEST)).status.outcome is Outcome.STALE
    assert (await bench.open(fresh_only=True).manifest(ONE.descriptor.digest)).status == HIT
    bench.script.failure = None
    assert (await bench.open(fresh_only=True).manifest(LATEST)).status == REVALIDATED


async def test_a_rule_may_want_nothing_stale_either(tmp_path: Path) -> None:
    with bench_with(tmp_path, TagRules(TTL, GRACE, (TagRule("latest", TTL, fresh_only=True),))) as bench:
        await bench.hold_tag()
        bench.clock.advance(TTL)
        bench.script.failure = Unavailable("down")
        with pytest.raises(UpstreamUnavailable, match="fresh-only"):
            await bench.open().manifest(LATEST)


async def test_an_upstream_that_left_a_request_unanswered_is_not_waited_for_long_until_it_responds(
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
    async with asyncio.timeout(10):
        assert (await bench.open().manifest(Tag("v1"))).status.outcome is Outcome.STALE
    bench.script.release("head")
    await until(lambda: bench.shared.outages.find(ANONYMOUS) is None)


async def test_refreshing_asks_the_upstream_whatever_is_fresh(bench: Bench) -> None:
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


async def test_refreshing_forgets_a_tag_that_is_gone_and_asks_again_for_what_was_absent(tmp_path: Path) -> None:
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
