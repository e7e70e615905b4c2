"""CleanupPolicies: the cleanup policies of projects as the database has them, for whoever may administer them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial

from gateway.db import cleanups
from gateway.db.cleanups import StoredPolicy
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.cleanup_policy import CleanupPolicy
from gateway.registry.cleaner import preview
from gateway.registry.cleanup import JudgedTag
from gateway.registry.storage_errors import database_errors


class StoredPolicies:
    """Reads, previews and stores policies. Raises StoreUnavailable."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def find(self, project_id: int) -> StoredPolicy | None:
        """Find the policy of a project; None where it never had one."""
        with database_errors():
            return await self._database.query(partial(cleanups.find, project_id=project_id))

    async def save(self, project_id: int, change: Callable[[CleanupPolicy], CleanupPolicy]) -> None:
        """Change the policy of a project, which has the defaults until somebody does; the next run is due one cadence
        from now. Raises CleanupRuleInvalid, and what `change` raises."""

        async def save(connection: Connection) -> None:
            stored = await cleanups.find(connection, project_id)
            policy = change(CleanupPolicy() if stored is None else stored.policy)
            await cleanups.save(connection, project_id, policy, self._clock())

        with database_errors():
            await self._database.transact(save)

    async def preview(
        self, project_id: int, policy: CleanupPolicy
    ) -> AsyncGenerator[tuple[str, Sequence[JudgedTag]], None]:
        """Judge the tags of a project as a run now would, part by part with the paths of their repositories, and change
        nothing. Raises CleanupRuleInvalid."""
        with database_errors():
            async with aclosing(preview(self._database, project_id, policy, self._clock())) as parts:
                async for part in parts:
                    yield part
