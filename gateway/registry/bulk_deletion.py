"""BulkDeleter: deletes tags of a repository by a rule, as somebody has requested once.

A request is a row of the database. Some process takes its lease, judges the tags page by page, the newest first, and
deletes in batches; whoever is interrupted leaves the row, and another process goes on once the lease has ended. Each
batch is one short transaction, which looks again at what may have changed since a tag was judged: the lease is still
this deleter's, the repository is where it was, no pin keeps it as it is, no rule protects the tag, and it points where
it did.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import structlog

from cache.oci.errors import Denied, NameUnknown
from gateway.db import bulk_deletions, pins, protections, repositories, tags
from gateway.db.bulk_deletions import BulkDeletion, BulkLeaseLost, BulkRun
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.repositories import StoredRepository
from gateway.db.tags import DatedName
from gateway.namespaces.cleanup_rule import CleanupRule, CleanupRuleInvalid, parse_rule
from gateway.registry.cleaner import resting
from gateway.registry.cleanup import Judge, JudgedTag
from gateway.registry.judged_tags import doomed_batches, judged_pages, protection_by
from gateway.registry.storage_errors import database_errors

log = structlog.get_logger()

T = TypeVar("T")

Deleted = Sequence[tuple[str, str]]
"""Names of tags, with the digests that they pointed to."""


class BulkDeleter:
    """Takes requests, and does what is requested, one after the other. For one event loop."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._owner = secrets.token_hex(8)
        self.requested = asyncio.Event()
        """Set when this process has taken a request."""

    async def request(self, repository: StoredRepository, wanted: BulkDeletion) -> bool:
        """Take a request; False where the last one was less than an hour ago. Raises NameUnknown, Denied where a pin
        keeps the repository as it is, StoreUnavailable."""

        async def request(connection: Connection) -> bool:
            await _require_in_place(connection, repository.id, repository.project_id)
            await pins.require_unpinned(connection, repository.id)
            return await bulk_deletions.request(connection, wanted)

        with database_errors():
            taken = await self._database.transact(request)
        if taken:
            self.requested.set()
        return taken

    async def preview(
        self, repository: StoredRepository, rule: CleanupRule
    ) -> AsyncGenerator[Sequence[JudgedTag], None]:
        """Judge the tags of a repository as a deletion that is requested now would, page by page, and change nothing.
        Raises StoreUnavailable."""
        with database_errors():
            judge = Judge(rule, self._clock(), await self._protection(repository.project_id))
            async with aclosing(judged_pages(self._database, repository.id, judge)) as pages:
                async for page in pages:
                    yield page

    async def step(self, deleted: Callable[[BulkRun, Deleted], None]) -> bool:
        """Do one deletion that is due to its end; whether there was one. `deleted` is called with what each batch
        deleted, after its commit. Raises DatabaseUnusable."""
        now = self._clock()
        if not await self._database.query(partial(bulk_deletions.is_any_due, now=now)):
            return False
        run = await self._transact(partial(bulk_deletions.claim, owner=self._owner, now=now))
        if run is None:
            return False
        try:
            await self._run(run, deleted)
        except BulkLeaseLost:
            log.info("bulk_deletion_ended", repository=run.path, reason="another process goes on with it")
        except asyncio.CancelledError:
            await self._transact(partial(bulk_deletions.release, run=run))
            raise
        return True

    async def _run(self, run: BulkRun, deleted: Callable[[BulkRun, Deleted], None]) -> None:
        wanted, problem = run.requested, None
        try:
            rule = parse_rule(wanted.name_regex_delete, wanted.name_regex_keep, wanted.keep_n, wanted.older_than)
            await self._delete_all(run, rule, deleted)
        except (CleanupRuleInvalid, Denied, NameUnknown) as error:
            problem = str(error.detail if isinstance(error, Denied | NameUnknown) else error)
        count = await self._transact(partial(bulk_deletions.complete, run=run, now=self._clock(), problem=problem))
        log.info("bulk_deletion_completed", repository=run.path, deleted=count, who=wanted.who, problem=problem)

    async def _delete_all(self, run: BulkRun, rule: CleanupRule, deleted: Callable[[BulkRun, Deleted], None]) -> None:
        """Delete what a rule deletes. Raises Denied, NameUnknown, BulkLeaseLost."""
        judge = Judge(rule, run.requested.requested_at, await self._protection(run.project_id))
        async with aclosing(doomed_batches(self._database, run.requested.repository_id, judge)) as parts:
            async for _, batch in parts:
                if batch:
                    async with resting():
                        await self._delete(run, batch, deleted)

    async def _delete(
        self, run: BulkRun, chosen: Sequence[DatedName], deleted: Callable[[BulkRun, Deleted], None]
    ) -> None:
        wanted, now = run.requested, self._clock()

        async def delete(connection: Connection) -> Deleted:
            await _require_in_place(connection, wanted.repository_id, run.project_id)
            await pins.require_unpinned(connection, wanted.repository_id)
            protected = protection_by(await protections.of_project(connection, run.project_id))
            free = [tag for tag in chosen if not protected(tag.name)]
            gone = await tags.delete_unmoved(connection, wanted.repository_id, free, now, wanted.actor)
            await bulk_deletions.renew(connection, run, now, len(gone))
            return gone

        if gone := await self._transact(delete):
            deleted(run, gone)

    async def _protection(self, project_id: int) -> Callable[[str], str]:
        """What keeps tags of a project from being deleted with others, whoever requests it: one by one, whoever may
        delete a protected tag does."""
        return protection_by(await self._database.query(partial(protections.of_project, project_id=project_id)))

    async def _transact(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Do a transaction that a power failure may undo: the deletion then goes on from what is there."""
        return await self._database.transact(work, durable=False)


async def _require_in_place(connection: Connection, repository_id: int, project_id: int) -> None:
    """Check that a repository is still in its project. Raises NameUnknown."""
    present = await repositories.find_by_id(connection, repository_id)
    if present is None or present.project_id != project_id:
        raise NameUnknown("the repository was deleted or moved meanwhile")
