"""Collector: garbage collection of the native store, while it is pushed to and pulled from.

                 reviewed when                          deleted unless
manifest         it was pushed, or lost a tag, an       a tag points to it, an index lists it, its subject is there, or
                 index, its subject, a referrer         a referrer of it is needed
blob of a        it was pushed or mounted, or a         a manifest of the repository refers to it
repository       manifest that needed it was deleted
repository       it was deleted                         it was restored
deleted manifest a client deleted it by its digest      it was restored, or pushed again
stored blob      its last repository gave it up         a repository has it

A review is due one delay after the last event, see gateway.db.reviews. It is one transaction that decides anew and
deletes; what it leaves without use is reviewed one delay later. Of a deleted blob the transaction notes that its file
is to be deleted. The file goes after the commit is durable, under the lease of its digest, which whoever stores the
same content takes too, and only if no blob has that digest then. A crash anywhere leaves a note, and at most a file
that the next collector deletes.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from cache.lease.base import held
from cache.runtime.failpoints import failpoint
from cache.runtime.locks import try_locked
from gateway.db import (
    blob_removals,
    blobs,
    collection,
    collection_state,
    deleted_manifests,
    forgotten,
    repositories,
    reviews,
)
from gateway.db.blob_removals import BlobRemoval
from gateway.db.collection import BlobReview, Deleted, ManifestReview
from gateway.db.collection_state import CollectionState
from gateway.db.connection import Connection
from gateway.registry.clock_guard import CLOCK_TOLERANCE, ClockGuard
from gateway.registry.collection_guard import OLD_DELAYS, Window, jitter_of
from gateway.registry.deletion import purge_due
from gateway.registry.intake import NativeBlobs, blob_lease, take_lease

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R", ManifestReview, BlobReview)

PAGE = 500
"""Reviews that are read at once."""
FORGOTTEN_AT_ONCE = 100
"""Deleted manifests that one transaction forgets, each of up to 4 MiB."""
FILES = 100
"""Files that are deleted between two looks for reviews."""
REST = 0.7
"""Share of the time in which a collector with much to do does nothing, after each object, so that writers have their
turns."""
RETRY = timedelta(minutes=1)
LONGEST_RETRY = timedelta(days=1)
"""When the deletion of a file is tried again that failed; each failure doubles it, up to the longest."""
SAMPLE, LEAST_SAMPLE = 50, 4
"""Blobs whose files are looked for before the first deletion, and how few say nothing."""
LOOK_EVERY = timedelta(minutes=10)
"""How often a collector with nothing to do notes that it has looked."""
CHECK_EVERY = timedelta(days=1)
"""How often content is looked for that nothing needs and nobody reviews."""
LATEST = LONGEST_RETRY + CLOCK_TOLERANCE
"""How much later than now anything can be due whose delay is not counted; what is dated later, a clock that was ahead
has dated."""


@dataclass(slots=True)
class Collected:
    """What a step of a collector did, or several. `freed_bytes`: of files that were deleted."""

    reviewed: int = 0
    repositories: int = 0
    manifests: int = 0
    blobs: int = 0
    freed_bytes: int = 0
    has_more: bool = False
    """Whether more is due already."""

    @property
    def deleted(self) -> int:
        """How many objects were deleted; what a repository held is not counted with it."""
        return self.repositories + self.manifests + self.blobs

    def add(self, other: "Collected") -> None:
        """Add what a later step did."""
        self.reviewed += other.reviewed
        self.repositories += other.repositories
        self.manifests += other.manifests
        self.blobs += other.blobs
        self.freed_bytes += other.freed_bytes


@dataclass(frozen=True, slots=True)
class CollectionRule:
    """`delay`: how long content stays that nothing needs. `backup_lock`: file that is locked while a backup runs."""

    delay: timedelta
    backup_lock: Path


class CollectionStopped(Exception):
    """Nothing is collected; the text says why. `asks`: whether it goes on once somebody has confirmed it."""

    def __init__(self, reason: str, *, asks: bool = False) -> None:
        super().__init__(reason)
        self.asks = asks


@dataclass(frozen=True, slots=True)
class _Kind(Generic[R]):
    """A kind of reviews, by its queries. `counted`: the count that one of its deletions adds to."""

    list_due: Callable[..., Coroutine[Any, Any, list[R]]]
    end_needless: Callable[..., Coroutine[Any, Any, set[str]]]
    collect: Callable[[Connection, R, datetime], Coroutine[Any, Any, Deleted | None]]
    counted: str


_MANIFESTS = _Kind(
    collection.list_manifests, collection.end_needless_of_manifests, collection.collect_manifest, "manifests"
)
_BLOBS = _Kind(collection.list_blobs, collection.end_needless_of_blobs, collection.collect_blob, "blobs")


class Collector:
    """Collects what is due. Several may do so at once. For one event loop."""

    def __init__(self, native: NativeBlobs, rule: CollectionRule, passed: Callable[[], float] = time.monotonic) -> None:
        """`passed`: seconds of a clock that never jumps."""
        self._passed = passed
        self._native = native
        self._rule = rule
        self._database_file = _inode(native.database.address)
        self._is_confirmed = False
        self._is_own_store = False
        self._guard = ClockGuard()
        self._looked_at: datetime | None = None
        self._checked_at: datetime | None = None
        self._manifest_place: int | None = None
        self._blob_place: str | None = None

    async def step(self) -> Collected:
        """Review a page of manifests and one of blobs, and delete files.

        Raises CollectionStopped, DatabaseUnusable, StoreUnavailable, OSError.
        """
        done = Collected()
        if not await self._has_work():
            return done
        await self._require_safe()
        await self._purge(done)
        await self._forget_deleted(done)
        done.manifests = await self._review(_MANIFESTS, done)
        done.blobs = await self._review(_BLOBS, done)
        await self._delete_files(done)
        await self._look_for_forgotten()
        if done.deleted or done.freed_bytes:
            counts = {"repositories": done.repositories, "manifests": done.manifests, "blobs": done.blobs}
            log.info("content_collected", **counts, freed_bytes=done.freed_bytes)
        return done

    async def confirm(self) -> None:
        """Let all collectors go on that were stopped, and this one whatever the clock did: somebody has looked.

        Raises DatabaseUnusable.
        """
        self._is_confirmed = True
        await self._native.database.transact(collection_state.go_on)

    async def examine(self) -> Collected:
        """Find what is due, and what would be deleted of it now, and change nothing. Raises DatabaseUnusable."""
        found, now = Collected(), self._native.clock()
        before = now - self._rule.delay
        found.repositories = await self._read(partial(repositories.count_deleted, before=before))
        manifest: ManifestReview | None = None
        while manifests_due := await self._read(
            partial(collection.list_manifests, before=before, limit=PAGE, after=manifest)
        ):
            for manifest in manifests_due:
                if self._is_due(manifest.key, manifest.since, now):
                    found.reviewed += 1
                    found.manifests += await self._read(partial(collection.would_delete_manifest, review=manifest))
        blob: BlobReview | None = None
        while blobs_due := await self._read(partial(collection.list_blobs, before=before, limit=PAGE, after=blob)):
            for blob in blobs_due:
                if self._is_due(blob.key, blob.since, now):
                    found.reviewed += 1
                    size = await self._read(partial(collection.would_delete_blob, review=blob, before=before))
                    found.blobs += size is not None
                    found.freed_bytes += size or 0
        return found

    async def _read(self, query: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        async with self._native.database.read() as connection:
            return await query(connection)

    async def _has_work(self) -> bool:
        """Whether anything is due, or was not looked at for long. An idle collector does nothing else."""
        now = self._native.clock()
        if self._looked_at is None or not timedelta(0) <= now - self._looked_at < LOOK_EVERY:
            return True
        if self._manifest_place is not None or self._blob_place is not None:
            return True
        return await self._native.database.query(
            partial(collection.is_anything_due, before=now - self._rule.delay, now=now)
        )

    async def _require_safe(self) -> None:
        """Check that nothing speaks against collecting, and note that a collector has looked, or why it does not go on.
        Raises CollectionStopped."""
        now = self._native.clock()
        state = await self._read(collection_state.read)
        try:
            await self._check(state, now)
        except CollectionStopped as error:
            if str(error) != state.stopped_reason:
                hold = partial(collection_state.hold, reason=str(error))
                await self._native.database.transact(hold, durable=False)
            raise
        if state.stopped_reason is not None:
            await self._native.database.transact(collection_state.end_hold, durable=False)
        if state.seen_at is None or not timedelta(0) <= now - state.seen_at < LOOK_EVERY:
            await self._native.database.transact(partial(collection_state.note_seen, now=now), durable=False)
        self._looked_at = now

    async def _check(self, state: CollectionState, now: datetime) -> None:
        """Check that nothing speaks against collecting. Raises CollectionStopped."""
        reason = self._guard.decide(now, self._passed(), state.seen_at)
        if state.stopped_at is not None and state.stopped_reason is not None:
            raise CollectionStopped(state.stopped_reason, asks=True)
        if reason is not None and not self._is_confirmed:
            raise CollectionStopped(reason, asks=True)
        window = Window(state.window_at, state.window_objects, state.window_deleted)
        if window.is_over(now):
            objects = await self._read(collection_state.count_objects)
            await self._native.database.transact(partial(collection_state.begin_window, now=now, objects=objects))
        elif window.is_used_up and not self._is_confirmed:
            reason = (
                f"within a day {window.deleted} old blobs and manifests were deleted, of {window.objects} in all: "
                "collection goes on when somebody confirms that this is meant"
            )
            await self._native.database.transact(partial(collection_state.stop, reason=reason, now=now))
            raise CollectionStopped(reason, asks=True)
        if not self._is_own_store:
            await self._require_own_store()

    async def _require_own_store(self) -> None:
        """Check that the files of some blobs are in the store: those of another data folder's database are not. Raises
        CollectionStopped."""
        start = f"sha256:{secrets.token_hex(4)}"
        some = await self._read(partial(collection.sample, after=start, limit=SAMPLE))
        if len(some) < SAMPLE:
            first = await self._read(partial(collection.sample, after="", limit=SAMPLE - len(some)))
            some = list(dict.fromkeys([*some, *first]))
        missing = sum(self._native.store.stat(digest) is None for digest in some)
        if len(some) >= LEAST_SAMPLE and missing * 2 > len(some):
            raise CollectionStopped(
                f"{missing} of {len(some)} blobs that the database names have no file here: "
                "the database and the data folder do not belong together, or files were lost"
            )
        self._is_own_store = True

    async def _purge(self, done: Collected) -> None:
        """Purge repositories that were deleted one delay ago."""
        now = self._native.clock()
        done.repositories, has_more = await purge_due(self._native.database, now - self._rule.delay, now)
        done.has_more |= has_more

    async def _forget_deleted(self, done: Collected) -> None:
        """Forget manifests that were deleted by their digests one delay ago."""
        before = self._native.clock() - self._rule.delay
        forget = partial(deleted_manifests.purge, before=before, limit=FORGOTTEN_AT_ONCE)
        if await self._read(partial(deleted_manifests.any_deleted, before=before)):
            done.has_more |= await self._native.database.transact(forget, durable=False) == FORGOTTEN_AT_ONCE

    async def _review(self, kind: "_Kind[R]", done: Collected) -> int:
        """Review a page of what is due of a kind; return how many objects were deleted."""
        now, deleted = self._native.clock(), 0
        before = now - self._rule.delay
        due = await self._read(partial(kind.list_due, before=before, limit=PAGE))
        if not due:
            return 0
        end_needless = partial(kind.end_needless, due=due, before=before)
        ended = await self._native.database.transact(end_needless, durable=False)
        rest = [each for each in due if each.key not in ended and self._is_due(each.key, each.since, now)]
        for each in rest:
            failpoint("gc.review")
            collect = partial(self._collect, kind=kind, review=each)
            async with _resting():
                deleted += await self._native.database.transact(collect, durable=False)
        done.reviewed += len(ended) + len(rest)
        done.has_more |= len(due) == PAGE and bool(ended or rest)
        return deleted

    async def _collect(self, connection: Connection, kind: "_Kind[R]", review: R) -> bool:
        """Decide a review in a transaction that writes; whether its object was deleted."""
        now = self._native.clock()
        deleted = await kind.collect(connection, review, now)
        if deleted is None:
            return False
        # What somebody has confirmed does not stop the next collector once more.
        is_old = not self._is_confirmed and deleted.stored_at <= now - OLD_DELAYS * self._rule.delay
        await collection_state.note_deleted(connection, old=is_old, **{kind.counted: 1})
        return True

    def _is_due(self, key: str, since: datetime, now: datetime) -> bool:
        return since + self._rule.delay + jitter_of(key, self._rule.delay) <= now

    async def _delete_files(self, done: Collected) -> None:
        """Delete files of deleted blobs, unless a backup runs, which may still read them."""
        now = self._native.clock()
        due = await self._read(partial(blob_removals.list_due, now=now, limit=FILES))
        if not due:
            return
        # The deletions of the blobs become durable before any of their files goes.
        await self._native.database.transact(partial(collection_state.note_seen, now=now))
        failpoint("gc.deleted")
        with try_locked(self._rule.backup_lock) as is_free:
            if not is_free:
                return
            self._require_same_database()
            for removal in due:
                async with _resting():
                    done.freed_bytes += await self._delete_file(removal)
        done.has_more |= len(due) == FILES

    def _require_same_database(self) -> None:
        """Check that the file of the database was not replaced since it was opened, as a restore does, which keeps the
        files that its own database names. Raises CollectionStopped."""
        if _inode(self._native.database.address) != self._database_file:
            raise CollectionStopped("the database was replaced meanwhile: begin anew")

    async def _delete_file(self, removal: BlobRemoval) -> int:
        """Delete the file of a deleted blob; return the bytes that were freed."""
        lease = take_lease(self._native.leases, blob_lease(removal.digest))
        if lease is None:  # somebody is storing the same content
            return 0
        with held(lease):
            try:
                return await self._free(removal)
            except OSError as error:
                wait = min(LONGEST_RETRY, RETRY * 2 ** min(removal.attempts, 20))
                log.warning("blob_file_not_deleted", digest=str(removal.digest), reason=error.strerror)
                later = partial(blob_removals.put_off, digest=removal.digest, due_at=self._native.clock() + wait)
                await self._native.database.transact(later, durable=False)
                return 0

    async def _free(self, removal: BlobRemoval) -> int:
        """Delete the file of a blob that has no row, under its lease; return the bytes that were freed."""
        digest, freed = removal.digest, 0
        recorded = await self._native.database.query(partial(blobs.stored_size, digest=digest))
        if recorded is None and self._native.store.stat(digest) is not None:
            failpoint("gc.unlink")
            await self._native.threads.run(self._native.store.delete, digest)
            freed = removal.size

        async def end(connection: Connection) -> None:
            await blob_removals.end(connection, digest)
            await collection_state.note_freed(connection, freed)

        await self._native.database.transact(end, durable=False)
        return freed

    async def _look_for_forgotten(self) -> None:
        """Request the reviews that a page of content lacks; all of it has its turn once a day."""
        now = self._native.clock()
        if self._manifest_place is None and self._blob_place is None:
            if self._checked_at is not None and timedelta(0) <= now - self._checked_at < CHECK_EVERY:
                return
            await self._native.database.transact(partial(_date_back, now=now), durable=False)
            self._checked_at, self._manifest_place, self._blob_place = now, 0, ""
        if self._manifest_place is not None:
            look = partial(forgotten.review_manifests, after=self._manifest_place, limit=PAGE, now=now)
            self._manifest_place = await self._native.database.transact(look, durable=False)
        elif self._blob_place is not None:
            search = partial(forgotten.review_blobs, after=self._blob_place, limit=PAGE, now=now)
            self._blob_place = await self._native.database.transact(search, durable=False)


@asynccontextmanager
async def _resting() -> AsyncIterator[None]:
    """Do nothing after the block for as long as the REST of it says."""
    began = time.monotonic()
    yield
    await asyncio.sleep((time.monotonic() - began) * REST / (1 - REST))


async def _date_back(connection: Connection, now: datetime) -> None:
    """Date to now what would wait as long as a clock was ahead by which it was requested."""
    await reviews.date_back(connection, now + LATEST, now)
    await blob_removals.date_back(connection, now + LATEST, now)


def _inode(address: object) -> int | None:
    """Number of the file of an SQLite database; None for a database elsewhere, and for a file that is missing."""
    if not isinstance(address, Path):
        return None
    try:
        return address.stat().st_ino
    except FileNotFoundError:
        return None
