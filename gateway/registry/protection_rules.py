"""ProtectionRules: changes of the protection rules of projects, by whoever may make them. Nothing is decided here."""

from collections.abc import Callable
from datetime import datetime
from functools import partial

from gateway.db import projects, protections
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.project import Project, unknown_project
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel, ProtectionRule
from gateway.registry.storage_errors import database_errors


class ProtectionRules:
    """Rules of projects, by their ids. Each change counts from the next request on, wherever that arrives.

    Raises TreeError where a rule is refused, StoreUnavailable.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def list_of(self, project_id: int) -> list[ProtectionRule]:
        """List the rules of a project in the order in which they were made."""
        with database_errors():
            return await self._database.query(partial(protections.list_of, project_id=project_id))

    async def create(
        self,
        project_id: int,
        kind: ProtectionKind,
        pattern: str,
        push: ProtectionLevel | None,
        delete: ProtectionLevel | None,
    ) -> ProtectionRule:
        """Make a rule. `pattern`: as in ProtectionRule."""

        async def create(connection: Connection) -> ProtectionRule:
            project = await _get(connection, project_id)
            return await protections.create(connection, project, kind, pattern, self._clock(), push=push, delete=delete)

        with database_errors():
            return await self._database.transact(create)

    async def update(
        self,
        project_id: int,
        rule_id: int,
        pattern: str,
        push: ProtectionLevel | None,
        delete: ProtectionLevel | None,
    ) -> ProtectionRule:
        """Change a rule."""

        async def update(connection: Connection) -> ProtectionRule:
            project = await _get(connection, project_id)
            return await protections.update(connection, project, rule_id, pattern, push, delete)

        with database_errors():
            return await self._database.transact(update)

    async def delete(self, project_id: int, rule_id: int) -> None:
        """Delete a rule."""

        async def delete(connection: Connection) -> None:
            await protections.delete(connection, await _get(connection, project_id), rule_id)

        with database_errors():
            await self._database.transact(delete)


async def _get(connection: Connection, project_id: int) -> Project:
    project = await projects.find_by_id(connection, project_id)
    if project is None:
        raise unknown_project(str(project_id))
    return project
