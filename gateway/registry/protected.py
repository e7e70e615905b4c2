"""Deletion and moves of whole repositories, as far as protection rules let somebody do them.

All tags are looked at, page by page, before the transaction that changes anything: the change can be undone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cache.oci.names import Tag
from gateway.auth.protection import TagGuard, check_repository_deletion, check_repository_push
from gateway.db import projects, protections, tags
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.namespaces.node import prefixes_of
from gateway.namespaces.project import Project
from gateway.namespaces.protection import NO_LEVEL

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class MoveLevels:
    """By which levels protection rules judge whoever moves a repository: in the project that it leaves, and in the one
    to which it moves."""

    source: int = NO_LEVEL
    destination: int = NO_LEVEL


async def require_deletable(database: Database, project: Project, repository: StoredRepository, level: int) -> None:
    """Check that no rule of a project keeps somebody of a level from deleting a repository, or any of its tags. Raises
    Denied."""
    protection = await database.query(partial(protections.of_project, project_id=project.id))
    check_repository_deletion(protection, repository.path, repository.path[len(project.path) :], level)
    guard = TagGuard(protection, level)
    if guard.has_rules:
        await _check_tags(database, repository.id, guard.check_delete)


async def require_movable(database: Database, repository: StoredRepository, path: str, levels: MoveLevels) -> None:
    """Check that no rule keeps somebody from moving a repository to a path, also within its project: where it was it is
    deleted with all of its tags, and where it will be it is pushed with them. Raises Denied."""
    source = await database.query(partial(projects.find_by_id, id=repository.project_id))
    found = await database.query(partial(projects.find_all, paths=prefixes_of(path)))
    if source is None or not found:
        return  # nothing moves: the transaction says why
    await require_deletable(database, source, repository, levels.source)
    destination = max(found, key=lambda one: len(one.path))
    protection = await database.query(partial(protections.of_project, project_id=destination.id))
    check_repository_push(protection, path, path[len(destination.path) :], levels.destination)
    guard = TagGuard(protection, levels.destination)
    if guard.has_rules:
        await _check_tags(database, repository.id, guard.check_push)


async def _check_tags(database: Database, repository_id: int, check: Callable[[Tag], None]) -> None:
    """Check every tag of a repository. Raises what `check` raises."""
    after = ""

    async def read(connection: Connection) -> list[str]:
        return await tags.list_page(connection, repository_id, after, _PAGE)

    while page := await database.query(read):
        for name in page:
            check(Tag(name))
        after = page[-1]
