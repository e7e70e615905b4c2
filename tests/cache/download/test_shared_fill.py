"""Flights of several workers over one folder: one fills, the others follow, and any goes on where another ended."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cache.download import flight as flights_module
from cache.download import flight_thread, retry
from cache.download import leased_spool as claim_module
from cache.download.errors import Arrived
from cache.download.flight import TAIL, State
from cache.download.leased_spool import leases_of, note_of, part_of, spool_name
from cache.download.spool_sweep import sweep_leftovers
from cache.lease.base import held
from cache.store import sidecar
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import BlobInfo, Rest
from tests.cache.download.flights_rig import Hangar, fill_threads, landed, read, read_until_refused, until
from tests.cache.download.scripted import ScriptedBody
from tests.cache.samples import ALICE, ANONYMOUS, APP, WEB, blob_of, open_descriptors

KB = 1024
SIZE = 300 * KB
CONTENT, DIGEST = blob_of(SIZE)
HALF = SIZE // 2

CHILD = """
import asyncio, sys
from pathlib import Path
from cache.oci.digest import Digest
from tests.cache.download.flights_rig import Hangar, until
from tests.cache.samples import blob_of
from tests.cache.download.scripted import ScriptedBody

async def main():
    content, digest = blob_of(int(sys.argv[2]))
    hangar, body = Hangar(Path(sys.argv[1])), ScriptedBody(len(content) if sys.argv[4] == "known" else None)
    flight, follower, _ = hangar.join(body, digest)
    body.send(content[:int(sys.argv[3])])
    await until(lambda: flight.written == int(sys.argv[3]))
    print("here", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
async def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Hangar]]:
    """Each call another worker over the same folder. At the end nothing is left by any of them."""
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(flight_thread, "TAKE_AFTER", 0.01)
    before = open_descriptors()
    made: list[Hangar] = []

    def make() -> Hangar:
        made.append(Hangar(tmp_path))
        return made[-1]

    yield make
    for hangar in made:
        await hangar.tasks.close()
    for thread in fill_threads():
        await asyncio.to_thread(thread.join, 10)
    assert not fill_threads()
    assert made[0].spool_files() == []
    await until(lambda: open_descriptors() <= before)


async def upto(follower: flights_module.Follower, stop: int) -> bytes:
    """The first bytes, as they become ready."""
    got = b""
    async for extent in follower.ready(0, None):
        got += await follower.read(extent)
        if len(got) >= stop:
            break
    return got


# One fills.


@pytest.mark.parametrize("known", [True, False])
async def test_who_comes_second_follows_without_asking_upstream(workers: Callable[[], Hangar], known: bool) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(SIZE if known else None), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, began = two.join(unused, DIGEST)
    assert began
    assert await upto(second, HALF - TAIL) == CONTENT[: HALF if known else HALF - TAIL]
    assert flight.borrowed
    assert second.size == (SIZE if known else None)
    body.send(CONTENT[HALF:])
    body.end()
    assert await read(second) == await read(first) == CONTENT
    await landed(one)
    await landed(two)
    assert unused.opened == 0
    assert one.arrived == two.arrived == [(DIGEST, {APP})]
    assert one.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)


async def test_the_tail_waits_for_the_mark(workers: Callable[[], Hangar]) -> None:
    one, two = workers(), workers()
    body = ScriptedBody(SIZE)
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT)
    await first.started()
    flight, second, _ = two.join(ScriptedBody(), DIGEST)
    assert await upto(second, SIZE - TAIL) == CONTENT[:-TAIL]
    await until(lambda: flight.written == SIZE)
    assert flight.state is State.STREAMING
    body.end()
    assert await read(second) == await read(first) == CONTENT


