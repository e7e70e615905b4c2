"""Queries of native repositories; who may read or push to one is decided elsewhere."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import paths, quotas
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken
from gateway.db.schema import repositories


@dataclass(frozen=True, slots=True)
class StoredRepository:
    """One native repository. `path`: the name by which clients push and pull. Ids never return."""

    id: int
    project_id: int
    path: str
    created_at: datetime


async def find(connection: AsyncConnection, path: RepositoryName) -> StoredRepository | None:
    row = (await connection.execute(select(repositories).where(repositories.c.path == path.text))).first()
    return _repository(row) if row else None


async def find_or_create(
    connection: AsyncConnection, project_id: int, path: RepositoryName, now: datetime
) -> StoredRepository:
    """Find the repository of a path, or store a new one of the project; the caller has located the path there."""
    values = {"project_id": project_id, "path": path.text, "created_at": now}
    row = insert_unless_taken(connection, repositories).values(values).returning(repositories)
    created = (await connection.execute(row)).first()
    if created is not None:
        await announce(connection, Concern.REPOSITORY, path.text)
        return _repository(created)
    found = await find(connection, path)
    assert found is not None, "what takes the path stays until this transaction ends"
    return found


async def list_page(
    connection: AsyncConnection, after: str = "", limit: int | None = None, *, below: str | None = None
) -> list[StoredRepository]:
    """List all repositories in the byte order of their paths, or the first ones after a path.

    `below`: path of the project, group or user's namespace that holds them, at whatever depth.
    """
    listed = select(repositories)
    if below is not None:
        listed = listed.where(or_(repositories.c.path == below, paths.is_below(repositories.c.path, below)))
    return await _list(connection, listed, after, limit)


async def list_of_project(
    connection: AsyncConnection, project_id: int, after: str = "", limit: int | None = None
) -> list[StoredRepository]:
    """List the repositories of a project in the byte order of their paths, or the first ones after a path."""
    return await _list(connection, select(repositories).where(repositories.c.project_id == project_id), after, limit)


async def list_of_ids(connection: AsyncConnection, ids: Collection[int]) -> list[StoredRepository]:
    """List those of the ids that exist, in the byte order of their paths."""
    return await _list(connection, select(repositories).where(repositories.c.id.in_(ids)), "", None)


@contextmanager
def adding_to_repository() -> Iterator[None]:
    """Raise NameUnknown where a transaction within the block adds to a repository that was deleted meanwhile."""
    try:
        yield
    except IntegrityError as error:
        raise NameUnknown("the repository was deleted meanwhile: push again") from error


async def delete(connection: AsyncConnection, path: RepositoryName) -> bool:
    """Delete a repository with its manifests, tags, links and uploads; return whether there was one.

    Blobs stay stored, and so do files of uploads, until they are swept.
    """
    repository = await find(connection, path)
    if repository is None:
        return False
    await quotas.release_repository(connection, repository.id)
    await connection.execute(delete_from(repositories).where(repositories.c.id == repository.id))
    await announce(connection, Concern.REPOSITORY, path.text)
    return True


async def _list(
    connection: AsyncConnection, which: Select[Any], after: str, limit: int | None
) -> list[StoredRepository]:
    page = which.where(repositories.c.path > after).order_by(repositories.c.path).limit(limit)
    return [_repository(row) for row in await connection.execute(page)]


def _repository(row: Row[Any]) -> StoredRepository:
    return StoredRepository(**row._mapping)
