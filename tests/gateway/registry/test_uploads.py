"""Uploads of blobs: how bytes arrive, and what is left of them in every case."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import (
    DigestInvalid,
    NameUnknown,
    RangeInvalid,
    SizeInvalid,
    TooLarge,
    TooManyRequests,
    UploadUnknown,
)
from gateway.db import blobs, repositories, schema, uploads
from gateway.db.connection import Connection
from gateway.registry.base import ClientLeft
from gateway.registry.upload_file import UploadFile
from gateway.registry.upload_writer import AT_ONCE
from gateway.registry.uploads import RECORDED, UNRECORDED_FOR, NativeUpload, UploadLimits, received_range
from tests.gateway.registry.opened import NOW, Worker, left_behind, open_worker

OWNER = "user:1"
CONTENT = bytes(range(256)) * 9000
DIGEST = Digest.of(CONTENT)


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def left_after(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body whose client leaves after these pieces."""
    for piece in pieces:
        yield piece
    raise ClientLeft


async def borrowed(*pieces: bytes, leaves: bool = False) -> AsyncIterator[bytes | memoryview]:
    """A body whose pieces are in one buffer, which is overwritten as soon as the next is requested."""
    buffer = bytearray(max(map(len, pieces)))
    for piece in pieces:
        buffer[: len(piece)] = piece
        with memoryview(buffer)[: len(piece)] as view:
            yield view
        buffer[:] = bytes(len(buffer))
    if leaves:
        raise ClientLeft


async def push(worker: Worker, content: bytes = CONTENT, repository: int = 1) -> Digest:
    """Push a blob in one body."""
    session = await worker.uploads.begin(repository, OWNER)
    await session.append(body(content))
    await session.commit(Digest.of(content))
    return Digest.of(content)


async def linked_size(worker: Worker, digest: Digest, repository: int = 1) -> int | None:
    async with worker.database.read() as connection:
        return await blobs.size(connection, repository, digest)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [b"", b"x", CONTENT], ids=["empty", "a byte", "2 MB"])
async def test_what_was_committed_is_a_blob_of_its_repository(worker: Worker, algorithm: str, content: bytes) -> None:
    digest = Digest.of(content, algorithm)
    session = await worker.uploads.begin(1, OWNER)
    assert await session.append(body(content[:1000], content[1000:])) == len(content)
    await session.commit(digest)
    assert worker.store.path(digest).read_bytes() == content
    assert await linked_size(worker, digest) == len(content)
    assert await linked_size(worker, digest, repository=2) is None
    assert await left_behind(worker) == []


