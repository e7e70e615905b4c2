"""Contract of OpenBlob, which every implementation passes: order, exact bytes, and the withheld tail."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from cache.download.uncached import UncachedBlob
from cache.oci.errors import RegistryError
from cache.proxy.downloading_blob import DownloadingBlob
from cache.proxy.errors import TranslatedBlob
from cache.runtime.fair_queue import NOBODY
from cache.store.base import TAIL, LocalBlob, OpenBlob, sendable
from cache.store.spool import Spool
from cache.upstream.errors import UpstreamError
from tests.cache.download.flights_rig import FlightsRig, until
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ANONYMOUS, blob_of

KB = 1024
CONTENT, DIGEST = blob_of(200 * KB)
SIZE = len(CONTENT)
RANGES = [(0, None), (0, 150 * KB), (70 * KB, None), (70 * KB, 150 * KB), (SIZE - 1, None)]


@dataclass
class Opened:
    """An open blob of each kind over the same body. `close` closes whatever belongs to it."""

    blob: OpenBlob
    close: Callable[[], None]


@pytest.fixture
async def rigs(rig: FlightsRig, tmp_path: Path) -> AsyncIterator[tuple[FlightsRig, FlightsRig]]:
    """Two workers over one folder."""
    other = FlightsRig(tmp_path)
    yield rig, other
    await other.tasks.close()


async def followed(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    _, follower, _ = rigs[0].join(body, DIGEST)
    return Opened(follower, follower.close)


async def followed_elsewhere(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    _, first, _ = rigs[0].join(body, DIGEST)
    await first.started()
    _, second, _ = rigs[1].join(ScriptedBody(), DIGEST)
    await second.started()

    def close() -> None:
        first.close()
        second.close()

    return Opened(second, close)


async def downloading(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    request_place = partial(rigs[0].flights.places.request, ANONYMOUS.origin, NOBODY)
    blob = DownloadingBlob(rigs[0].join(body, DIGEST)[1], body.fetch, request_place)
    return Opened(blob, blob.close)


async def uncached(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    blob = UncachedBlob(DIGEST, body.fetch)
    return Opened(blob, blob.close)


async def translated(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    blob = TranslatedBlob(UncachedBlob(DIGEST, body.fetch))
    return Opened(blob, blob.close)


async def stored(rigs: tuple[FlightsRig, FlightsRig], body: ScriptedBody) -> Opened:
    with Spool.begin(rigs[0].spools / "one.part", DIGEST.algorithm) as spool:
        spool.append(CONTENT)
        spool.seal(DIGEST, SIZE)
        spool.commit(rigs[0].store)
    blob = rigs[0].store.open(DIGEST)
    assert blob is not None
    return Opened(blob, blob.close)


ARRIVING = [followed, followed_elsewhere, downloading, uncached, translated]
Make = Callable[[tuple[FlightsRig, FlightsRig], ScriptedBody], Awaitable[Opened]]


async def ended(*rigs: FlightsRig) -> None:
    for rig in rigs:
        await until(lambda rig=rig: not rig.flights)


@pytest.mark.parametrize(("start", "stop"), RANGES)
@pytest.mark.parametrize("make", [stored, *ARRIVING])
async def test_a_range_is_yielded_in_order_and_read_exactly(
    rigs: tuple[FlightsRig, FlightsRig], make: Make, start: int, stop: int | None
) -> None:
    opened = await make(rigs, body := ScriptedBody(SIZE))
    body.send(*[CONTENT[offset : offset + 10_000] for offset in range(0, SIZE, 10_000)])
    body.end()
    offset, got = start, b""
    async for extent in opened.blob.ready(start, stop):
        assert extent.start == offset
        offset = extent.stop
        got += await opened.blob.read(extent)
    assert got == CONTENT[start:stop]
    await opened.blob.verified()
    opened.close()
    await ended(*rigs)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("start", "stop"), RANGES)
@pytest.mark.parametrize("make", ARRIVING)
async def test_the_tail_of_a_response_waits_for_the_verdict(
    rigs: tuple[FlightsRig, FlightsRig], make: Make, start: int, stop: int | None, known: bool
) -> None:
    opened = await make(rigs, body := ScriptedBody(SIZE if known else None))
    seen, end = [start], stop or SIZE
    withheld = max(start, end - TAIL)

    async def watch() -> None:
        async for extent in opened.blob.ready(start, stop):
            seen.append(extent.stop)

    watching = asyncio.ensure_future(watch())
    body.send(CONTENT)
    await until(lambda: seen[-1] == withheld)
    await asyncio.wait({watching}, timeout=0.02)
    assert seen[-1] == withheld
    body.end()
    await watching
    assert seen[-1] == end
    opened.close()
    await ended(*rigs)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("make", ARRIVING)
async def test_wrong_bytes_never_complete(rigs: tuple[FlightsRig, FlightsRig], make: Make, known: bool) -> None:
    opened, sent = await make(rigs, body := ScriptedBody(SIZE if known else None)), 0
    body.send(CONTENT[:-1] + b"?")
    body.end()
    with pytest.raises((UpstreamError, RegistryError)):
        async for extent in opened.blob.ready(0, None):
            sent = extent.stop
    assert sent <= SIZE - TAIL
    opened.close()
    await ended(*rigs)


@pytest.mark.parametrize("make", [stored, *ARRIVING])
async def test_extents_lie_in_the_file_of_a_local_blob_and_carry_their_bytes_elsewhere(
    rigs: tuple[FlightsRig, FlightsRig], make: Make
) -> None:
    opened = await make(rigs, body := ScriptedBody(SIZE))
    body.send(CONTENT)
    body.end()
    async for extent in opened.blob.ready(0, None):
        if extent.data is None:
            assert isinstance(opened.blob, LocalBlob)
            count = extent.stop - extent.start
            assert os.pread(opened.blob.fileno(), count, extent.start) == CONTENT[extent.start : extent.stop]
        else:
            assert extent.data == CONTENT[extent.start : extent.stop]
    assert isinstance(opened.blob, LocalBlob) is (make not in (uncached, translated))
    opened.close()
    await ended(*rigs)


@pytest.mark.parametrize(
    ("arrived", "stop", "verified", "end"),
    [
        (SIZE, None, True, SIZE),
        (SIZE, None, False, SIZE - TAIL),
        (10, None, False, 10 - TAIL),
        (SIZE, 100 * KB, True, 100 * KB),
        (SIZE, 100 * KB, False, 100 * KB - TAIL),
        (50 * KB, 100 * KB, False, 50 * KB),
        (90 * KB, 100 * KB, False, 100 * KB - TAIL),
        (90 * KB, 100 * KB, True, 90 * KB),
    ],
)
def test_the_tail_is_withheld_from_the_end_of_the_response(
    arrived: int, stop: int | None, verified: bool, end: int
) -> None:
    assert sendable(arrived, stop, verified=verified) == end
