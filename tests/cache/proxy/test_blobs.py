"""Blobs of a proxied repository: which image gets which bytes, from where, and by which right."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from cache.oci.errors import (
    BlobUnknown,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from cache.oci.names import RepositoryName
from cache.proxy import rights
from cache.proxy.pull_through import PullTimings
from cache.repository import FoundBlob
from cache.upstream.errors import (
    AccessDenied,
    Corrupt,
    CredentialRefused,
    NoStatement,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamError,
)
from cache.values import Fault, Link, Source
from tests.cache.download.scripted import ScriptedBody
from tests.cache.proxy.bench import (
    BLOB,
    COALESCED,
    CONTENT,
    GRACE,
    HIT,
    MISS,
    ONE,
    TTL,
    Bench,
    ScriptedClient,
    content,
    until,
)
from tests.cache.samples import (
    ALICE,
    ANONYMOUS,
    APP,
    ELSEWHERE,
    LATEST,
    NOON,
    WEB,
)


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


async def test_requests_for_a_blob_that_is_being_downloaded_follow_it(bench: Bench) -> None:
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


def refuse_rows(bench: Bench, table: str) -> None:
    """Lets the index refuse rows of a table, as a full disk does."""
    refusal = f"CREATE TRIGGER refused BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    with closing(sqlite3.connect(bench.index.path)) as database:
        database.execute(refusal)


async def test_a_blob_whose_row_cannot_be_written_leaves_no_file(bench: Bench) -> None:
    await bench.hold_blob()
    bench.store.delete(BLOB)
    with closing(sqlite3.connect(bench.index.path)) as database, database:
        database.execute("DELETE FROM blobs")  # as an eviction by another worker, which leaves the size in memory here
    refuse_rows(bench, "blobs")
    found = await bench.open().blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
    await bench.landed()
    assert list(bench.store.walk()) == []
    assert await bench.index.find_size(BLOB) is None


async def test_a_blob_that_another_has_recorded_stays_where_a_link_cannot_be_written(bench: Bench) -> None:
    await bench.hold_blob()
    refuse_rows(bench, "links")
    found = await bench.open(APP, ELSEWHERE).blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
    await bench.landed()
    found = await bench.open().blob(BLOB)
    assert (found.status, await content(found)) == (HIT, CONTENT)


@pytest.mark.parametrize(("image", "source"), [(WEB, ANONYMOUS), (APP, ALICE), (WEB, ALICE)])
async def test_another_image_of_the_same_origin_proves_its_right_to_a_blob_by_a_head(
    bench: Bench, image: RepositoryName, source: Source
) -> None:
    await bench.hold_blob()
    found = await bench.open(image, source).blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
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


async def test_another_origin_that_sends_wrong_bytes_gets_no_right(bench: Bench) -> None:
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
    assert (found.size, found.status) == (len(CONTENT), MISS)
    assert bench.script.take_calls() == ["head blob"]
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))
    assert (await bench.open().stat_blob(BLOB)).status == HIT


async def test_an_image_proves_its_right_before_it_joins_another_image_s_download(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    other = await bench.open(WEB).blob(BLOB)
    assert other.status == MISS
    again = await bench.open(WEB).blob(BLOB)
    assert again.status == COALESCED
    again.blob.close()
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
    for request in ("head blob", "get blob"):
        bench.script.failures[request, WEB] = NotFound("not in this image")
    with pytest.raises(BlobUnknown):
        await bench.open(WEB).blob(BLOB)
    body.send(CONTENT)
    body.end()
    assert await content(first) == CONTENT
    await bench.landed()
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


NO_PROOFS = [NotFound("404"), AccessDenied("403"), Corrupt("a page", Fault.HTML), NoStatement("a notice")]
"""What a proof of a blob meets at registries that serve blobs all the same."""

OUTAGES = [Unavailable("503"), CredentialRefused("401"), RateLimited("429"), None]
"""What a proof of a blob meets that its fetch would meet as well; None: it is left without a response."""


def refuse_proofs(bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: UpstreamError | None) -> None:
    if failure is not None:
        bench.script.failures["head blob", WEB] = failure
    else:
        bench.script.hold("head blob")
        monkeypatch.setattr(rights, "PROOF_SECONDS", 0.05)


@pytest.mark.parametrize("failure", NO_PROOFS)
async def test_what_another_image_has_is_fetched_as_if_nobody_had_it_where_no_head_proves_the_right(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: UpstreamError
) -> None:
    await bench.hold_blob()
    refuse_proofs(bench, monkeypatch, failure)
    found = await bench.open(WEB).blob(BLOB)
    assert (found.status, await content(found)) == (MISS, CONTENT)
    assert bench.script.take_calls()[-1] == "get blob"
    await bench.landed()
    found = await bench.open(WEB).blob(BLOB)
    assert (found.status, await content(found)) == (HIT, CONTENT)
    assert bench.script.take_calls() == []


@pytest.mark.parametrize("failure", NO_PROOFS)
async def test_what_another_image_downloads_is_fetched_as_if_nobody_did_where_no_head_proves_the_right(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: UpstreamError
) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    refuse_proofs(bench, monkeypatch, failure)
    other = await bench.open(WEB).blob(BLOB)
    assert (other.status, await content(other)) == (MISS, CONTENT)
    body.send(CONTENT)
    body.end()
    assert await content(first) == CONTENT
    await bench.landed()
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


@pytest.mark.parametrize("failure", OUTAGES)
@pytest.mark.parametrize("running", [False, True])
async def test_an_outage_that_a_proof_of_a_blob_meets_is_no_reason_to_fetch_it(
    running: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: UpstreamError | None
) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    if not running:
        await finish(bench, body, first)
    bench.script.take_calls()
    refuse_proofs(bench, monkeypatch, failure)
    with pytest.raises(UpstreamUnavailable):
        await bench.open(WEB).blob(BLOB)
    assert "get blob" not in bench.script.take_calls()
    if running:
        await finish(bench, body, first)
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


async def finish(bench: Bench, body: ScriptedBody, found: FoundBlob) -> None:
    body.send(CONTENT)
    body.end()
    assert await content(found) == CONTENT
    await bench.landed()


@pytest.mark.parametrize("stated", [37, None])
@pytest.mark.parametrize("running", [False, True])
async def test_a_success_of_another_size_is_no_right_to_what_another_image_has(
    running: bool, stated: int | None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream responds with 200 and a notice for what the image must not have: only bytes would show that."""
    body = bench.script.bodies[APP] = ScriptedBody(len(CONTENT))
    first = await bench.open(APP).blob(BLOB)
    if not running:
        body.send(CONTENT)
        body.end()
        assert await content(first) == CONTENT
        await bench.landed()

    async def sent_a_notice(*_: object, **__: object) -> int | None:
        return stated

    monkeypatch.setattr(ScriptedClient, "head_blob", sent_a_notice)
    bench.script.failures["get blob", WEB] = NotFound("not in this image")
    with pytest.raises(BlobUnknown):
        await bench.open(WEB).blob(BLOB)
    if running:
        body.send(CONTENT)
        body.end()
        assert await content(first) == CONTENT
        await bench.landed()
    assert not await bench.index.linked(Link(ANONYMOUS, WEB, BLOB))