async def test_many_in_many_workers_follow_one(workers: Callable[[], Hangar]) -> None:
    hangars = [workers() for _ in range(5)]
    bodies = [ScriptedBody(SIZE) for _ in hangars]
    followers = [hangar.join(body, DIGEST)[1] for _ in range(4) for hangar, body in zip(hangars, bodies, strict=True)]
    await asyncio.gather(*(follower.started() for follower in followers))  # who comes when all is here finds it here
    reading = [asyncio.ensure_future(read(follower)) for follower in followers]
    for body in bodies:
        body.send(*[CONTENT[start : start + 10 * KB] for start in range(0, SIZE, 10 * KB)])
        body.end()
    assert {await each for each in reading} == {CONTENT}
    assert sum(body.opened for body in bodies) == 1


async def test_sources_fill_apart(workers: Callable[[], Hangar]) -> None:
    one, two = workers(), workers()
    held, body = ScriptedBody(SIZE), ScriptedBody.whole(CONTENT)
    _, first, _ = one.join(held, DIGEST)
    await first.started()
    flight, _ = two.flights.join(ALICE, APP, DIGEST, body.fetch)
    assert await read(flight.follow()) == CONTENT
    held.send(CONTENT)
    held.end()
    assert await read(first) == CONTENT


# Whose right is proved.


async def test_another_worker_s_answer_proves_the_right_of_its_own_image_alone(workers: Callable[[], Hangar]) -> None:
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


# How it fails.


@pytest.mark.parametrize("error", [Unavailable("down"), RateLimited("slowly", 9), Corrupt("rubbish")])
async def test_an_outage_is_shared(workers: Callable[[], Hangar], error: UpstreamError) -> None:
    one, two = workers(), workers()
    body, unused = ScriptedBody(answered=False), ScriptedBody()
    _, first, _ = one.join(body, DIGEST)
    await until(lambda: body.opened)
    _, second, _ = two.join(unused, DIGEST)
    await until(lambda: two.flights and open_watch())
    body.answer(error)
    for follower in (first, second):
        with pytest.raises(type(error), match=error.reason) as met:
            await follower.started()
        assert getattr(met.value, "retry_after", None) == getattr(error, "retry_after", None)
        follower.close()
    await landed(two)
    assert unused.opened == 0


def open_watch() -> bool:
    """Whether anybody in this process reads a note."""
    return sum(path.endswith(".note") for path in links()) > 1


def links() -> list[str]:
    return [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


@pytest.mark.parametrize("error", [NotFound("no such thing"), AccessDenied("no")])
async def test_a_refusal_of_one_image_is_none_of_another(workers: Callable[[], Hangar], error: UpstreamError) -> None:
    one, two = workers(), workers()
    refused, body = ScriptedBody(answered=False), ScriptedBody.whole(CONTENT)
    _, first, _ = one.join(refused, DIGEST, APP)
    await until(lambda: refused.opened)
    _, second, _ = two.join(body, DIGEST, WEB)
    refused.answer(error)
    with pytest.raises(type(error)):
        await first.started()
    first.close()
    assert await read(second) == CONTENT


async def test_wrong_bytes_complete_in_no_worker(workers: Callable[[], Hangar]) -> None:
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
    await landed(two)
    assert unused.opened == 0
    assert list(one.store.walk()) == []


# Who goes on.


async def test_a_worker_that_ends_hands_its_fill_over(workers: Callable[[], Hangar]) -> None:
    one, two = workers(), workers()
    body, rest = ScriptedBody(SIZE), ScriptedBody.whole(CONTENT[HALF:])
    rest.start = HALF
    _, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    flight, second, _ = two.join(rest, DIGEST)
    await until(lambda: flight.written == HALF)
    inode = flight.body.inode if flight.body else None
    await one.flights.close()
    with pytest.raises(Unavailable):
        await first.verified()
    first.close()
    assert await read(second) == CONTENT
    await landed(two)
    assert rest.asked_for == [Rest(HALF, SIZE)]
    assert flight.body is not None
    assert flight.body.inode == inode


async def test_a_deserted_fill_goes_on_while_another_worker_follows(
    workers: Callable[[], Hangar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights_module, "ABANDON_AFTER", 0.01)
    one, two = workers(), workers()
    body = ScriptedBody(None)
    filling, first, _ = one.join(body, DIGEST)
    body.send(CONTENT[:HALF])
    await first.started()
    _, second, _ = two.join(ScriptedBody(), DIGEST)
    await second.started()
    first.close()
    patient = asyncio.ensure_future(until(lambda: filling._desertion is None))
    await asyncio.wait({patient}, timeout=0.1)  # many times the patience with a deserted one
    patient.cancel()
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
@pytest.mark.parametrize("answers_whole", [False, True])
async def test_what_a_killed_process_left_is_gone_on_with(
    workers: Callable[[], Hangar], tmp_path: Path, known: bool, answers_whole: bool
) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, HALF, known)
    assert len(hangar.spool_files()) == 2
    start = 0 if answers_whole else HALF if known else HALF - 1
    body = ScriptedBody.whole(CONTENT[start:])
    body.start = start
    _, follower, _ = hangar.join(body, DIGEST)
    assert await read(follower) == CONTENT
    await landed(hangar)
    assert body.asked_for == [Rest(HALF, SIZE) if known else Rest(HALF - 1, None)]
    assert hangar.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)


