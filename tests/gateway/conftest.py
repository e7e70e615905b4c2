"""gateway.db for a test, on each engine that it may lie on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.db.address import DatabaseAddress
from gateway.db.engine import Database
from gateway.db.setup import set_up
from tests.parts.postgresql import Databases, Postgresql

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.processes)]


@pytest.fixture(scope="session")
def databases(processes: None) -> Iterator[Databases]:
    """Starts the PostgreSQL server that all tests of a worker share; each test creates databases of its own."""
    server = Postgresql()
    try:
        server.start()
        databases = Databases(server)
        with ThreadPoolExecutor(1) as pool:  # in a thread, for this one may have an event loop
            pool.submit(asyncio.run, databases.prepare()).result()
        yield databases
    finally:
        server.close()


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
