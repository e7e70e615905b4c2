"""Queries of native repositories; who may read or push to one is decided elsewhere."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, func, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from cache.prepared import prepared
from gateway.db import deleted_manifests, old_paths, paths, quotas, reviews, webhook_events
from gateway.db.batches import BATCH, batches
from gateway.db.changes import Concern, announce, announce_all
from gateway.db.dialects import insert_unless_taken, unindexed
from gateway.db.schema import blob_links, manifests, projects, repositories, tag_events, tags, uploads
from gateway.namespaces.errors import RestorePathTaken
from gateway.namespaces.node import prefixes_of
from gateway.namespaces.old_path import MovedKind

TAGS_OF_PART = 5_000
TOMBSTONE = "!"
"""What paths of deleted repositories begin with, and no path that a client can name."""
MANIFESTS_OF_PART = 100
"""Manifests that one transaction deletes, each with up to 10,000 references."""


@dataclass(frozen=True, slots=True)
class StoredRepository:
    """One native repository. `path`: the name by which clients push and pull. Ids never return. `pinned_at`: the moment
    as of which its tags are pulled, see gateway.db.pins; None where that is now."""

    id: int
    project_id: int
    path: str
    created_at: datetime
    pinned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeletedRepository:
    """A deleted repository that is not purged yet. `path`: the one that it would have in its project now. `is_going`:
    whether its purge has begun, so that it cannot be restored; its path is that of the project then."""

    id: int
    project_id: int
    path: str
    created_at: datetime
    deleted_at: datetime
    deleted_by: str
    is_going: bool


_DELETED_MEANWHILE = "the repository was deleted meanwhile: push again"
_DELETED_AT = prepared(select(repositories.c.deleted_at).where(repositories.c.id == bindparam("which")))
_PRESENT = select(repositories, projects.c.pinned_at).join(projects, projects.c.id == repositories.c.project_id)
DELETED = (
    select(repositories, projects.c.path.label("project_path"))
    .join(projects, projects.c.id == repositories.c.project_id)
    .where(repositories.c.deleted_at.is_not(None))
)


async def find(connection: AsyncConnection, path: RepositoryName) -> StoredRepository | None:
    row = (await connection.execute(_PRESENT.where(repositories.c.path == path.text))).first()
    return _repository(row, row.pinned_at) if row else None


async def find_or_create(
    connection: AsyncConnection, project_id: int, path: RepositoryName, now: datetime
) -> StoredRepository:
    """Find the repository of a path, or store a new one of the project; the caller has located the path there.

    Raises PathReserved.
    """
    values = {"project_id": project_id, "path": path.text, "created_at": now}
    row = insert_unless_taken(connection.dialect.name, repositories).values(values).returning(repositories)
    created = (await connection.execute(row)).first()
    if created is not None:
        await old_paths.check_free(connection, path.text, MovedKind.REPOSITORY, now)
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


async def list_ids_of_project(connection: AsyncConnection, project_id: int, after: int, limit: int) -> list[int]:
    """List the ids of the first repositories of a project after an id, deleted ones among them."""
    of_project = repositories.c.project_id == project_id, repositories.c.id > after
    listed = select(repositories.c.id).where(*of_project).order_by(repositories.c.id).limit(limit)
    return list(await connection.scalars(listed))


async def list_present(connection: AsyncConnection, project_id: int, after: int, limit: int) -> list[StoredRepository]:
    """List the first repositories of a project after an id, without deleted ones."""
    of_project = repositories.c.project_id == project_id, repositories.c.id > after, repositories.c.deleted_at.is_(None)
    rows = await connection.execute(select(repositories).where(*of_project).order_by(repositories.c.id).limit(limit))
    return [_repository(row) for row in rows]


async def list_paths(connection: AsyncConnection, project_ids: Collection[int], after: str, limit: int) -> list[str]:
    """List the paths of the first repositories of some projects after a path, in their byte order.

    They are found by their projects: a search by the index of paths would take the longer, the more repositories of
    other projects lie between, and so tell of those.
    """
    path, found = unindexed(repositories.c.path), list[str]()
    for batch in batches(project_ids):
        of_batch = repositories.c.project_id.in_(batch), repositories.c.deleted_at.is_(None)
        listed = select(repositories.c.path).where(*of_batch, path > after)
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
        raise NameUnknown(_DELETED_MEANWHILE) from error


async def require_present(connection: AsyncConnection, repository_id: int) -> None:
    """Check that a repository was not deleted since its id was found. Raises NameUnknown."""
    if await connection.scalar(_DELETED_AT, {"which": repository_id}) is not None:
        raise NameUnknown(_DELETED_MEANWHILE)


async def delete(connection: AsyncConnection, path: RepositoryName, now: datetime, actor: str) -> bool:
    """Delete a repository, whose content stays until it is purged; return whether there was one.

    Its path is free, and its uploads end. `actor`: who does it.
    """
    repository = await find(connection, path)
    if repository is None:
        return False
    await webhook_events.note_repository_deletion(connection, repositories.c.id == repository.id, now, actor)
    owner = select(projects.c.path).where(projects.c.id == repository.project_id)
    name = path.text.removeprefix((await connection.execute(owner)).scalar_one()).removeprefix("/")
    gone = {"path": f"{TOMBSTONE}{repository.id}", "deleted_at": now, "deleted_name": name, "deleted_by": actor}
    await connection.execute(update(repositories).where(repositories.c.id == repository.id).values(gone))
    await connection.execute(delete_from(uploads).where(uploads.c.repository_id == repository.id))
    await announce(connection, Concern.REPOSITORY, path.text)
    return True


async def find_by_id(connection: AsyncConnection, id: int) -> StoredRepository | None:
    """Find a repository by its id; None for a deleted one."""
    here = repositories.c.id == id, repositories.c.deleted_at.is_(None)
    row = (await connection.execute(_PRESENT.where(*here))).first()
    return _repository(row, row.pinned_at) if row else None


async def restore(
    connection: AsyncConnection, repository: DeletedRepository, path: RepositoryName, now: datetime
) -> None:
    """Restore a repository that `find_deleted` found in the same transaction under a path in its project. Pending
    reviews of what it holds begin anew. Raises RestorePathTaken where another one has that path, PathReserved."""
    if await find(connection, path) is not None:
        raise RestorePathTaken(f"another repository has the path {path.text!r} since")
    await old_paths.check_free(connection, path.text, MovedKind.REPOSITORY, now, repository.id)
    here = {"path": path.text, "deleted_at": None, "deleted_name": None, "deleted_by": None}
    await connection.execute(update(repositories).where(repositories.c.id == repository.id).values(here))
    await reviews.postpone_all(connection, repository.id, now)
    await announce(connection, Concern.REPOSITORY, path.text)


async def find_deleted(connection: AsyncConnection, path: RepositoryName) -> list[DeletedRepository]:
    """Find the deleted repositories that had a path in a project, the latest deletion first."""
    named = [
        and_(projects.c.path == place, repositories.c.deleted_name == path.text[len(place) :].removeprefix("/"))
        for place in prefixes_of(path.text)
    ]
    rows = await connection.execute(DELETED.where(or_(*named)).order_by(repositories.c.deleted_at.desc()))
    return [to_deleted(row) for row in rows]


async def find_deleted_by_id(connection: AsyncConnection, id: int) -> DeletedRepository | None:
    """Find a deleted repository that is not purged yet."""
    row = (await connection.execute(DELETED.where(repositories.c.id == id))).first()
    return to_deleted(row) if row else None


async def list_restorable(
    connection: AsyncConnection, after: int = 0, limit: int | None = None, *, below: str | None = None
) -> list[DeletedRepository]:
    """List the deleted repositories that can be restored in the order of their ids, or the first ones after an id.

    `below`: path of the project, group or user's namespace that holds them, at whatever depth.
    """
    page = DELETED.where(repositories.c.deleted_name.is_not(None), repositories.c.id > after)
    if below is not None:
        page = page.where(or_(projects.c.path == below, paths.is_below(projects.c.path, below)))
    return [to_deleted(row) for row in await connection.execute(page.order_by(repositories.c.id).limit(limit))]


async def list_deleted(connection: AsyncConnection, before: datetime, limit: int) -> list[DeletedRepository]:
    """List the first repositories that were deleted before a time, the earliest deletion first; also those whose purge
    has begun."""
    page = DELETED.where(repositories.c.deleted_at <= before).order_by(repositories.c.deleted_at, repositories.c.id)
    return [to_deleted(row) for row in await connection.execute(page.limit(limit))]


async def count_deleted(connection: AsyncConnection, before: datetime | None = None) -> int:
    """Count the repositories that were deleted, before a time or at all, and are not purged yet."""
    deleted = select(func.count()).where(repositories.c.deleted_at.is_not(None))
    counted = deleted if before is None else deleted.where(repositories.c.deleted_at <= before)
    return int(await connection.scalar(counted) or 0)


async def begin_purge(connection: AsyncConnection, repository: DeletedRepository) -> bool:
    """Let a deleted repository be restored no more; whether it is still deleted."""
    which = repositories.c.id == repository.id, repositories.c.deleted_at == repository.deleted_at
    return (await connection.execute(update(repositories).where(*which).values(deleted_name=None))).rowcount > 0


async def delete_part(connection: AsyncConnection, repository_id: int, now: datetime) -> bool:
    """Delete a part of what a repository holds, its tags first; return whether there was anything.

    A repository of any size is purged by this in one transaction after the other, none of which holds other writers up
    for long, and then by `purge`. Whoever is interrupted leaves a repository that holds less, and begins anew.
    """
    is_part = (
        await _delete_tags(connection, repository_id)
        or await _delete_events(connection, repository_id)
        or await _delete_manifests(connection, repository_id)
        or await deleted_manifests.purge_part(connection, repository_id, MANIFESTS_OF_PART)
        or await _delete_links(connection, repository_id, now)
    )
    if is_part:
        await _announce_content(connection, repository_id)
    return is_part


async def purge(connection: AsyncConnection, repository_id: int, now: datetime) -> bool:
    """Delete the row of a repository, with what it still holds; return whether there was one.

    Blobs stay stored until they are reviewed, and files of uploads until they are swept. One that may be large is
    emptied by `delete_part` before.
    """
    await _announce_content(connection, repository_id)
    await quotas.release_repository(connection, repository_id)
    await reviews.review_linked_blobs(connection, blob_links.c.repository_id == repository_id, now)
    return (await connection.execute(delete_from(repositories).where(repositories.c.id == repository_id))).rowcount > 0


async def _announce_content(connection: AsyncConnection, repository_id: int) -> None:
    """Announce that what a repository holds is about to be deleted. Of a deleted one nobody remembers anything."""
    here = repositories.c.id == repository_id, repositories.c.deleted_at.is_(None)
    paths_found = await connection.scalars(select(repositories.c.path).where(*here))
    await announce_all(connection, Concern.REPOSITORY, list(paths_found))


async def _delete_tags(connection: AsyncConnection, repository_id: int) -> bool:
    of_repository = tags.c.repository_id == repository_id
    some = select(tags.c.name).where(of_repository).order_by(tags.c.name).limit(TAGS_OF_PART)
    deleted = await connection.execute(delete_from(tags).where(of_repository, tags.c.name.in_(some)))
    return deleted.rowcount > 0


async def _delete_events(connection: AsyncConnection, repository_id: int) -> bool:
    some = select(tag_events.c.id).where(tag_events.c.repository_id == repository_id).limit(TAGS_OF_PART)
    return (await connection.execute(delete_from(tag_events).where(tag_events.c.id.in_(some)))).rowcount > 0


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
    listed = which.where(repositories.c.path > after, repositories.c.deleted_at.is_(None))
    return [_repository(row) for row in await connection.execute(listed.order_by(repositories.c.path).limit(limit))]


def _repository(row: Row[Any], pinned_at: datetime | None = None) -> StoredRepository:
    return StoredRepository(row.id, row.project_id, row.path, row.created_at, pinned_at)


def to_deleted(row: Row[Any]) -> DeletedRepository:
    """The deleted repository of a row of DELETED."""
    path = f"{row.project_path}/{row.deleted_name}" if row.deleted_name else row.project_path
    is_going = row.deleted_name is None
    return DeletedRepository(row.id, row.project_id, path, row.created_at, row.deleted_at, row.deleted_by, is_going)