async def test_a_live_follower_takes_a_killed_process_s_place(workers: Callable[[], Hangar], tmp_path: Path) -> None:
    hangar = workers()
    words = [sys.executable, "-c", CHILD, str(tmp_path), str(SIZE), str(HALF), "known"]
    child = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"here\n"
    rest = ScriptedBody.whole(CONTENT[HALF:])
    rest.start = HALF
    _, follower, _ = hangar.join(rest, DIGEST)
    assert await upto(follower, HALF) == CONTENT[:HALF]
    child.kill()
    await child.wait()
    assert await read(follower) == CONTENT
    assert rest.asked_for == [Rest(HALF, SIZE)]


async def test_a_part_of_which_all_is_there_is_not_asked_for_again(
    workers: Callable[[], Hangar], tmp_path: Path
) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, SIZE)
    body = ScriptedBody()
    flight, follower, _ = hangar.join(body, DIGEST)
    assert await read(follower) == CONTENT
    await landed(hangar)
    assert body.opened == 0
    assert flight.allows(APP)


async def test_what_was_in_memory_before_the_machine_stopped_is_not_relied_on(
    workers: Callable[[], Hangar], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, HALF)
    monkeypatch.setattr(claim_module, "boot", lambda: "another one")
    body = ScriptedBody.whole(CONTENT)
    _, follower, _ = hangar.join(body, DIGEST)
    assert await read(follower) == CONTENT
    assert body.asked_for == [None]


async def test_a_note_beside_another_file_is_not_relied_on(workers: Callable[[], Hangar], tmp_path: Path) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, HALF)
    part = part_of(hangar.spools, spool_name(ANONYMOUS, DIGEST))
    other = hangar.spools / "other"
    other.write_bytes(b"x" * SIZE)
    other.rename(part)
    body = ScriptedBody.whole(CONTENT)
    _, follower, _ = hangar.join(body, DIGEST)
    assert await read(follower) == CONTENT
    assert body.asked_for == [None]


async def test_wrong_bytes_that_a_killed_process_left_cost_one_more_start(
    workers: Callable[[], Hangar], tmp_path: Path
) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, HALF)
    with part_of(hangar.spools, spool_name(ANONYMOUS, DIGEST)).open("r+b") as part:
        part.write(b"?")
    body = ScriptedBody(HALF)
    body.start = HALF
    body.later = [ScriptedBody.whole(CONTENT)]
    _, follower, _ = hangar.join(body, DIGEST)
    _, late, _ = hangar.join(body, DIGEST)
    extents = follower.ready(0, None)
    await anext(extents)
    body.send(CONTENT[HALF:])
    body.end()
    with pytest.raises(Unavailable, match="begun anew"):
        async for extent in extents:
            assert extent.stop <= SIZE - TAIL
    follower.close()
    assert await read(late) == CONTENT
    await landed(hangar)
    assert body.asked_for == [Rest(HALF, SIZE), None]
    assert hangar.store.stat(DIGEST) == BlobInfo(DIGEST, SIZE)
    assert hangar.refused == []


