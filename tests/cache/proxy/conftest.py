"""The bench of the tests of proxied repositories."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.download.leased_spool import LEASES
from tests.cache.proxy.bench import Bench
from tests.cache.samples import (
    open_descriptors,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    before = open_descriptors()
    bench = Bench(tmp_path)
    yield bench
    await bench.tasks.close()
    bench.index.close()
    assert len(bench.flights) == 0
    assert [path.name for path in (tmp_path / "spools").iterdir() if path.name != LEASES] == []
    assert open_descriptors() <= before
