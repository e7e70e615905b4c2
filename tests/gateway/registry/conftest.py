"""Workers over one data folder, and the native stores that they open."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cache.oci.names import RepositoryName
from gateway.db.engine import Database
from gateway.db.setup import set_up
from gateway.namespaces.project import Project
from gateway.registry.base import WritableRepository
from gateway.registry.native_store import NativeStore
from tests.gateway.db.identity_rows import add_group, add_project
from tests.gateway.db.repository_rows import add_repositories
from tests.gateway.registry.opened import NOW, Worker, open_worker
from tests.gateway.registry.stores import open_store

NAME = RepositoryName("team/app")


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


@pytest.fixture
async def project(database: Database) -> Project:
    """The project team/app."""
    async with database.write() as connection:
        await add_group(connection)
        return await add_project(connection)


@pytest.fixture
async def store(database: Database, tmp_path: Path) -> AsyncIterator[NativeStore]:
    """Opens the store of the worker that writes."""
    async with open_store(database, tmp_path) as store:
        yield store


@pytest.fixture
def repository(store: NativeStore, project: Project) -> WritableRepository:
    """The repository team/app, which does not exist before the first push."""
    return store.repository(project, NAME)


@pytest.fixture
async def elsewhere(database: Database, project: Project, tmp_path: Path) -> AsyncIterator[WritableRepository]:
    """The repository team/app as another worker sees it, which looks for changes once an hour of its own accord."""
    async with Database.open(database.address, look_every=3600) as other, open_store(other, tmp_path) as store:
        yield store.repository(project, NAME)
