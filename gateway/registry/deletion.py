"""Deletion of what repositories of any size hold: in parts, each of which is one short transaction."""

from datetime import datetime
from functools import partial

from gateway.db import repositories
from gateway.db.engine import Database

_PAGE = 100
_PARTS = 20
"""Parts that are deleted between two looks for other work."""


async def purge_due(database: Database, before: datetime, now: datetime) -> tuple[int, bool]:
    """Purge repositories that were deleted before a time, some parts of them at once; return how many are gone, and
    whether there is more to do. Raises DatabaseUnusable."""
    async with database.read() as connection:
        due = await repositories.list_deleted(connection, before, _PAGE)
    gone, parts = 0, 0
    for repository in due:
        if not await database.transact(partial(repositories.begin_purge, repository=repository)):
            continue  # it was restored meanwhile
        delete_part = partial(repositories.delete_part, repository_id=repository.id, now=now)
        while await database.transact(delete_part):
            parts += 1
            if parts == _PARTS:
                return gone, True
        gone += await database.transact(partial(repositories.purge, repository_id=repository.id, now=now))
    return gone, len(due) == _PAGE


async def purge_repository(database: Database, repository_id: int, now: datetime) -> None:
    """Delete a repository and all that it holds; what an interrupted deletion has left, too. Raises DatabaseUnusable.

    One transaction for all of it would hold up every push meanwhile, and PostgreSQL ends a statement that takes long.
    """
    more = True
    while more:
        async with database.write() as connection:
            more = await repositories.delete_part(connection, repository_id, now)
    async with database.write() as connection:
        await repositories.purge(connection, repository_id, now)


async def purge_repositories(database: Database, project_id: int, now: datetime) -> None:
    """Delete the repositories of a project, deleted ones among them. Raises DatabaseUnusable."""
    after, page = 0, [0]
    while page:
        async with database.read() as connection:
            page = await repositories.list_ids_of_project(connection, project_id, after, _PAGE)
        for after in page:
            await purge_repository(database, after, now)
