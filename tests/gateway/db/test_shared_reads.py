"""Reads that several requests share: one for all, whoever of them leaves, and never one that is too old for any."""

import asyncio

import pytest

from gateway.db.engine import DatabaseUnusable
from gateway.db.shared_reads import SharedReads


class Source:
    """What is read; each read waits until the test lets it end."""

    def __init__(self) -> None:
        self.begun = 0
        self.value = "old"
        self.failure: Exception | None = None
        self.hold = asyncio.Event()

    async def read(self) -> str:
        self.begun += 1
        value = self.value
        await self.hold.wait()
        if self.failure is not None:
            raise self.failure
        return value


async def begun(reads: SharedReads, source: Source, count: int, version: int = 0) -> list[asyncio.Task[str]]:
    """Requests that wait for the same."""
    tasks = [asyncio.create_task(reads.read("key", version, source.read)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_requests_at_the_same_time_share_one_read() -> None:
    reads, source = SharedReads(), Source()
    tasks = await begun(reads, source, 5)
    source.hold.set()
    assert await asyncio.gather(*tasks) == ["old"] * 5
    assert source.begun == 1
    source.value = "new"
    assert await reads.read("key", 0, source.read) == "new"


async def test_a_request_that_knows_of_a_change_shares_no_read_that_began_before() -> None:
    reads, source = SharedReads(), Source()
    early = await begun(reads, source, 2)
    source.value = "new"
    late = await begun(reads, source, 2, version=1)
    source.hold.set()
    assert await asyncio.gather(*early, *late) == ["old", "old", "new", "new"]
    assert source.begun == 2


async def test_a_request_that_leaves_does_not_stop_the_others() -> None:
    reads, source = SharedReads(), Source()
    first, *others = await begun(reads, source, 4)
    first.cancel()
    await asyncio.wait([first])
    source.hold.set()
    assert await asyncio.gather(*others) == ["old"] * 3
    assert source.begun == 2


async def test_all_who_share_a_read_are_told_of_its_failure() -> None:
    reads, source = SharedReads(), Source()
    tasks = await begun(reads, source, 3)
    source.failure = DatabaseUnusable("the disk is gone")
    source.hold.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["the disk is gone"] * 3
    assert len({id(error) for error in errors}) == 3
    assert source.begun == 1
    source.failure = None
    assert await reads.read("key", 0, source.read) == "old"


async def test_a_fault_of_the_reader_is_its_own() -> None:
    reads, source = SharedReads(), Source()
    tasks = await begun(reads, source, 2)
    source.failure = ZeroDivisionError()
    source.hold.set()
    with pytest.raises(ZeroDivisionError):
        await tasks[0]
    with pytest.raises(ZeroDivisionError):
        await tasks[1]
    assert source.begun == 2
