"""Queries of native repositories; who may read or push to one is decided elsewhere."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from gateway.db import paths, quotas, reviews
from gateway.db.batches import BATCH, batches
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken, unindexed
from gateway.db.schema import blob_links, manifests, repositories, tags

TAGS_OF_PART = 5_000
MANIFESTS_OF_PART = 100
"""Manifests that one transaction deletes, each with up to 10,000 references."""


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
    row = insert_unless_taken(connection.dialect.name, repositories).values(values).returning(repositories)
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


async def list_paths(connection: AsyncConnection, project_ids: Collection[int], after: str, limit: int) -> list[str]:
    """List the paths of the first repositories of some projects after a path, in their byte order.

    They are found by their projects: a search by the index of paths would take the longer, the more repositories of
    other projects lie between, and so tell of those.
    """
    path, found = unindexed(repositories.c.path), list[str]()
    for batch in batches(project_ids):
        listed = select(repositories.c.path).where(repositories.c.project_id.in_(batch), path > after)
        found += await connection.scalars(listed.order_by(path).limit(limit))
    return sorted(found)[:limit]


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


async def delete_part(connection: AsyncConnection, path: RepositoryName, now: datetime) -> bool:
    """Delete a part of what a repository holds, its tags first; return whether there was anything.

    A repository of any size is deleted by this in one transaction after the other, none of which holds other writers up
    for long, and then by `delete`. Whoever is interrupted leaves a repository that holds less, and begins anew.
    """
    repository = await find(connection, path)
    if repository is None:
        return False
    is_part = (
        await _delete_tags(connection, repository.id)
        or await _delete_manifests(connection, repository.id)
        or await _delete_links(connection, repository.id, now)
    )
    if is_part:
        await announce(connection, Concern.REPOSITORY, path.text)
    return is_part


async def delete(connection: AsyncConnection, path: RepositoryName, now: datetime) -> bool:
    """Delete a repository with its manifests, tags, links and uploads; return whether there was one.

    Blobs stay stored until they are reviewed, and files of uploads until they are swept. One that may be large is
    emptied by `delete_part` before.
    """
    repository = await find(connection, path)
    if repository is None:
        return False
    await quotas.release_repository(connection, repository.id)
    await reviews.review_linked_blobs(connection, blob_links.c.repository_id == repository.id, now)
    await connection.execute(delete_from(repositories).where(repositories.c.id == repository.id))
    await announce(connection, Concern.REPOSITORY, path.text)
    return True


async def _delete_tags(connection: AsyncConnection, repository_id: int) -> bool:
    of_repository = tags.c.repository_id == repository_id
    some = select(tags.c.name).where(of_repository).order_by(tags.c.name).limit(TAGS_OF_PART)
    deleted = await connection.execute(delete_from(tags).where(of_repository, tags.c.name.in_(some)))
    return deleted.rowcount > 0


async def _delete_manifests(connection: AsyncConnection, repository_id: int) -> bool:
    some = select(manifests.c.id, func.length(manifests.c.raw)).where(manifests.c.repository_id == repository_id)
    rows = (await connection.execute(some.order_by(manifests.c.id).limit(MANIFESTS_OF_PART))).all()
    if rows:
        await connection.execute(delete_from(manifests).where(manifests.c.id.in_([id for id, _ in rows])))
        await quotas.release(connection, repository_id, sum(size for _, size in rows))
    return bool(rows)


async def _delete_links(connection: AsyncConnection, repository_id: int, now: datetime) -> bool:
    of_repository = blob_links.c.repository_id == repository_id
    some = select(blob_links.c.digest).where(of_repository).order_by(blob_links.c.digest).limit(BATCH)
    digests = list(await connection.scalars(some))
    if digests:
        await quotas.release_blobs(connection, repository_id, digests)
        some_links = of_repository & blob_links.c.digest.in_(digests)
        await reviews.review_linked_blobs(connection, some_links, now)
        await connection.execute(delete_from(blob_links).where(some_links))
    return bool(digests)


async def _list(
    connection: AsyncConnection, which: Select[Any], after: str, limit: int | None
) -> list[StoredRepository]:
    page = which.where(repositories.c.path > after).order_by(repositories.c.path).limit(limit)
    return [_repository(row) for row in await connection.execute(page)]


def _repository(row: Row[Any]) -> StoredRepository:
    return StoredRepository(**row._mapping)
