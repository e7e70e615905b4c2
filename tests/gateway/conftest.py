"""gateway.db for a test, on each engine that it may lie on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.db.address import DatabaseAddress
from gateway.db.engine import Database
from gateway.db.setup import set_up
from tests.parts.postgresql import Databases

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Names the engine of gateway.db; a test that requests it, directly or not, runs on each."""
    return str(request.param)


@pytest.fixture
async def database_address(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path
) -> AsyncIterator[DatabaseAddress]:
    """Address of a database that has been set up and is empty."""
    if engine == "sqlite":
        await set_up(tmp_path / "gateway.db")
        yield tmp_path / "gateway.db"
        return
    databases: Databases = request.getfixturevalue("databases")
    async with databases.made() as address:
        yield address


@pytest.fixture
async def database(database_address: DatabaseAddress) -> AsyncIterator[Database]:
    """Opens an empty database."""
    async with Database.open(database_address) as database:
        yield database
