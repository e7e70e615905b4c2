"""Deletion of what repositories of any size hold: in parts, each of which is one short transaction."""

from datetime import datetime
from functools import partial

from gateway.db import repositories
from gateway.db.engine import Database

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