async def test_pieces_in_a_reused_buffer_are_stored_as_they_were(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    pieces = [CONTENT[at : at + 700_000] for at in range(0, len(CONTENT), 700_000)]
    await session.append(borrowed(*pieces))
    await session.append(body(CONTENT[:10]))
    await session.append(borrowed(b"x", *pieces[:1]))
    await session.commit(Digest.of(CONTENT + CONTENT[:10] + b"x" + pieces[0]))


async def test_bytes_and_pieces_in_a_reused_buffer_are_stored_in_their_order(worker: Worker) -> None:
    async def mixed() -> AsyncIterator[bytes | memoryview]:
        yield b"first"
        async for piece in borrowed(b"second", b"third"):
            yield piece
        yield b"fourth"

    session = await worker.uploads.begin(1, OWNER)
    await session.append(mixed())
    await session.commit(Digest.of(b"firstsecondthirdfourth"))


async def test_what_arrived_in_a_reused_buffer_before_a_client_left_stays(worker: Worker, other: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    with pytest.raises(ClientLeft):
        await session.append(borrowed(CONTENT[:1000], CONTENT[1000:3000], leaves=True))
    found = await other.uploads.find(session.id, 1, OWNER)
    assert await found.append(body(CONTENT[3000:]), start=3000) == len(CONTENT)
    await found.commit(DIGEST)


async def test_an_upload_that_was_only_begun_is_an_empty_blob(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.commit(Digest.of(b""))
    assert await linked_size(worker, Digest.of(b"")) == 0


async def test_each_request_of_an_upload_may_reach_another_worker(worker: Worker, other: Worker) -> None:
    id, workers, at = (await worker.uploads.begin(1, OWNER)).id, [worker, other], 0
    for number, stop in enumerate([1, 100, 1_000_000, 1_000_063, len(CONTENT)]):
        session = await workers[number % 2].uploads.find(id, 1, OWNER)
        assert session.received == at
        assert await session.append(body(CONTENT[at:stop]), at, stop - at) == stop == session.received
        at = stop
    await (await other.uploads.find(id, 1, OWNER)).commit(DIGEST)
    assert worker.store.path(DIGEST).read_bytes() == CONTENT
    assert await linked_size(worker, DIGEST) == len(CONTENT)


async def test_the_process_that_received_all_of_an_upload_reads_no_row_of_it(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await worker.uploads.begin(1, OWNER)
    reads: list[str] = []
    find = uploads.find

    async def note(connection: Connection, id: str, repository_id: int, owner: str) -> uploads.StoredUpload | None:
        reads.append(id)
        return await find(connection, id, repository_id, owner)

    monkeypatch.setattr(uploads, "find", note)
    await (await worker.uploads.find(session.id, 1, OWNER)).append(body(b"one"))
    await worker.uploads.find(session.id, 1, OWNER)
    assert reads == []
    await (await other.uploads.find(session.id, 1, OWNER)).append(body(b"two"))
    assert len(reads) == 1
    await (await worker.uploads.find(session.id, 1, OWNER)).commit(Digest.of(b"onetwo"))
    assert len(reads) == 2


async def test_an_upload_that_another_process_has_ended_cannot_be_gone_on_with(worker: Worker, other: Worker) -> None:
    for ending in ("show", "append", "cancel", "commit"):
        session = await worker.uploads.begin(1, OWNER)
        await (await other.uploads.find(session.id, 1, OWNER)).cancel()
        known = await worker.uploads.find(session.id, 1, OWNER)
        with pytest.raises(UploadUnknown):
            if ending == "show":
                await known.require_unfinished()
            elif ending == "append":
                await known.append(body(b"x"))
            elif ending == "cancel":
                await known.cancel()
            else:
                await known.commit(Digest.of(b""))
    assert await left_behind(worker) == []


async def test_a_row_states_what_arrived_once_that_is_much_or_the_row_is_old(data: Path, worker: Worker) -> None:
    async def recorded(session: NativeUpload) -> tuple[int, datetime]:
        async with worker.database.read() as connection:
            row = await uploads.find(connection, session.id, 1, OWNER)
        assert row is not None
        return row.received, row.updated_at

    much, old = [await worker.uploads.begin(1, OWNER) for _ in range(2)]
    await much.append(body(CONTENT[: RECORDED - 1]))
    assert await recorded(much) == (0, NOW)
    await much.append(body(CONTENT[RECORDED - 1 : RECORDED]))
    assert await recorded(much) == (RECORDED, NOW)
    await old.append(body(b"one"))
    now = [NOW + UNRECORDED_FOR]
    async with open_worker(data, clock=lambda: now[0]) as later:
        await (await later.uploads.find(old.id, 1, OWNER)).append(body(b"two"))
        assert await recorded(old) == (6, now[0])
        now[0] += UNRECORDED_FOR / 2
        await (await later.uploads.find(old.id, 1, OWNER)).append(body(b"three"))
        assert await recorded(old) == (6, NOW + UNRECORDED_FOR)
        await (await worker.uploads.find(old.id, 1, OWNER)).commit(Digest.of(b"onetwothree"))


async def test_a_small_body_wakes_no_thread_unless_a_large_one_is_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []
    threads, start = worker.uploads.native.threads, worker.uploads.native.threads.start_writing

    def note(work: Callable[..., None], *args: object) -> "asyncio.Future[None]":
        woken.append("")
        return start(work, *args)

    monkeypatch.setattr(threads, "start_writing", note)
    small = CONTENT[:AT_ONCE]
    for pieces in (body(small[:1000], small[1000:]), borrowed(small[:70_000], small[70_000:])):
        session = await worker.uploads.begin(1, OWNER)
        await session.append(pieces)
        await session.commit(Digest.of(small))
    assert not woken
    go_on = threading.Event()
    running = start(go_on.wait)
    try:
        await (await worker.uploads.begin(1, OWNER)).append(body(small))
    finally:
        go_on.set()
        await running
    assert len(woken) == 1


async def test_what_was_hashed_is_not_read_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    monkeypatch.setattr("gateway.registry.upload_file.os.preadv", lambda *_: pytest.fail("the file was read"))
    await session.append(body(b"end"))
    await session.commit(Digest.of(CONTENT + b"end"))


@pytest.mark.parametrize("start", [0, 4, 6, 2**40])
async def test_another_offset_than_the_next_is_refused_with_the_range(worker: Worker, start: int) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(b"12345"))
    with pytest.raises(RangeInvalid) as refused:
        await session.append(body(b"678"), start)
    assert refused.value.headers["Range"] == "0-4"
    assert await session.append(body(b"678"), 5) == 8
    await session.commit(Digest.of(b"12345678"))


@pytest.mark.parametrize(("received", "text"), [(0, "0-0"), (1, "0-0"), (2, "0-1")])
def test_the_range_ends_with_the_last_byte(received: int, text: str) -> None:
    assert received_range(received) == text


async def test_of_two_requests_at_once_the_second_is_refused(worker: Worker, other: Worker) -> None:
    session, arrived, go_on = await worker.uploads.begin(1, OWNER), asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"12345"
        arrived.set()
        await go_on.wait()
        yield b"678"

    running = asyncio.create_task(session.append(slow()))
    await arrived.wait()
    for second in (worker, other):
        rival = await second.uploads.find(session.id, 1, OWNER)
        with pytest.raises(RangeInvalid, match="another request is writing"):
            await rival.append(body(b"xxx"), 0)
        with pytest.raises(RangeInvalid, match="another request is writing"):
            await rival.commit(Digest.of(b""))
    go_on.set()
    assert await running == 8
    await (await other.uploads.find(session.id, 1, OWNER)).commit(Digest.of(b"12345678"))


async def test_an_upload_is_that_of_its_owner_and_repository(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    for id, repository, owner in ((session.id, 2, OWNER), (session.id, 1, "user:2"), ("../leases", 1, OWNER)):
        with pytest.raises(UploadUnknown):
            await worker.uploads.find(id, repository, owner)


async def test_what_arrived_before_a_client_left_stays(worker: Worker, other: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    with pytest.raises(ClientLeft):
        await session.append(left_after(CONTENT[:1_500_000], CONTENT[1_500_000:1_500_001]), 0, len(CONTENT))
    again = await other.uploads.find(session.id, 1, OWNER)
    assert again.received == 1_500_001
    await again.append(body(CONTENT[1_500_001:]), 1_500_001)
    await again.commit(DIGEST)


async def test_what_arrived_before_a_request_was_cancelled_stays(worker: Worker, other: Worker) -> None:
    session, arrived = await worker.uploads.begin(1, OWNER), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield CONTENT
        arrived.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(session.append(endless()))
    await arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    again = await other.uploads.find(session.id, 1, OWNER)
    assert again.received == len(CONTENT)
    await again.commit(DIGEST)


@pytest.mark.parametrize("pieces", [[b"678"], [b"6789", b"0"], [b"67890", b"1"]], ids=["3", "5 in two", "6"])
async def test_a_body_of_another_length_counts_as_never_sent(worker: Worker, pieces: list[bytes]) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(b"12345"))
    with pytest.raises(SizeInvalid):
        await session.append(body(*pieces), 5, 4)
    assert (await worker.uploads.find(session.id, 1, OWNER)).received == 5
    await session.append(body(b"6789"), 5, 4)
    await session.commit(Digest.of(b"123456789"))


@pytest.mark.parametrize("ends", ["wrong digest", "cancelled"])
async def test_what_has_arrived_is_freed_outside_the_event_loop(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The kernel takes a second to free a gigabyte."""
    freed: list[threading.Thread] = []
    unlink, close = Path.unlink, UploadFile.close

    def noted_unlink(path: Path, missing_ok: bool = False) -> None:
        freed.append(threading.current_thread())
        unlink(path, missing_ok)

    def noted_close(file: UploadFile) -> None:
        if file.frees():
            freed.append(threading.current_thread())
        close(file)

    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    monkeypatch.setattr(Path, "unlink", noted_unlink)
    monkeypatch.setattr(UploadFile, "close", noted_close)
    if ends == "cancelled":
        await session.cancel()
    else:
        with pytest.raises(DigestInvalid):
            await session.commit(Digest.of(b"other"))
    assert await left_behind(worker) == []
    assert len(freed) == (2 if ends == "wrong digest" else 1)
    assert threading.main_thread() not in freed


async def test_a_digest_that_does_not_hold_ends_the_upload(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(b"12345"))
    with pytest.raises(DigestInvalid, match=f"the 5 bytes .* digest {Digest.of(b'12345')}, not {DIGEST}"):
        await session.commit(DIGEST)
    assert worker.store.stat(DIGEST) is None
    assert await left_behind(worker) == []
    for attempt in (session.commit(Digest.of(b"12345")), session.append(body(b"6"))):
        with pytest.raises(UploadUnknown):
            await attempt
    assert await left_behind(worker) == []


@pytest.mark.parametrize("length", [None, 6], ids=["unknown length", "stated length"])
async def test_a_blob_that_is_too_large_is_refused_and_its_room_is_freed(data: Path, length: int | None) -> None:
    async with open_worker(data, UploadLimits(blob_bytes=10)) as worker:
        session = await worker.uploads.begin(1, OWNER)
        await session.append(body(b"12345"))
        with pytest.raises(TooLarge, match="a blob may have 10 bytes"):
            await session.append(body(b"678901"), 5, length)
        if length is None:
            assert await left_behind(worker) == []
        else:
            await session.append(body(b"67890"), 5, 5)
            await session.commit(Digest.of(b"1234567890"))


async def test_a_blob_may_have_any_size_where_there_is_no_limit(data: Path) -> None:
    async with open_worker(data, UploadLimits(blob_bytes=0)) as worker:
        await push(worker)
        assert await linked_size(worker, DIGEST) == len(CONTENT)


async def test_an_owner_has_so_many_unfinished_uploads_and_no_more(data: Path) -> None:
    async with open_worker(data, UploadLimits(open_per_owner=2)) as worker:
        first, _ = [await worker.uploads.begin(repository, OWNER) for repository in (1, 2)]
        with pytest.raises(TooManyRequests, match="2 uploads of yours are unfinished") as refused:
            await worker.uploads.begin(1, OWNER)
        assert "Retry-After" in refused.value.headers
        await worker.uploads.begin(1, "user:2")
        await first.cancel()
        await worker.uploads.begin(1, OWNER)


async def test_a_cancelled_upload_leaves_nothing(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    await session.cancel()
    assert await left_behind(worker) == []
    with pytest.raises(UploadUnknown):
        await worker.uploads.find(session.id, 1, OWNER)


@pytest.mark.parametrize("content", [b"few", CONTENT], ids=["few bytes", "2 MB"])
async def test_a_request_fails_whose_upload_is_cancelled_meanwhile(worker: Worker, content: bytes) -> None:
    session = await worker.uploads.begin(1, OWNER)

    async def cancelling() -> AsyncIterator[bytes]:
        yield content
        await (await worker.uploads.find(session.id, 1, OWNER)).cancel()
        yield b"end"

    with pytest.raises(UploadUnknown):
        await session.append(cancelling())
    assert await left_behind(worker) == []


async def test_an_upload_ends_with_its_repository(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    async with worker.database.write() as connection:
        await connection.execute(schema.repositories.delete().where(schema.repositories.c.id == 1))
    with pytest.raises(UploadUnknown):
        await session.commit(DIGEST)
    assert worker.store.stat(DIGEST) is None
    await worker.uploads.sweep(NOW)
    assert await left_behind(worker) == []


async def test_a_blob_that_is_stored_already_has_one_file_that_of_the_last_push(worker: Worker) -> None:
    """The older file may have been damaged since; the newer one was just verified."""
    await push(worker)
    path = worker.store.path(DIGEST)
    with path.open("rb") as first:
        await push(worker, repository=2)
        assert os.fstat(first.fileno()).st_nlink == 0
    assert [found for found in path.parent.parent.rglob("*") if found.is_file()] == [path]
    assert path.stat().st_nlink == 1
    assert await linked_size(worker, DIGEST, repository=2) == len(CONTENT)
    assert await left_behind(worker) == []


@pytest.mark.parametrize("damage", ["missing", "shorter", "without a row"])
async def test_a_push_heals_what_is_not_as_it_was_recorded(worker: Worker, damage: str) -> None:
    await push(worker)
    path = worker.store.path(DIGEST)
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        with path.open("r+b") as file:
            file.truncate(3)
    else:
        path.write_bytes(b"x" * len(CONTENT))
        async with worker.database.write() as connection:
            await connection.execute(schema.blob_links.delete())
            await connection.execute(schema.blobs.delete())
    await push(worker)
    assert path.read_bytes() == CONTENT
    assert await linked_size(worker, DIGEST) == len(CONTENT)


async def test_many_pushes_of_one_blob_at_once_all_succeed(worker: Worker, other: Worker) -> None:
    await asyncio.gather(*(push(which, repository=repository) for which in (worker, other) for repository in (1, 2, 1)))
    assert worker.store.path(DIGEST).read_bytes() == CONTENT
    assert await linked_size(worker, DIGEST) == await linked_size(worker, DIGEST, repository=2) == len(CONTENT)
    assert await left_behind(worker) == []


async def test_bytes_that_another_run_of_the_machine_wrote_are_hashed_again(data: Path) -> None:
    """After a power failure the file may have lost what its saved hash holds for."""
    async with open_worker(data, boot="first") as worker:
        lost, kept = [await worker.uploads.begin(1, OWNER) for _ in range(2)]
        for session in (lost, kept):
            await session.append(body(CONTENT))
        with worker.uploads.path(lost.id).open("r+b") as file:
            file.write(bytes(4096))
    async with open_worker(data, boot="second") as worker:
        with pytest.raises(DigestInvalid):
            await (await worker.uploads.find(lost.id, 1, OWNER)).commit(DIGEST)
        await (await worker.uploads.find(kept.id, 1, OWNER)).commit(DIGEST)
        assert worker.store.path(DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("savable", [True, False], ids=["libcrypto", "hashlib"])
async def test_a_file_that_lost_its_end_is_continued_from_there(
    worker: Worker, savable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not savable:
        monkeypatch.setattr("gateway.registry.hashing._libcrypto", lambda: None)
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    with worker.uploads.path(session.id).open("r+b") as file:
        file.truncate(1_000_000)
    assert (await worker.uploads.find(session.id, 1, OWNER)).received == 1_000_000
    await session.append(body(CONTENT[1_000_000:]), 1_000_000)
    await session.commit(DIGEST)


async def test_uploads_that_rest_for_a_week_are_swept(worker: Worker) -> None:
    resting, used = [await worker.uploads.begin(1, OWNER) for _ in range(2)]
    for session in (resting, used):
        await session.append(body(CONTENT))
    assert await worker.uploads.sweep(NOW + timedelta(days=7)) == 0
    async with worker.database.write() as connection:
        await uploads.advance(connection, used.id, len(CONTENT), None, NOW + timedelta(days=1))
    assert await worker.uploads.sweep(NOW + timedelta(days=7, seconds=1)) == 1
    assert await left_behind(worker) == [used.id]
    with pytest.raises(UploadUnknown):
        await worker.uploads.find(resting.id, 1, OWNER)


async def test_an_upload_that_somebody_goes_on_with_while_others_are_swept_stays(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await worker.uploads.begin(1, OWNER)
    listed = uploads.list_abandoned

    async def resumed_once_listed(connection: Connection, before: datetime, limit: int) -> list[str]:
        found = await listed(connection, before, limit)
        async with worker.database.write() as writing:
            await uploads.advance(writing, session.id, 0, None, before + timedelta(seconds=1))
        return found

    monkeypatch.setattr(uploads, "list_abandoned", resumed_once_listed)
    assert await worker.uploads.sweep(NOW + timedelta(days=8)) == 0
    assert (await worker.uploads.find(session.id, 1, OWNER)).received == 0


async def test_an_upload_to_a_repository_that_was_deleted_meanwhile_is_not_begun(worker: Worker) -> None:
    with pytest.raises(NameUnknown), repositories.adding_to_repository():
        await worker.uploads.begin(999, OWNER)


async def test_an_upload_in_use_is_not_swept(worker: Worker, other: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)

    async def swept_meanwhile() -> AsyncIterator[bytes]:
        yield CONTENT
        assert await other.uploads.sweep(NOW + timedelta(days=30)) == 0
        yield b"end"

    await session.append(swept_meanwhile())
    await session.commit(Digest.of(CONTENT + b"end"))


async def test_files_whose_upload_has_ended_are_swept(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(b"12345"))
    for name in ("0b5e0e0a", "0b5e0e0a.commit", "mount-0b5e0e0a"):
        (worker.folder / name).touch()
    assert await worker.uploads.sweep(NOW) == 3
    assert await left_behind(worker) == [session.id]


async def test_an_upload_that_a_clock_dated_to_the_future_is_dated_back_and_swept_in_its_time(worker: Worker) -> None:
    session = await worker.uploads.begin(1, OWNER)
    await session.append(body(CONTENT))
    async with worker.database.write() as connection:
        await uploads.advance(connection, session.id, len(CONTENT), None, NOW + timedelta(days=400), 1 << 30)
    assert await worker.uploads.sweep(NOW) == 0
    async with worker.database.read() as connection:
        found = await uploads.find(connection, session.id, 1, OWNER)
    assert found is not None and found.updated_at == NOW
    assert await worker.uploads.sweep(NOW + timedelta(days=7, seconds=1)) == 1
