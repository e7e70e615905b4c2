"""Administration: changes of whole repositories, and of tags that were, by whoever looks after them.

Each is one transaction, which finds out again what its caller has decided about: between the two a repository may have
been deleted, or moved to another project.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from cache.oci.digest import Digest
from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName, Tag
from gateway.auth.protection import TagGuard
from gateway.db import moves, pins, projects, repositories
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.moves import Moved
from gateway.db.repositories import StoredRepository
from gateway.namespaces.errors import MoveRefused, RestoreRefused
from gateway.namespaces.protection import NO_LEVEL
from gateway.registry.deletion import delete_project
from gateway.registry.protected import MoveLevels, require_deletable, require_movable
from gateway.registry.restoring import restore_tag
from gateway.registry.storage_errors import database_errors

_PAGE = 500
_NO_LEVELS = MoveLevels()


@dataclass(frozen=True, slots=True)
class DeletedUntil:
    """A repository that was deleted: the path that it had, and until when it can be restored at least."""

    path: str
    kept_until: datetime


class Administration:
    """Changes of native repositories. Raises RegistryError, and TreeError where the tree does not allow a change."""

    def __init__(self, database: Database, clock: Callable[[], datetime], kept: timedelta) -> None:
        """`kept`: how long content stays at least that nothing needs."""
        self._database = database
        self._clock = clock
        self._kept = kept

    def kept_until(self, deleted_at: datetime) -> datetime:
        """Until when something can be restored at least that was deleted at a time."""
        return deleted_at + self._kept

    async def delete_repository(self, repository: StoredRepository, actor: str, level: int = NO_LEVEL) -> DeletedUntil:
        """Delete a repository, whose content is purged later, bit by bit. `actor`: who does it; `level`: by which
        protection rules judge whoever that is. Raises NameUnknown, Denied where a pin or a rule keeps it as it is."""
        now = self._clock()
        with database_errors():
            project = await self._database.query(partial(projects.find_by_id, id=repository.project_id))
            if project is not None:
                await require_deletable(self._database, project, repository, level)

        async def delete(connection: Connection) -> str:
            present = await self._present(connection, repository)
            await pins.require_unpinned(connection, present.id)
            await repositories.delete(connection, RepositoryName(present.path), now, actor)
            return present.path

        with database_errors():
            return DeletedUntil(await self._database.transact(delete), self.kept_until(now))

    async def delete_project(self, id: int) -> list[str]:
        """Delete a project with all that it holds; return the paths of its repositories. Raises ProjectUnknown."""
        held: list[str] = []
        with database_errors():
            while page := await self._paths_of(id, held[-1] if held else ""):
                held += page
            await delete_project(self._database, id, self._clock())
            return held

    async def _paths_of(self, project_id: int, after: str) -> list[str]:
        async with self._database.read() as connection:
            return await repositories.list_paths(connection, [project_id], after, _PAGE)

    async def restore_repository(self, id: int, project_id: int) -> StoredRepository:
        """Restore a deleted repository of a project. Raises RestoreRefused, PathReserved, Denied."""
        now = self._clock()

        async def restore(connection: Connection) -> StoredRepository:
            found = await repositories.find_deleted_by_id(connection, id)
            if found is None or found.project_id != project_id or found.is_going:
                raise RestoreRefused("the repository cannot be restored any more: its content is collected")
            await repositories.restore(connection, found, RepositoryName(found.path), now)
            await pins.require_unpinned(connection, id)
            restored = await repositories.find_by_id(connection, id)
            assert restored is not None, "it was restored in this transaction"
            return restored

        with database_errors():
            return await self._database.transact(restore)

    async def restore_tag(
        self,
        repository: StoredRepository,
        tag: Tag,
        actor: str,
        *,
        digest: Digest | None,
        moment: datetime | None,
        guard: TagGuard | None = None,
    ) -> Digest:
        """Point a tag to what it pointed to, as `restoring.restore_tag` does. Raises RestoreRefused, NameUnknown,
        Denied."""

        async def restore(connection: Connection) -> Digest:
            present = await self._present(connection, repository)
            await pins.require_unpinned(connection, present.id)
            now = self._clock()
            return await restore_tag(connection, present, tag, now, actor, digest=digest, moment=moment, guard=guard)

        with database_errors():
            return await self._database.transact(restore)

    async def move_repository(
        self,
        repository: StoredRepository,
        path: RepositoryName,
        project_id: int,
        kept: timedelta,
        levels: MoveLevels = _NO_LEVELS,
    ) -> Moved:
        """Move a repository to a path in the project of an id. `kept`: how long its old path leads to it; `levels`: by
        which protection rules judge whoever does it. Raises what `moves.move_repository` does, Denied where a rule of
        either project keeps it, and MoveRefused where the path has come to lie in another project."""
        with database_errors():
            await require_movable(self._database, repository, path.text, levels)

        async def move(connection: Connection) -> Moved:
            present = await self._present(connection, repository)
            moved = await moves.move_repository(connection, present.path, path.text, self._clock(), kept)
            after = await repositories.find_by_id(connection, present.id)
            if after is None or after.project_id != project_id:
                raise MoveRefused(f"{path.text!r} lies in another project since: try again")
            return moved

        with database_errors():
            return await self._database.transact(move)

    async def _present(self, connection: Connection, repository: StoredRepository) -> StoredRepository:
        """The repository as it is now. Raises NameUnknown where it was deleted, or has left its project."""
        present = await repositories.find_by_id(connection, repository.id)
        if present is None or present.project_id != repository.project_id:
            raise NameUnknown(f"the repository {repository.path} was deleted or moved meanwhile")
        return present
