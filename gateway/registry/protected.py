"""Deletion of whole repositories, as far as protection rules let somebody do it."""

from functools import partial

from cache.oci.names import Tag
from gateway.auth.protection import TagGuard, check_repository_deletion
from gateway.db import protections, tags
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.namespaces.project import Project

_PAGE = 1000


async def require_deletable(database: Database, project: Project, repository: StoredRepository, level: int) -> None:
    """Check that no rule of a project keeps somebody of a level from deleting a repository, or any of its tags.

    All tags are looked at, page by page, before the transaction that deletes: it can be undone. Raises Denied.
    """
    protection = await database.query(partial(protections.of_project, project_id=project.id))
    below = repository.path[len(project.path) :]
    check_repository_deletion(protection, repository.path, below, level)
    guard, after = TagGuard(protection, level), ""

    async def read(connection: Connection) -> list[str]:
        return await tags.list_page(connection, repository.id, after, _PAGE)

    while guard.has_rules and (page := await database.query(read)):
        for name in page:
            guard.check_delete(Tag(name))
        after = page[-1]
