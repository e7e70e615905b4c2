"""Flights of several workers over one folder: one fills, the others follow, and any resumes where another ended."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cache.download.errors import AlreadyStored
from cache.download.follower import Follower
from cache.download.leased_spool import LEASES, DownloadStorage, LeasedSpool, leases_of, note_of, part_of, spool_name
from cache.download.limits import DownloadLimits
from cache.download.progress import FlightState
from cache.download.spool_sweep import sweep_spools
from cache.lease.base import Lease, Leases, held
from cache.lease.local import LocalLeases
from cache.store import sidecar
from cache.store.base import TAIL
from cache.store.quarantine import Quarantine
from cache.store.spool import MARK, Spool
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import BlobInfo, Rest
from tests.cache.download.flights_rig import FlightsRig, all_ended, fill_threads, read, read_until_refused, until
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ALICE, ANONYMOUS, APP, WEB, blob_of, open_descriptors

KB = 1024
SIZE = 300 * KB
CONTENT, DIGEST = blob_of(SIZE)
HALF = SIZE // 2
NOTHING_YOUNG = DownloadLimits(kept_age=0.0)

CHILD = """
import asyncio, sys
from pathlib import Path
from cache.oci.digest import Digest
from tests.cache.download.flights_rig import FlightsRig, until
from tests.cache.samples import blob_of
from tests.cache.download.scripted import ScriptedBody

async def main():
    content, digest = blob_of(int(sys.argv[2]))
    rig, body = FlightsRig(Path(sys.argv[1])), ScriptedBody(len(content) if sys.argv[4] == "known" else None)
    flight, follower, _ = rig.join(body, digest)
    body.send(content[:int(sys.argv[3])])
    await until(lambda: flight.written == int(sys.argv[3]))
    print("here", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Callable[..., FlightsRig]]:
    """Factory of workers over one folder. After the test nothing is left by any of them."""
    before = open_descriptors()
    made: list[FlightsRig] = []

    def make(**options: Any) -> FlightsRig:
        made.append(FlightsRig(tmp_path, **options))
        return made[-1]

    yield make
    for rig in made:
        await rig.tasks.close()
    for thread in fill_threads():
        await asyncio.to_thread(thread.join, 30)
    assert not fill_threads()
    assert made[0].spool_files() == []
    await until(lambda: open_descriptors() <= before)


async def upto(follower: Follower, stop: int) -> bytes:
    """Read the first bytes, as they become ready."""
    got = b""
    async for extent in follower.ready(0, None):
        got += await follower.read(extent)
        if len(got) >= stop:
            break
    return got


# One worker fills.


@pytest.mark.parametrize("known", [True, False])
async def test_a_second_worker_follows_without_a_request(workers: Callable[..., FlightsRig], known: bool) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(SIZE if known else None), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, began = two.join(unused, DIGEST)
    assert began
    assert await upto(second, HALF - TAIL) == CONTENT[: HALF if known else HALF - TAIL]
    assert flight.begun_elsewhere
    assert second.size == (SIZE if known else None)
    body.send(CONTENT[HALF:])
    body.end()
    assert await read(second) == await read(first) == CONTENT
    await all_ended(one)
    await all_ended(two)
    assert unused.opened == 0
    assert (one.told, two.told) == (["began", "ended"], ["began", "followed"])
    assert one.recorded == two.recorded == [(DIGEST, {APP})]
    assert one.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)


async def test_the_tail_waits_for_the_mark(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    body = ScriptedBody(SIZE)
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT)
    await first.started()
    flight, second, _ = two.join(ScriptedBody(), DIGEST)
    assert await upto(second, SIZE - TAIL) == CONTENT[:-TAIL]
    await until(lambda: flight.written == SIZE)
    assert flight.state is FlightState.STREAMING
    body.end()
    assert await read(second) == await read(first) == CONTENT


async def test_many_readers_in_many_workers_follow_one_fill(workers: Callable[..., FlightsRig]) -> None:
    rigs = [workers() for _ in range(5)]
    bodies = [ScriptedBody(SIZE) for _ in rigs]
    followers = [rig.join(body, DIGEST)[1] for _ in range(4) for rig, body in zip(rigs, bodies, strict=True)]
    await asyncio.gather(*(follower.started() for follower in followers))  # before all is stored
    reading = [asyncio.ensure_future(read(follower)) for follower in followers]
    for body in bodies:
        body.send(*[CONTENT[start : start + 10 * KB] for start in range(0, SIZE, 10 * KB)])
        body.end()
    assert {await each for each in reading} == {CONTENT}
    assert sum(body.opened for body in bodies) == 1


