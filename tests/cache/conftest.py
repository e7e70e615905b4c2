"""What the tests of cache/ share."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.download import retry
from tests.cache.download.flights_rig import Hangar, fill_threads, until
from tests.cache.samples import open_descriptors


@pytest.fixture
async def hangar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hangar]:
    """At the end of every test nothing is left: no task, no thread, no spool, no descriptor."""
    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0, 0.0))
    before = open_descriptors()
    hangar = Hangar(tmp_path)
    yield hangar
    await hangar.tasks.close()
    for thread in fill_threads():
        await asyncio.to_thread(thread.join, 10)
    assert not fill_threads()
    assert len(hangar.tasks) == 0
    assert len(hangar.flights) == 0
    assert hangar.spool_files() == []
    await until(lambda: open_descriptors() <= before)
