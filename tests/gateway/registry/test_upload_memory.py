"""Memory of uploads: gathered bytes are written after a moment, and all uploads together gather a limited number."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable
from gateway.registry import upload_writer
from gateway.registry.upload_file import UploadFile
from gateway.registry.upload_writer import AT_ONCE
from tests.gateway.registry.opened import Worker
from tests.gateway.registry.test_uploads import CONTENT, OWNER, body


async def written_before_the_last(
    worker: Worker, upload: str, monkeypatch: pytest.MonkeyPatch, *pieces: bytes
) -> AsyncIterator[bytes]:
    """A body whose last piece comes once all others are in the file."""
    threads, written, size = worker.uploads.native.threads, asyncio.Event(), sum(map(len, pieces[:-1]))
    start = threads.start_writing

    def note(work: Callable[..., object], *args: object) -> "asyncio.Future[object]":
        running = start(work, *args)
        running.add_done_callback(lambda _: written.set())
        return running

    monkeypatch.setattr(threads, "start_writing", note)
    for piece in pieces[:-1]:
        yield piece
    async with asyncio.timeout(30):
        while worker.uploads.arrived(upload) < size:
            await written.wait()
            written.clear()
    yield pieces[-1]


async def test_a_slow_body_keeps_no_bytes_in_memory(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_writer, "GATHERED_SECONDS", 0.01)
    for pieces in ([CONTENT[:1000], CONTENT[1000:2000]], [CONTENT[:900_000], CONTENT[900_000:910_000]]):
        session = await worker.uploads.begin(1, OWNER)
        await session.append(written_before_the_last(worker, session.id, monkeypatch, *pieces, b"end"))
        await session.commit(Digest.of(b"".join(pieces) + b"end"))
    assert worker.uploads.native.threads.gathered == 0


async def test_all_uploads_together_keep_a_limited_number_of_bytes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_writer, "GATHERED_SECONDS", 3600)
    monkeypatch.setattr(upload_writer, "GATHERED", 100_000)
    full, go_on = asyncio.Event(), asyncio.Event()

    async def gathering() -> AsyncIterator[bytes]:
        yield CONTENT[:100_000]
        full.set()
        await go_on.wait()

    idle = asyncio.create_task((await worker.uploads.begin(1, OWNER)).append(gathering()))
    await asyncio.wait_for(full.wait(), 30)
    for size in (1000, AT_ONCE + 1):
        session = await worker.uploads.begin(1, OWNER)
        await session.append(written_before_the_last(worker, session.id, monkeypatch, CONTENT[:size], b"end"))
        await session.commit(Digest.of(CONTENT[:size] + b"end"))
    go_on.set()
    await idle
    assert worker.uploads.native.threads.gathered == 0


async def test_an_upload_that_cannot_be_written_keeps_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(UploadFile, "append", fail)
    with pytest.raises(StoreUnavailable):
        await (await worker.uploads.begin(1, OWNER)).append(body(*[CONTENT[:700_000]] * 5))
    assert worker.uploads.native.threads.gathered == 0