@pytest.mark.parametrize("refusal", [NotFound("not in this image"), AccessDenied("not for you")])
async def test_a_refusal_of_one_image_ends_only_its_own_waiters(bench: Bench, refusal: UpstreamError) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(responds=False)
    first = asyncio.ensure_future(bench.open(APP).blob(BLOB))
    await asyncio.to_thread(body.requested.wait, 30)
    flight = bench.flights.find(ANONYMOUS, BLOB)
    assert flight is not None
    other = asyncio.ensure_future(bench.open(WEB).blob(BLOB))
    await until(lambda: flight.followers == 2)
    body.respond(refusal)
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
    body = bench.script.bodies[APP] = ScriptedBody(responds=False)
    waiting = asyncio.ensure_future(bench.open().blob(BLOB))
    await asyncio.to_thread(body.requested.wait, 30)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    body.send(CONTENT)
    body.size = len(CONTENT)
    body.end()
    body.respond()
    await bench.landed()
    assert (await bench.open().stat_blob(BLOB)).status == HIT


async def test_an_upstream_that_does_not_respond_for_a_blob_is_an_outage(bench: Bench) -> None:
    bench.shared.timings = PullTimings(response=0.02)
    body = bench.script.bodies[APP] = ScriptedBody(responds=False)
    with pytest.raises(UpstreamUnavailable):
        await bench.open().blob(BLOB)
    body.respond(Unavailable("at last"))
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
