"""Cleaner: runs cleanup policies of projects while their repositories are pushed to and pulled from.

A run judges the tags of each repository page by page and deletes them in batches. Each batch is one short transaction,
which looks again at what may have changed since a tag was judged: the run is still this cleaner's, no pin keeps the
repository as it is, the repository is there, no rule protects the tag, and it points where it did. What a run does is
decided by the moment at which it began, so that one that was interrupted goes on to the same end.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from cache.oci.errors import Denied, NameUnknown
from gateway.db import cleanups, collection_state, pins, protections, repositories
from gateway.db import tags as tag_rows
from gateway.db.cleanups import LEASE, CleanupRun, LeaseLost, UncleanedRepository
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.tags import DatedName
from gateway.namespaces.cleanup_policy import CleanupPolicy
from gateway.namespaces.cleanup_rule import CleanupRule, CleanupRuleInvalid
from gateway.registry.cleanup import Judge, JudgedTag
from gateway.registry.clock_guard import ClockGuard
from gateway.registry.judged_tags import doomed_batches, judged_pages, protection_by

log = structlog.get_logger()

T = TypeVar("T")

ACTOR = "(cleanup policy)"
"""Whom the history of tags names for what a policy deleted; no user has such a name."""

REPOSITORIES = 100
"""Repositories that are listed at once."""
REST = 0.3
"""Share of the time in which a cleaner with much to do does nothing, so that others have their turns."""


@dataclass(frozen=True, slots=True)
class CleanedTags:
    """Tags of a repository that a policy of its project has deleted, with the digests that they pointed to."""

    project: str
    repository: str
    tags: Sequence[tuple[str, str]]


class Cleaner:
    """Runs policies, one at a time. For one event loop. Raises DatabaseUnusable."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        cleaned: Callable[[CleanedTags], None],
        completed: Callable[[str, int], None] = lambda project, deleted: None,
        passed: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cleaned` is called with what each batch deleted, after its commit, and `completed` at the end of a run with
        its project, and how many tags this cleaner has deleted for it. `passed`: seconds of a clock that never
        jumps."""
        self._passed = passed
        self._guard = ClockGuard("cleanup")
        self._held: str | None = None
        self._database = database
        self._clock = clock
        self._cleaned = cleaned
        self._completed = completed
        self._owner = secrets.token_hex(8)
        self._renewed_at = datetime.min.replace(tzinfo=UTC)
        self._going: AsyncGenerator[None, None] | None = None

    async def step(self) -> bool:
        """Do a part of what is due, in some tens of milliseconds; whether there may be more. Nothing is due by a clock
        that was set."""
        if await self._is_held():
            await self.close()
            return False
        if self._going is None:
            claim = partial(cleanups.claim_due, owner=self._owner, now=self._clock())
            run = await self._database.transact(claim, durable=False)
            if run is None:
                return False
            self._going = self._run(run)
        try:
            await anext(self._going)
        except StopAsyncIteration:
            self._going = None
        except BaseException:
            self._going = None
            raise
        return True

    async def _is_held(self) -> bool:
        """Whether the clock speaks against deleting anything, which is logged once."""
        now, state = self._clock(), await self._database.query(collection_state.read)
        held = self._guard.decide(now, self._passed(), state.seen_at)
        if held is not None and self._held is None:
            log.warning("cleanup_held", reason=held)
        self._held = held
        return held is not None

    async def close(self) -> None:
        """Give up the run that goes on; another cleaner goes on with it."""
        if self._going is not None:
            going, self._going = self._going, None
            await going.aclose()

    async def clean(self, project_id: int) -> bool:
        """Run the policy of a project now, to its end; False where another cleaner does, or there is none."""
        claim = partial(cleanups.claim, project_id=project_id, owner=self._owner, now=self._clock())
        run = await self._database.transact(claim, durable=False)
        if run is None:
            return False
        async with aclosing(self._run(run)) as steps:
            while True:
                async with resting():
                    try:
                        await anext(steps)
                    except StopAsyncIteration:
                        return True

    async def _run(self, run: CleanupRun) -> AsyncGenerator[None, None]:
        """Do a run to its end, with a pause after each batch."""
        try:
            async with aclosing(self._steps(run)) as steps:
                async for _ in steps:
                    yield
        except LeaseLost:
            log.info("cleanup_ended", project=run.project, reason="its policy was changed, or another process runs it")
        except (GeneratorExit, asyncio.CancelledError):
            await self._database.transact(partial(cleanups.release, run=run), durable=False)
            raise

    async def _steps(self, run: CleanupRun) -> AsyncGenerator[None, None]:
        try:
            rule = run.policy.rule()
        except CleanupRuleInvalid as error:
            log.warning("cleanup_policy_disabled", project=run.project, reason=str(error))
            await self._transact(partial(cleanups.disable, run=run, problem=str(error)))
            return
        after, deleted, problem = 0, 0, None
        try:
            if run.pinned_at is not None:
                await self._database.query(partial(pins.refuse, project=run.project, moment=run.pinned_at))
            while page := await self._list(run, after):
                after = page[-1].id
                if untagged := [each.id for each in page if not each.has_tags]:
                    passed = partial(cleanups.complete_untagged, run=run, ids=untagged, now=self._clock())
                    await self._transact(passed)
                    yield
                for each in page:
                    if each.has_tags:
                        async with aclosing(self._clean(run, rule, each.id, each.path)) as batches:
                            async for count in batches:
                                deleted += count
                                yield
        except Denied as error:
            problem = str(error.detail)
            log.warning("cleanup_refused", project=run.project, reason=problem)
        await self._transact(partial(cleanups.complete, run=run, now=self._clock(), problem=problem))
        if problem is None:
            self._completed(run.project, deleted)

    async def _clean(
        self, run: CleanupRun, rule: CleanupRule, repository_id: int, path: str
    ) -> AsyncGenerator[int, None]:
        """Delete what the rule deletes of a repository, unless that is deleted meanwhile; after each part, yield how
        many tags that deleted. Raises Denied, LeaseLost."""
        now = self._clock()
        judged = deleted = 0
        try:
            with repositories.adding_to_repository():
                begin = partial(cleanups.begin_repository, run=run, repository_id=repository_id, now=now)
                await self._transact(begin)
            self._renewed_at = now
            rules = await self._database.query(partial(protections.of_project, project_id=run.project_id))
            judge = Judge(rule, run.run_at, protection_by(rules))
            async with aclosing(doomed_batches(self._database, repository_id, judge)) as parts:
                async for number, batch in parts:
                    judged += number
                    count = await self._delete(run, repository_id, path, batch) if batch else await self._renew(run)
                    deleted += count
                    yield count
        except NameUnknown:  # it was deleted meanwhile
            return
        kept, now = judged - deleted, self._clock()
        await self._transact(
            partial(cleanups.complete_repository, run=run, repository_id=repository_id, kept=kept, now=now)
        )
        yield 0

    async def _renew(self, run: CleanupRun) -> int:
        """Renew the lease where a good part of it has passed; no tag is deleted. Raises LeaseLost."""
        now = self._clock()
        if not timedelta(0) <= now - self._renewed_at < LEASE / 4:
            await self._transact(partial(cleanups.renew, run=run, now=now))
            self._renewed_at = now
        return 0

    async def _delete(self, run: CleanupRun, repository_id: int, path: str, chosen: Sequence[DatedName]) -> int:
        """Delete a batch of tags; return how many. Raises Denied, NameUnknown, LeaseLost."""
        now = self._clock()

        async def delete(connection: Connection) -> list[tuple[str, str]]:
            await cleanups.require_in_project(connection, run, repository_id)
            await pins.require_unpinned(connection, repository_id)
            protected = protection_by(await protections.of_project(connection, run.project_id))
            free = [tag for tag in chosen if not protected(tag.name)]
            gone = await tag_rows.delete_unmoved(connection, repository_id, free, now, ACTOR)
            await cleanups.renew(connection, run, now, len(gone))
            await cleanups.count_deleted(connection, repository_id, len(gone))
            return gone

        gone = await self._transact(delete)
        self._renewed_at = now
        if gone:
            self._cleaned(CleanedTags(run.project, path, gone))
        return len(gone)

    async def _list(self, run: CleanupRun, after: int) -> list[UncleanedRepository]:
        listed = partial(cleanups.list_uncleaned, run=run, after=after, limit=REPOSITORIES)
        return await self._database.query(listed)

    async def _transact(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Do a transaction that a power failure may undo: the run then goes on from what is there."""
        return await self._database.transact(work, durable=False)


async def preview(
    database: Database, project_id: int, policy: CleanupPolicy, now: datetime
) -> AsyncGenerator[tuple[str, Sequence[JudgedTag]], None]:
    """Judge the tags of a project's repositories as a run of a policy that begins now would, page by page, and change
    nothing. Raises CleanupRuleInvalid, DatabaseUnusable."""
    rule, after = policy.rule(), 0
    protection = protection_by(await database.query(partial(protections.of_project, project_id=project_id)))
    while True:
        listed = partial(repositories.list_present, project_id=project_id, after=after, limit=REPOSITORIES)
        found = await database.query(listed)
        for repository in found:
            after = repository.id
            async with aclosing(judged_pages(database, repository.id, Judge(rule, now, protection))) as pages:
                async for page in pages:
                    yield repository.path, page
        if len(found) < REPOSITORIES:
            return


@asynccontextmanager
async def resting() -> AsyncIterator[None]:
    """Do nothing after the block for as long as the REST of it says."""
    began = time.monotonic()
    yield
    await asyncio.sleep((time.monotonic() - began) * REST / (1 - REST))
