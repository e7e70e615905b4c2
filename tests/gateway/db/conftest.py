"""Database of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.db.engine import Database, migrate


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    migrate(tmp_path / "gateway.db")
    async with Database.open(tmp_path / "gateway.db") as database:
        yield database
