"""Fixtures of the tests of cache/."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cache.download.flights_rig import FlightsRig, fill_threads, until
from tests.cache.samples import open_descriptors


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[FlightsRig]:
    """A worker with flights. After every test no task, thread, spool or descriptor is left."""
    before = open_descriptors()
    rig = FlightsRig(tmp_path)
    yield rig
    await rig.tasks.close()
    for thread in fill_threads():
        await asyncio.to_thread(thread.join, 30)
    assert not fill_threads()
    assert len(rig.tasks) == 0
    assert len(rig.flights) == 0
    assert rig.spool_files() == []
    await until(lambda: open_descriptors() <= before)
