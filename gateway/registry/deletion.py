"""Deletion of repositories of any size: in parts, each of which is one short transaction."""

from datetime import datetime

from cache.oci.names import RepositoryName
from gateway.db import repositories
from gateway.db.engine import Database

_PAGE = 100


async def empty_repository(database: Database, path: RepositoryName, now: datetime) -> None:
    """Delete all that a repository holds; what an interrupted deletion has left, too. Raises DatabaseUnusable.

    One transaction for all of it would hold up every push meanwhile, and PostgreSQL ends a statement that takes long.
    """
    more = True
    while more:
        async with database.write() as connection:
            more = await repositories.delete_part(connection, path, now)


async def empty_project(database: Database, project_id: int, now: datetime) -> None:
    """Delete all that the repositories of a project hold. Raises DatabaseUnusable."""
    after, page = "", [""]
    while page:
        async with database.read() as connection:
            listed = await repositories.list_of_project(connection, project_id, after, _PAGE)
        page = [repository.path for repository in listed]
        for path in page:
            await empty_repository(database, RepositoryName(path), now)
            after = path
