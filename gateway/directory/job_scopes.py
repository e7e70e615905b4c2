"""JobScopeAdministration: of which other projects and groups the jobs may pull from a project."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.db import paths, projects
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry
from gateway.namespaces.project import Project, unknown_project


class JobScopeAdministration:
    """Allowed jobs as the database has them. Raises TreeError where a change is refused, DatabaseUnusable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_allowed(self, project_id: int, kind: NodeKind) -> Sequence[PathEntry]:
        """The other projects, or the groups, whose jobs a project allows, in the order of their paths."""
        async with self._database.read() as connection:
            allowed = await projects.allowed_jobs(connection, project_id)
            return await paths.find_of(connection, [key for key in allowed if key.kind is kind])

    async def allow(self, project_id: int, key: NodeKey) -> bool:
        """Allow the jobs of a project, or of all below a group; return whether they were not allowed yet. Raises
        ProjectUnknown, NodeUnknown, AllowanceRefused."""

        async def allow(connection: Connection) -> bool:
            return await projects.allow_job_of(connection, await _get(connection, project_id), key)

        return await self._database.transact(allow)

    async def disallow(self, project_id: int, key: NodeKey) -> bool:
        """Allow the jobs of a project or group no more; return whether they were allowed. Raises ProjectUnknown."""

        async def disallow(connection: Connection) -> bool:
            return await projects.disallow_job_of(connection, await _get(connection, project_id), key)

        return await self._database.transact(disallow)

    async def limit(self, project_id: int, limits: bool) -> bool:
        """Set whether jobs of other projects need an allowance; return whether that is a change. Raises
        ProjectUnknown."""

        async def limit(connection: Connection) -> bool:
            project = await _get(connection, project_id)
            if project.limits_jobs is limits:
                return False
            await projects.update(connection, replace(project, limits_jobs=limits))
            return True

        return await self._database.transact(limit)


async def _get(connection: Connection, id: int) -> Project:
    project = await projects.find_by_id(connection, id)
    if project is None:
        raise unknown_project(str(id))
    return project
