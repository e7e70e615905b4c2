"""Where nothing can be stored, each reader gets a stream of its own: complete, verified, no faster than it reads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from cache.download import uncached
from cache.download.admission import PlaceLimits, UpstreamPlaces
from cache.oci.errors import RegistryError
from cache.runtime.failpoints import arm
from cache.sqlite import DatabaseUnusable
from cache.store.base import TAIL, OpenBlob
from cache.upstream.errors import Unavailable
from cache.values import Rest
from tests.cache.download.flights_rig import until
from tests.cache.download.scripted import ScriptedBody
from tests.cache.proxy.bench import Bench, content
from tests.cache.samples import APP, blob_of

SIZE = 3_000_000
WHOLE, DIGEST = blob_of(SIZE)


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    bench.script.blobs[DIGEST] = WHOLE
    yield bench
    await bench.flights.close()
    await bench.tasks.close()
    bench.index.close()
    await until(lambda: not [thread for thread in threading.enumerate() if thread.name in ("uncached", "fill")])
    assert [path.name for path in (tmp_path / "spools").iterdir() if path.name != "leases"] == []


async def rest_of(blob: OpenBlob, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([await blob.read(extent) async for extent in blob.ready(start, stop)])


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE"])
@pytest.mark.parametrize("point", ["spool.create", "sidecar.create", "spool.write"])
async def test_a_blob_that_cannot_be_written_is_served_and_not_stored(bench: Bench, point: str, name: str) -> None:
    arm(f"{point}=error:{name}")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
    assert bench.store.stat(DIGEST) is None
    assert not await bench.index.known_at(bench.open()._source.registry, DIGEST)
    arm("")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
    assert bench.store.stat(DIGEST) is not None


@pytest.mark.parametrize("full_from", ["spool.create", "spool.write"])
async def test_a_stream_for_one_reader_needs_a_place_like_any_download(bench: Bench, full_from: str) -> None:
    places = bench.flights.places = UpstreamPlaces(PlaceLimits(places=1, wait=10.0))
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    later: list[ScriptedBody] = []
    if full_from == "spool.create":
        arm("spool.create=error:ENOSPC")
        body.send(WHOLE)
        founds = [await bench.open().blob(DIGEST)]
    else:
        founds = [await bench.open().blob(DIGEST) for _ in range(3)]
        later += [ScriptedBody(SIZE) for _ in founds]
        body.later = list(later)
        arm("spool.write=error:ENOSPC")
        body.send(WHOLE)
    reading = [asyncio.ensure_future(rest_of(found.blob)) for found in founds]
    await until(lambda: uncached_threads() == places.held == 1)
    await until(lambda: places.waiting().total() == len(founds) - 1)
    for late in later:
        late.send(WHOLE)
        late.end()
    body.end()
    assert set(await asyncio.gather(*reading)) == {WHOLE}
    for found in founds:
        found.blob.close()
    await until(lambda: not places.held)


def uncached_threads() -> int:
    return sum(thread.name == "uncached" for thread in threading.enumerate())


@pytest.mark.parametrize("start", [0, 1_000_000, 2_990_000])
@pytest.mark.parametrize("stop", [None, 2_999_000])
async def test_a_reader_does_not_notice_a_disk_that_becomes_full(bench: Bench, start: int, stop: int | None) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    found = await bench.open().blob(DIGEST)
    body.send(WHOLE[:1_500_000])
    reading = asyncio.ensure_future(rest_of(found.blob, start, stop))
    await until(lambda: all(flight.written == 1_500_000 for flight in bench.flights._running.values()))
    arm("spool.write=error:ENOSPC")
    body.later = [ScriptedBody.whole(WHOLE)]
    body.send(WHOLE[1_500_000:2_000_000])
    assert await reading == WHOLE[start:stop]
    found.blob.close()
    assert body.opened == 2
    asked = body.requests[1]
    assert start or (isinstance(asked, Rest) and 0 < asked.start <= 1_500_000)


async def test_each_of_many_readers_continues_where_it_was(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    founds = [await bench.open().blob(DIGEST) for _ in range(8)]
    body.send(WHOLE[:1_500_000])
    await until(lambda: all(flight.written == 1_500_000 for flight in bench.flights._running.values()))
    early = [await anext(found.blob.ready(0, None)) for found in founds[:4]]
    assert {extent.stop for extent in early} == {1_500_000}
    arm("spool.write=error:ENOSPC")
    body.later = [ScriptedBody.whole(WHOLE) for _ in founds]
    body.send(b"more")
    got = await asyncio.gather(*[rest_of(found.blob) for found in founds])
    assert set(got) == {WHOLE}
    for found in founds:
        found.blob.close()


async def test_wrong_bytes_before_the_disk_was_full_never_complete(bench: Bench) -> None:
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    found = await bench.open().blob(DIGEST)
    body.send(b"?" + WHOLE[1:1_500_000])
    extents = found.blob.ready(0, None)
    sent = (await anext(extents)).stop
    arm("spool.write=error:ENOSPC")
    body.later = [ScriptedBody.whole(WHOLE)]
    body.send(b"more")
    with pytest.raises(RegistryError):
        async for extent in extents:
            sent = extent.stop
    assert sent <= SIZE - TAIL
    found.blob.close()


@pytest.mark.parametrize("size", [0, 1, TAIL, TAIL + 1])
async def test_a_small_blob_is_verified_first(bench: Bench, size: int) -> None:
    small, digest = blob_of(size)
    bench.script.blobs[digest] = small
    arm("spool.create=error:ENOSPC")
    found = await bench.open().blob(digest)
    await found.blob.verified()
    assert await rest_of(found.blob) == small
    found.blob.close()


@pytest.mark.parametrize("known", [True, False])
async def test_wrong_bytes_complete_for_no_reader(bench: Bench, known: bool) -> None:
    wrong = WHOLE[:-1] + b"?"
    arm("spool.create=error:ENOSPC")
    body = bench.script.bodies[APP] = ScriptedBody(SIZE if known else None)
    body.send(wrong)
    body.end()
    found = await bench.open().blob(DIGEST)
    got = b""
    with pytest.raises(RegistryError):
        async for extent in found.blob.ready(0, None):
            got += await found.blob.read(extent)
    assert len(got) <= SIZE - TAIL
    found.blob.close()


async def test_an_uncached_stream_that_breaks_off_is_resumed(bench: Bench) -> None:
    arm("spool.create=error:ENOSPC")
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    body.send(WHOLE[:1_000_000])
    body.fail(Unavailable("the connection broke"))
    rest = ScriptedBody.whole(WHOLE[1_000_000:])
    rest.start = 1_000_000
    body.later = [rest]
    found = await bench.open().blob(DIGEST)
    assert await content(found) == WHOLE
    assert body.requests == [None, Rest(1_000_000, SIZE)]


async def test_an_uncached_stream_that_breaks_off_more_often_than_chunks_may_wait_is_completed(bench: Bench) -> None:
    piece, breaks = 1_100_000, uncached.CHUNKS + 2
    whole, digest = blob_of(piece * (breaks + 1))
    bench.script.blobs[digest] = whole
    arm("spool.create=error:ENOSPC")
    bodies = [ScriptedBody(len(whole) - number * piece) for number in range(breaks + 1)]
    for number, body in enumerate(bodies):
        body.start = number * piece
        body.send(whole[body.start : body.start + piece])
        if number < breaks:
            body.fail(Unavailable("the connection broke"))
        else:
            body.end()
    bench.script.bodies[APP], bodies[0].later = bodies[0], bodies[1:]
    async with asyncio.timeout(30):
        assert await content(await bench.open().blob(digest)) == whole


async def test_an_upstream_is_read_no_faster_than_the_client_reads(bench: Bench) -> None:
    arm("spool.create=error:ENOSPC")
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    piece = SIZE // 100
    body.send(*[WHOLE[start : start + piece] for start in range(0, SIZE, piece)])
    body.end()
    found = await bench.open().blob(DIGEST)
    await asyncio.to_thread(body.receiving.wait, 30)
    await until(lambda: body._queue.qsize() <= 101 - uncached.CHUNKS)
    assert body._queue.qsize() == 101 - uncached.CHUNKS
    assert await content(found) == WHOLE


async def test_a_reader_that_leaves_ends_its_stream(bench: Bench) -> None:
    """The fixture checks that no thread is left."""
    arm("spool.create=error:ENOSPC")
    body = bench.script.bodies[APP] = ScriptedBody(SIZE)
    body.send(WHOLE[:1_000_000])
    found = await bench.open().blob(DIGEST)
    await anext(found.blob.ready(0, None))
    found.blob.close()
    await until(body.closed.is_set)


async def test_a_blob_is_stored_once_room_was_made(bench: Bench, tmp_path: Path) -> None:
    wanted: list[int] = []

    def make_room(count: int) -> int:
        wanted.append(count)
        return count

    object.__setattr__(bench.flights._storage, "make_room", make_room)
    arm("spool.write=error:ENOSPC*2")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
    assert wanted == [SIZE, SIZE]
    assert bench.store.stat(DIGEST) is not None


@pytest.mark.parametrize("size", [SIZE, None], ids=["promised", "not promised"])
async def test_no_room_is_made_for_a_blob_that_is_too_large_to_be_kept(bench: Bench, size: int | None) -> None:
    """Not even the bytes that fit are written where the length is promised."""
    wanted: list[int] = []
    object.__setattr__(bench.flights._storage, "make_room", wanted.append)
    object.__setattr__(bench.flights._storage, "can_keep", lambda whole, _: whole < SIZE)
    body, again = ScriptedBody(size), ScriptedBody.whole(WHOLE)
    bench.script.bodies[APP], body.later = body, [again]
    body.send(WHOLE[: SIZE // 2], WHOLE[SIZE // 2 :])
    body.end()
    arm("spool.write=error:ENOSPC" if size else "")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
    assert wanted == []
    assert bench.store.stat(DIGEST) is None


async def test_room_is_requested_a_few_times_and_not_for_ever(bench: Bench) -> None:
    object.__setattr__(bench.flights._storage, "make_room", lambda count: count)
    arm("spool.write=error:ENOSPC")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    assert bench.store.stat(DIGEST) is None


@pytest.mark.parametrize("point", ["spool.marked", "spool.sealed", "spool.synced"])
async def test_a_blob_that_cannot_be_made_durable_is_served_and_not_stored(bench: Bench, point: str) -> None:
    arm(f"{point}=error:EIO")
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
    assert bench.store.stat(DIGEST) is None


async def test_an_index_that_cannot_be_written_fails_no_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*facts: object) -> None:
        raise DatabaseUnusable("database or disk is full")

    monkeypatch.setattr(bench.index, "record", full)
    assert await content(await bench.open().blob(DIGEST)) == WHOLE
    await bench.landed()