async def test_each_source_has_a_fill_of_its_own(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    held, body = ScriptedBody(SIZE), ScriptedBody.whole(CONTENT)
    _, first, _ = one.join(held, DIGEST)
    await first.started()
    flight, _ = two.flights.join(ALICE, APP, DIGEST, body.fetch)
    assert await read(flight.follow()) == CONTENT
    held.send(CONTENT)
    held.end()
    assert await read(first) == CONTENT


# Rights.


async def test_another_worker_s_response_proves_the_right_of_its_own_image_alone(
    workers: Callable[..., FlightsRig],
) -> None:
    one, two, three = workers(), workers(), workers()
    body = ScriptedBody(SIZE)
    _, first, _ = one.join(body, DIGEST, APP)
    await first.started()
    same, second, _ = two.join(ScriptedBody(), DIGEST, APP)
    other, third, _ = three.join(ScriptedBody(), DIGEST, WEB)
    await second.started()
    await third.started()
    assert same.allows(APP)
    assert not other.allows(WEB)
    assert not other.allows(APP)
    other.admit(WEB)
    assert other.allows(WEB)
    body.send(CONTENT)
    body.end()
    assert {await read(follower) for follower in (first, second, third)} == {CONTENT}


# Failures.


@pytest.mark.parametrize(
    "error", [Unavailable("down"), Unavailable("down", 7), RateLimited("slowly", 9), Corrupt("rubbish")]
)
async def test_an_outage_is_shared(workers: Callable[..., FlightsRig], error: UpstreamError) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(responds=False), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    await until(lambda: body.opened)
    _, second, _ = two.join(unused, DIGEST)
    await until(lambda: two.flights and open_watch())
    body.respond(error)
    for follower in (first, second):
        with pytest.raises(type(error), match=error.reason) as met:
            await follower.started()
        assert getattr(met.value, "retry_after", None) == getattr(error, "retry_after", None)
        follower.close()
    await all_ended(two)
    assert unused.opened == 0


def open_watch() -> bool:
    """Whether one flight of this process reads the note and the spool that another one, with two descriptors, fills."""
    found = links()
    return sum(path.endswith(".note") for path in found) > 1 and sum(path.endswith(".part") for path in found) > 2


def links() -> list[str]:
    return [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


@pytest.mark.parametrize("error", [NotFound("no such thing"), AccessDenied("no")])
async def test_a_refusal_of_one_image_does_not_refuse_another(
    workers: Callable[..., FlightsRig], error: UpstreamError
) -> None:
    one, two = workers(), workers()
    refused, body = ScriptedBody(responds=False), ScriptedBody.whole(CONTENT)
    _, first, _ = one.join(refused, DIGEST, APP)
    await until(lambda: refused.opened)
    _, second, _ = two.join(body, DIGEST, WEB)
    refused.respond(error)
    with pytest.raises(type(error)):
        await first.started()
    first.close()
    assert await read(second) == CONTENT


async def test_wrong_bytes_complete_in_no_worker(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(SIZE), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    await first.started()
    _, second, _ = two.join(unused, DIGEST)
    await second.started()
    body.send(CONTENT[:-1] + b"?")
    body.end()
    for got, error in (await read_until_refused(first), await read_until_refused(second)):
        assert isinstance(error, Corrupt)
        assert len(got) <= SIZE - TAIL
    await all_ended(two)
    assert unused.opened == 0
    assert list(one.store.walk()) == []


async def test_a_failure_that_is_read_with_the_lease_leaves_the_lease_free(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    """The filler fails and releases its lease between the two looks of a follower."""
    spools = tmp_path / "spools"
    name, leases = spool_name(ANONYMOUS, DIGEST), leases_of(spools)
    one = workers()
    lease = leases.take(name)
    assert lease is not None
    filler = LeasedSpool(DownloadStorage(spools, one.store, Quarantine(one.quarantine)), name, lease)
    spool, _ = filler.open(str(ANONYMOUS), APP.text, DIGEST.algorithm, from_start=True)

    class FailingFiller(LocalLeases):
        """Leases of a follower whose filler fails just before the follower takes the lease over."""

        def take(self, name: str) -> Lease | None:
            if two.flights.find(ANONYMOUS, DIGEST) and follows.is_set():
                filler.fail(Corrupt("wrong bytes"))
                lease.release()
            return super().take(name)

    class Storage(DownloadStorage):
        @property
        def leases(self) -> Leases:
            return FailingFiller(self.spools / LEASES)

    follows = threading.Event()
    two = workers(storage_class=Storage)
    with spool:
        filler.report_streaming(APP.text, SIZE)
        _, second, _ = two.join(ScriptedBody(), DIGEST)
        await second.started()
        follows.set()
        with pytest.raises(Corrupt):
            await second.verified()
        second.close()
    filler.end(keep=False)
    await all_ended(two)
    again = leases.take(name)
    assert again is not None
    again.release()


# Takeover and resume.


async def test_a_worker_that_ends_hands_its_fill_to_a_follower(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    body, rest = ScriptedBody(SIZE), ScriptedBody.whole(CONTENT[HALF:])
    rest.start = HALF
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, _ = two.join(rest, DIGEST)
    await until(lambda: flight.written == HALF)
    inode = flight.file.inode if flight.file else None
    await one.flights.close()
    with pytest.raises(Unavailable):
        await first.verified()
    first.close()
    assert await read(second) == CONTENT
    await all_ended(two)
    assert rest.requests == [Rest(HALF, SIZE)]
    assert flight.file is not None
    assert flight.file.inode == inode


async def test_an_abandoned_fill_continues_while_another_worker_follows(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    one.limit(abandon_after=0.01)
    body = ScriptedBody(None)
    filling, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    _, second, _ = two.join(ScriptedBody(), DIGEST)
    await second.started()
    first.close()
    waiting_on = asyncio.ensure_future(until(lambda: filling._abandon_timer is None))
    await asyncio.wait({waiting_on}, timeout=0.1)  # many times `abandon_after`
    waiting_on.cancel()
    assert not body.aborted.is_set()
    body.send(CONTENT[HALF:])
    body.end()
    assert await read(second) == CONTENT


async def kill_a_filler(folder: Path, have: int, known: bool = True) -> None:
    words = [sys.executable, "-c", CHILD, str(folder), str(SIZE), str(have), "known" if known else "unknown"]

    def work() -> None:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "here\n"
            child.kill()
            child.wait(10)

    await asyncio.to_thread(work)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("serves_whole", [False, True])
@pytest.mark.usefixtures("processes")
async def test_the_spool_of_a_killed_process_is_resumed(
    workers: Callable[..., FlightsRig], tmp_path: Path, known: bool, serves_whole: bool
) -> None:
    rig = workers()
    await kill_a_filler(tmp_path, HALF, known)
    assert len(rig.spool_files()) == 2
    start = 0 if serves_whole else HALF if known else HALF - 1
    body = ScriptedBody.whole(CONTENT[start:])
    body.start = start
    _, follower, _ = rig.join(body, DIGEST)
    assert await read(follower) == CONTENT
    await all_ended(rig)
    assert body.requests == [Rest(HALF, SIZE) if known else Rest(HALF - 1, None)]
    assert rig.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)


@pytest.mark.usefixtures("processes")
async def test_a_live_follower_takes_a_killed_process_s_place(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    rig = workers()
    words = [sys.executable, "-c", CHILD, str(tmp_path), str(SIZE), str(HALF), "known"]
    child = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"here\n"
    rest = ScriptedBody.whole(CONTENT[HALF:])
    rest.start = HALF
    _, follower, _ = rig.join(rest, DIGEST)
    assert await upto(follower, HALF) == CONTENT[:HALF]
    child.kill()
    await child.wait()
    assert await read(follower) == CONTENT
    assert rest.requests == [Rest(HALF, SIZE)]


@pytest.mark.usefixtures("processes")
async def test_a_complete_spool_is_committed_without_a_request(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    rig = workers()
    await kill_a_filler(tmp_path, SIZE)
    body = ScriptedBody()
    flight, follower, _ = rig.join(body, DIGEST)
    assert await read(follower) == CONTENT
    await all_ended(rig)
    assert body.opened == 0
    assert flight.allows(APP)


@pytest.mark.usefixtures("processes")
async def test_a_spool_from_before_the_machine_stopped_is_not_resumed(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    await kill_a_filler(tmp_path, HALF)
    rig = workers(boot="another one")
    body = ScriptedBody.whole(CONTENT)
    _, follower, _ = rig.join(body, DIGEST)
    assert await read(follower) == CONTENT
    assert body.requests == [None]


@pytest.mark.usefixtures("processes")
async def test_a_note_beside_another_file_is_ignored(workers: Callable[..., FlightsRig], tmp_path: Path) -> None:
    rig = workers()
    await kill_a_filler(tmp_path, HALF)
    part = part_of(rig.spools, spool_name(ANONYMOUS, DIGEST))
    other = rig.spools / "other"
    other.write_bytes(b"x" * SIZE)
    other.rename(part)
    body = ScriptedBody.whole(CONTENT)
    _, follower, _ = rig.join(body, DIGEST)
    assert await read(follower) == CONTENT
    assert body.requests == [None]


@pytest.mark.usefixtures("processes")
async def test_wrong_bytes_of_a_killed_process_cost_one_new_start(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    rig = workers()
    await kill_a_filler(tmp_path, HALF)
    with part_of(rig.spools, spool_name(ANONYMOUS, DIGEST)).open("r+b") as part:
        part.write(b"?")
    body = ScriptedBody(HALF)
    body.start = HALF
    body.later = [ScriptedBody.whole(CONTENT)]
    _, follower, _ = rig.join(body, DIGEST)
    _, late, _ = rig.join(body, DIGEST)
    extents = follower.ready(0, None)
    await anext(extents)
    body.send(CONTENT[HALF:])
    body.end()
    with pytest.raises(Unavailable, match="started over"):
        async for extent in extents:
            assert extent.stop <= SIZE - TAIL
    follower.close()
    assert await read(late) == CONTENT
    await all_ended(rig)
    assert body.requests == [Rest(HALF, SIZE), None]
    assert rig.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)
    assert rig.refused == []


@pytest.mark.parametrize("found", [b"", CONTENT[:5000], bytes(SIZE), CONTENT + b"?"], ids=len)
async def test_a_file_with_the_blob_s_name_is_not_taken_for_the_blob(
    workers: Callable[..., FlightsRig], found: bytes
) -> None:
    one, two = workers(), workers()
    body, rest = ScriptedBody(SIZE), ScriptedBody.whole(CONTENT[HALF:])
    rest.start = HALF
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, _ = two.join(rest, DIGEST)
    await until(lambda: flight.written == HALF)
    path = two.store.path(DIGEST)
    path.parent.mkdir(parents=True)
    path.write_bytes(found)
    path.chmod(MARK)
    await one.flights.close()
    first.close()
    assert await read(second) == CONTENT
    await all_ended(two)
    assert path.read_bytes() == CONTENT
    assert two.recorded == [(DIGEST, {APP})]
    assert rest.requests == [Rest(HALF, SIZE)]
    assert [path.read_bytes() for path in two.quarantine.iterdir()] == [found]


async def test_a_spool_that_was_renamed_and_not_recorded_is_used_as_its_digest_holds(
    workers: Callable[..., FlightsRig],
) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(SIZE), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT)
    await first.started()
    flight, second, _ = two.join(unused, DIGEST)
    await until(lambda: flight.written == SIZE)
    two.store.adopt(part_of(two.spools, spool_name(ANONYMOUS, DIGEST)), DIGEST)
    await one.flights.close()
    first.close()
    assert await read(second) == CONTENT
    await all_ended(two)
    assert unused.opened == 0
    assert two.recorded == [(DIGEST, {APP})]
    note_of(two.spools, spool_name(ANONYMOUS, DIGEST)).unlink(missing_ok=True)


async def test_a_spool_that_is_cut_after_its_mark_is_verified_for_nobody(
    workers: Callable[..., FlightsRig], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Spool.mark

    def mark_and_cut(spool: Spool) -> None:
        mark(spool)
        os.ftruncate(spool.fileno(), 5000)

    monkeypatch.setattr(Spool, "mark", mark_and_cut)
    one, two = workers(), workers()
    body = ScriptedBody(None)
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, _ = two.join(ScriptedBody(), DIGEST)
    await until(lambda: flight.written == HALF)
    body.send(CONTENT[HALF:])
    body.end()
    await all_ended(one)
    await all_ended(two)
    first.close()
    second.close()
    assert flight.state is FlightState.FAILED
    assert one.recorded == two.recorded == []
    assert two.store.stat(DIGEST) is None


# Bytes that were stored in the meantime.


async def test_bytes_that_were_stored_before_the_lease_was_taken_are_not_fetched(
    workers: Callable[..., FlightsRig],
) -> None:
    one, two = workers(), workers()
    _, first, _ = one.join(ScriptedBody.whole(CONTENT), DIGEST)
    assert await read(first) == CONTENT
    await all_ended(one)
    body = ScriptedBody.whole(CONTENT)
    _, second, _ = two.join(body, DIGEST)
    with pytest.raises(AlreadyStored):
        await second.started()
    second.close()
    await all_ended(two)
    assert body.opened == 0
    flight, _ = two.flights.join(ANONYMOUS, APP, DIGEST, body.fetch, even_if_stored=True)
    assert await read(flight.follow()) == CONTENT
    assert body.opened == 1


async def test_the_lease_is_held_until_the_blob_is_recorded(workers: Callable[..., FlightsRig]) -> None:
    one, two = workers(), workers()
    one.may_record.clear()
    _, first, _ = one.join(ScriptedBody.whole(CONTENT), DIGEST)
    assert await read(first) == CONTENT
    await one.recording.wait()
    body = ScriptedBody.whole(CONTENT)
    flight, second, _ = two.join(body, DIGEST)
    waiting = asyncio.ensure_future(second.started())
    await asyncio.wait({waiting}, timeout=0.1)
    assert flight.state is FlightState.WAITING
    one.may_record.set()
    with pytest.raises(AlreadyStored):
        await waiting
    second.close()
    assert body.opened == 0


# The sweep.


@pytest.mark.usefixtures("processes")
async def test_a_sweep_spares_running_fills_and_spools_that_can_be_resumed(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    rig = workers()
    body = ScriptedBody(10)
    content, digest = blob_of(10)
    _, follower, _ = rig.join(body, digest)
    await follower.started()
    await kill_a_filler(tmp_path, HALF)
    (rig.spools / "sha256-00.deadbeef.part").write_bytes(b"old")
    (rig.spools / "sha256-01.deadbeef.part.note").write_bytes(b"")
    assert sweep_spools(rig.spools) == 2
    left = part_of(rig.spools, spool_name(ANONYMOUS, DIGEST))
    assert left.exists()
    assert sweep_spools(rig.spools, limits=NOTHING_YOUNG) == 2
    assert not left.exists()
    assert not note_of(rig.spools, spool_name(ANONYMOUS, DIGEST)).exists()
    body.send(content)
    body.end()
    assert await read(follower) == content


@pytest.mark.usefixtures("processes")
async def test_a_sweep_spares_a_spool_that_a_waiter_is_about_to_take_over(
    workers: Callable[..., FlightsRig], tmp_path: Path
) -> None:
    rig, name = workers(), spool_name(ANONYMOUS, DIGEST)
    await kill_a_filler(tmp_path, HALF)
    with held(leases_of(rig.spools).register_waiter(name)):
        assert sweep_spools(rig.spools, limits=NOTHING_YOUNG) == 0
        assert part_of(rig.spools, name).exists()
    assert sweep_spools(rig.spools, limits=NOTHING_YOUNG) == 2


@pytest.mark.parametrize(
    ("limits", "boot"),
    [(DownloadLimits(kept_files=0), None), (DownloadLimits(kept_size=0), None), (DownloadLimits(), "another one")],
    ids=["files", "size", "boot"],
)
@pytest.mark.usefixtures("processes")
async def test_spared_spools_are_bounded_and_of_this_run_of_the_machine(
    workers: Callable[..., FlightsRig], tmp_path: Path, limits: DownloadLimits, boot: str | None
) -> None:
    rig = workers()
    await kill_a_filler(tmp_path, HALF)
    assert sweep_spools(rig.spools, limits=limits, boot=boot) == 2


# The sidecar.


def test_a_note_is_written_as_earlier_versions_read_it(tmp_path: Path) -> None:
    """A download that an earlier version left is continued after an upgrade, and the other way round."""
    path = tmp_path / "note"
    for state, value in zip(sidecar.FillState, ("asking", "streaming", "leaving", "failed"), strict=True):
        sidecar.Sidecar.create(path, sidecar.Note("source", "image", 7, "boot", state)).close()
        raw = path.read_bytes()
        document = json.loads(raw[raw.index(b"{") : raw.rindex(b"}") + 1])
        assert document == {
            "source": "source",
            "image": "image",
            "inode": 7,
            "boot": "boot",
            "stage": value,
            "size": None,
            "failure": None,
        }
        view = sidecar.read(path)
        assert view is not None
        assert view.note == sidecar.Note("source", "image", 7, "boot", state)
        path.unlink()


def test_a_note_is_read_completely_or_not_at_all(tmp_path: Path) -> None:
    path, note = tmp_path / "note", sidecar.Note("source", "image", 7, "boot")
    side = sidecar.Sidecar.create(path, note)
    side.count(5)
    view = sidecar.SidecarView(path)
    view.look()
    assert (view.note, view.count) == (note, 5)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        damaged = sidecar.read(path)
        assert damaged is None or (damaged.note, damaged.count) == (note, 5)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    view.look()
    assert view.count == 5
    view.close()
    side.close()
