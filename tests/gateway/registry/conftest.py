"""Workers over one data folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.db.setup import set_up
from tests.gateway.db.repository_rows import add_repositories
from tests.gateway.registry.opened import NOW, Worker, open_worker


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder whose database has the repositories 1 and 2."""
    await prepare(tmp_path)
    return tmp_path


async def prepare(data: Path) -> None:
    """Set the database of a data folder up, with the repositories 1 and 2."""
    await set_up(data / "gateway.db")
    async with open_worker(data) as worker:
        await add_repositories(worker.database, NOW, "alice/p", "alice/p/x")


@pytest.fixture
async def worker(data: Path) -> AsyncIterator[Worker]:
    """A worker over the data folder."""
    async with open_worker(data) as worker:
        yield worker


@pytest.fixture
async def other(data: Path) -> AsyncIterator[Worker]:
    """Another worker over the same data folder."""
    async with open_worker(data) as worker:
        yield worker
