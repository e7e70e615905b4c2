"""Deletion of what repositories of any size hold: in parts, each of which is one short transaction."""

from dataclasses import replace
from datetime import datetime
from functools import partial

from gateway.db import pins, projects, repositories, webhook_events
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.project import Project, RegistryAccess, unknown_project

_PAGE = 100
PARTS_AT_ONCE = 20
"""Parts that are deleted between two looks for other work."""


async def purge_due(database: Database, before: datetime, now: datetime) -> tuple[int, bool]:
    """Purge repositories that were deleted before a time, some parts of them at once; return how many are gone, and
    whether there is more to do. Raises DatabaseUnusable."""
    async with database.read() as connection:
        due = await repositories.list_deleted(connection, before, _PAGE)
    gone, left = 0, PARTS_AT_ONCE
    for repository in due:
        if not await database.transact(partial(repositories.begin_purge, repository=repository)):
            continue  # it was restored meanwhile
        left -= await _delete_parts(database, repository.id, now, left)
        if not left:
            return gone, True
        gone += await database.transact(partial(repositories.purge, repository_id=repository.id, now=now))
    return gone, len(due) == _PAGE


async def delete_project(database: Database, project_id: int, now: datetime) -> Project:
    """Delete a project with all that it holds; return it. Raises ProjectUnknown, Denied where a pin keeps it,
    DatabaseUnusable.

    Its registry is disabled first: nothing is acknowledged that goes with the rest, and what an interruption leaves is
    a project without a registry, which can be deleted again.
    """

    async def disable(connection: Connection) -> Project:
        project = await projects.find_by_id(connection, project_id)
        if project is None:
            raise unknown_project(str(project_id))
        if project.pinned_at is not None:
            await pins.refuse(connection, project.path, project.pinned_at)
        await webhook_events.note_project_deletion(connection, project_id, now)
        await projects.update(connection, replace(project, registry=RegistryAccess.DISABLED))
        return project

    project = await database.transact(disable)
    await purge_repositories(database, project_id, now)

    async def delete(connection: Connection) -> None:
        present = await projects.find_by_id(connection, project_id)
        if present is not None:
            await projects.delete(connection, present.path, now)

    await database.transact(delete)
    return project


async def purge_repositories(database: Database, project_id: int, now: datetime) -> None:
    """Delete the repositories of a project with all that they hold, deleted ones and what an interrupted deletion has
    left among them. Raises DatabaseUnusable."""
    after, page = 0, [0]
    while page:
        async with database.read() as connection:
            page = await repositories.list_ids_of_project(connection, project_id, after, _PAGE)
        for after in page:
            while await _delete_parts(database, after, now, PARTS_AT_ONCE) == PARTS_AT_ONCE:
                pass
            await database.transact(partial(repositories.purge, repository_id=after, now=now))


async def _delete_parts(database: Database, repository_id: int, now: datetime, most: int) -> int:
    """Delete at most so many parts of what a repository holds; return how many there were, fewer once nothing is left.

    One transaction for all of it would hold up every push meanwhile, and PostgreSQL ends a statement that takes long.
    """
    delete_part = partial(repositories.delete_part, repository_id=repository_id, now=now)
    parts = 0
    while parts < most and await database.transact(delete_part):
        parts += 1
    return parts