# What has come in the meantime.


async def test_bytes_that_came_before_its_turn_are_looked_up_and_not_fetched(workers: Callable[[], Hangar]) -> None:
    one, two = workers(), workers()
    _, first, _ = one.join(ScriptedBody.whole(CONTENT), DIGEST)
    assert await read(first) == CONTENT
    await landed(one)
    body = ScriptedBody.whole(CONTENT)
    _, second, _ = two.join(body, DIGEST)
    with pytest.raises(Arrived):
        await second.started()
    second.close()
    await landed(two)
    assert body.opened == 0
    flight, _ = two.flights.join(ANONYMOUS, APP, DIGEST, body.fetch, anew=True)
    assert await read(flight.follow()) == CONTENT
    assert body.opened == 1


async def test_the_lease_is_kept_until_the_arrival_is_written_down(workers: Callable[[], Hangar]) -> None:
    one, two = workers(), workers()
    one.may_record.clear()
    _, first, _ = one.join(ScriptedBody.whole(CONTENT), DIGEST)
    assert await read(first) == CONTENT
    await one.recording.wait()
    body = ScriptedBody.whole(CONTENT)
    flight, second, _ = two.join(body, DIGEST)
    waiting = asyncio.ensure_future(second.started())
    await asyncio.wait({waiting}, timeout=0.1)
    assert flight.state is State.WAITING
    one.may_record.set()
    with pytest.raises(Arrived):
        await waiting
    second.close()
    assert body.opened == 0


# What is swept.


async def test_a_sweep_leaves_what_is_filled_and_what_can_be_gone_on_with(
    workers: Callable[[], Hangar], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangar = workers()
    body = ScriptedBody(10)
    content, digest = blob_of(10)
    _, follower, _ = hangar.join(body, digest)
    await follower.started()
    await kill_a_filler(tmp_path, HALF)
    (hangar.spools / "sha256-00.deadbeef.part").write_bytes(b"old")
    (hangar.spools / "sha256-01.deadbeef.part.note").write_bytes(b"")
    assert sweep_leftovers(hangar.spools) == 2
    left = part_of(hangar.spools, spool_name(ANONYMOUS, DIGEST))
    assert left.exists()
    monkeypatch.setattr("cache.download.spool_sweep.YOUNG", 0.0)
    assert sweep_leftovers(hangar.spools) == 2
    assert not left.exists()
    assert not note_of(hangar.spools, spool_name(ANONYMOUS, DIGEST)).exists()
    body.send(content)
    body.end()
    assert await read(follower) == content


async def test_a_sweep_leaves_what_somebody_is_about_to_go_on_with(
    workers: Callable[[], Hangar], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangar, name = workers(), spool_name(ANONYMOUS, DIGEST)
    await kill_a_filler(tmp_path, HALF)
    monkeypatch.setattr("cache.download.spool_sweep.YOUNG", 0.0)
    with held(leases_of(hangar.spools).register_waiter(name)):
        assert sweep_leftovers(hangar.spools) == 0
        assert part_of(hangar.spools, name).exists()
    assert sweep_leftovers(hangar.spools) == 2


@pytest.mark.parametrize("limit", ["FILES", "BYTES", "boot"])
async def test_what_is_kept_is_bounded_and_of_this_run_of_the_machine(
    workers: Callable[[], Hangar], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    hangar = workers()
    await kill_a_filler(tmp_path, HALF)
    monkeypatch.setattr(f"cache.download.spool_sweep.{limit}", 0 if limit != "boot" else lambda: "another one")
    assert sweep_leftovers(hangar.spools) == 2


# The sidecar.


def test_a_note_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
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
