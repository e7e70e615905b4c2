"""The sweep: it evicts down to the limits, in one process of the host at a time, and makes room when a disk is full.

The row is deleted first, then the file, except on a disk too full to change the index. A crash in between leaves a file
without a row, or on a full disk a row without a file, which is a miss; tidying deletes both.
Everything in this file blocks; it runs in threads.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import structlog

from cache.events import UNOBSERVED, CacheEvents, CacheLevel, EvictedContent
from cache.index.maintenance import CachedItem, CacheMaintenance
from cache.oci.digest import Digest
from cache.retention.eviction import EvictionLimits, choose, choose_files, shortage, unused
from cache.retention.role_thread import RoleThread
from cache.runtime.disk import DiskSpace, disk_space
from cache.runtime.locks import ProcessRole, locked, locked_folder, open_lock_file
from cache.sqlite import DatabaseUnusable
from cache.store.base import is_stored
from cache.store.filesystem import FilesystemStore, LockedBlob
from cache.store.paths import blob_digest
from cache.store.quarantine import Quarantine
from cache.values import Damage

T = TypeVar("T")
log = structlog.get_logger()

PAGE = 1000
BATCH = 64
ROOM_AT_ONCE = 64 * 1024 * 1024
"""Bytes that one request for room evicts at most beyond what it needs, so that not every write requests room."""

FILES_AT_ONCE = 64
"""Files that one request for room deletes where the disk can take no more of them."""

NEEDED_FILES = 16
"""Free files below which a disk is full: a download takes two, a new folder one, the databases three each."""

JOURNAL = 1024 * 1024
"""Free bytes that a change of the index may need for its journal."""

ORPHAN_SECONDS = 3600.0
_COUNTS_BYTES = 41


@dataclass(frozen=True, slots=True)
class SweepTimings:
    """Seconds between the steps of a sweep.

    `interval`: between two sweeps; `pressed_interval`: in place of that, near the limits. `first_folders`: between two
    folders that are tidied in the first round over all of them; `folders`: in later rounds. `before_folders`: from the
    start to the first folder, since the first clients wait for all that is loaded then. `chores`: between chores.
    """

    interval: float = 10.0
    pressed_interval: float = 1.0
    before_folders: float = 5.0
    first_folders: float = 1.0
    folders: float = 4.0
    chores: float = 600.0


DEFAULT_TIMINGS = SweepTimings()


@dataclass(frozen=True, slots=True)
class RoomCounts:
    """Counts over all requests for room: the bytes that were freed, and the requests for which none could be freed."""

    freed: int = 0
    in_vain: int = 0


class Evictor:
    """Eviction down to the limits, or to make room. Raises DatabaseUnusable and OSError, except where a method says
    otherwise."""

    def __init__(
        self,
        maintenance: CacheMaintenance,
        store: FilesystemStore,
        quarantine: Quarantine,
        folder: Path,
        turns: Path,
        limits: EvictionLimits,
        events: CacheEvents = UNOBSERVED,
    ) -> None:
        """`folder`: where the files are stored. `turns`: a lock file by which requests for room take turns; it counts
        the bytes that were freed, and the requests for which none could be freed."""
        self._maintenance = maintenance
        self._store = store
        self._quarantine = quarantine
        self._folder = folder
        self._turns = turns
        self._limits = limits
        self._events = events
        with suppress(OSError):  # now, because a disk without free inodes takes no file when room is needed
            _begin_counts(turns)

    def level(self) -> CacheLevel:
        filled, space = self._maintenance.filled(), disk_space(self._folder)
        free_files = space.free_files if space.files else None
        other = self._quarantine.size() + self._maintenance.overhead()
        return CacheLevel(filled.bytes, filled.blobs, space.free, free_files, other)

    def short(self, level: CacheLevel) -> bool:
        return self._missing_bytes(level) > 0 or self._missing_files(level) > 0

    def pressed(self, level: CacheLevel) -> bool:
        """Whether the limits are near, so that the next sweep should follow soon."""
        limits = self._limits
        near_files = level.free_files is not None and level.free_files < limits.reserve_files * 2
        near_size = level.size + level.other > limits.max_size * 0.97
        return near_size or level.disk_free < limits.reserve * 2 or near_files

    def _missing_bytes(self, level: CacheLevel) -> int:
        """Bytes to delete until the limits are kept."""
        return shortage(level.size + level.other, level.disk_free, self._limits)

    def _missing_files(self, level: CacheLevel) -> int:
        """Files to delete until as many as the limits reserve are free."""
        return 0 if level.free_files is None else max(0, self._limits.reserve_files - level.free_files)

    def can_keep(self, size: int, present: int = 0) -> bool:
        """Whether a blob of so many bytes can be kept, some of which are on the disk already. Never raises: where the
        index is unusable too, what does not fit as it is cannot be kept."""
        missing, limits = size - present, self._limits
        if size > limits.max_size or missing <= 0:
            return size <= limits.max_size
        try:
            free = disk_space(self._folder).free
            if missing <= free:
                return True
            return missing <= free + self._maintenance.filled().bytes + self._quarantine.size() - limits.reserve
        except (OSError, DatabaseUnusable):
            return False

    def make_room(self, wanted: int) -> int:
        """Free bytes of the disk after a write has failed; return how many, 0 where none can be freed. Never raises.

        Bytes that another request has freed meanwhile count, so that many requests at once evict once. Where another
        one has meanwhile freed nothing, this one would search for as long and find as little.
        """
        try:
            before = _counts(self._turns)
            with locked(self._turns) as descriptor:
                counts, space = _read_counts(descriptor), disk_space(self._folder)
                made = counts.freed - before.freed
                if made and not space.lacks(wanted, NEEDED_FILES):
                    return made
                if counts.in_vain != before.in_vain:
                    return 0
                freed = 0
                try:
                    freed = self._free(wanted, space)
                finally:
                    _write_counts(descriptor, RoomCounts(counts.freed + freed, counts.in_vain + (not freed)))
                if freed:
                    log.info("room_made", bytes=freed, wanted=wanted)
                return freed
        except (OSError, DatabaseUnusable) as error:
            log.warning("room_not_made", reason=str(error))
            return 0

    def _free(self, wanted: int, space: DiskSpace) -> int:
        """Free files and bytes of a disk; return the bytes."""
        freed = self._free_files() if space.lacks_files(NEEDED_FILES) else 0
        if not freed or space.free < wanted:
            freed += self._free_disk(max(wanted, min(self._limits.max_size // 16, ROOM_AT_ONCE)))
        return freed

    def prepare(self) -> None:
        """Open the file of uses, by which is chosen what a full disk loses, while the disk has room for it.

        Raises nothing: where it cannot be opened, the next who needs it says so.
        """
        with suppress(DatabaseUnusable, OSError):
            self._maintenance.prepare_usage()

    def sweep(self, stopped: threading.Event | None = None) -> int:
        """Evict down to the limits; return the bytes that were evicted."""
        larger = self._maintenance.larger(self._limits.max_size, PAGE)
        if not larger and not self._limits.max_unused and not self.short(self.level()):
            return 0
        now, spared = time.time(), self._maintenance.pinned()
        freed = self._take(larger, spared)
        if self._limits.max_unused:
            freed += self._take_unused(now, spared)
        freed += self._quarantine.make_room(self._missing_bytes(self.level()))
        wanted = self._missing_bytes(self.level())
        freed += self._choose_and_take(wanted, now, spared, manifests=True, stopped=stopped)
        return freed + self._take_files(self._missing_files(self.level()), now, spared)

    def sweep_records(self) -> None:
        """Delete records that nothing needs."""
        if deleted := self._maintenance.sweep_records(time.time()):
            log.info("records_swept", count=deleted)

    def tidy(self, prefix: str) -> int:
        """Make one folder of the store, such as `sha256:ab`, and its rows agree; return the bytes that were freed.

        Files without a row are deleted, since no image has a link to them. A file that has not the size of its row is
        set aside; that row, and rows without a file, are deleted.
        """
        now = time.time()
        files = self._store.list_folder(prefix)  # before the rows: what is stored meanwhile is not taken for an orphan
        rows = self._maintenance.blobs_in_folder(prefix)
        freed = sum(_remove_orphan(path, now) for path in files if blob_digest(path) not in rows)

        def is_right(digest: Digest) -> bool:
            return is_stored(self._store, digest, rows[digest])

        wrong = [digest for digest in rows if not is_right(digest)]
        for digest in wrong:
            if self._store.stat(digest) is not None and self._store.set_aside(digest, partial(is_right, digest)):
                log.error("blob_damaged", digest=str(digest), damage=Damage.SIZE.value)
                self._events.damage_found(Damage.SIZE)
        for batch in _batches(wrong):
            log.info("rows_without_file", count=len(batch))
            self._maintenance.remove(batch, unless=is_right)
        self._maintenance.tidy_usage(prefix, now, now - ORPHAN_SECONDS)
        return freed

    def _free_files(self) -> int:
        """Delete files of a disk that can take no more of them; return their bytes."""
        now, spared = time.time(), self._maintenance.pinned()
        try:
            return self._take_files(FILES_AT_ONCE, now, spared)
        except DatabaseUnusable:  # the usage file needs a journal, which is a file too
            return self._take(self._maintenance.blobs_after("", BATCH + len(spared)), spared)

    def _take_files(self, wanted: int, now: float, spared: set[Digest]) -> int:
        """Evict so many blobs; return their bytes. What is being read stays, and the next sweep counts again."""
        freed = 0
        for gone in (False, True):
            for page in self._maintenance.least_used(PAGE, gone=gone) if wanted > 0 else ():
                chosen = choose_files(page, wanted, now, spared)
                freed += self._take(chosen, spared, on_disk=True)
                wanted -= len(chosen)
                if wanted <= 0:
                    return freed
        return freed

    def _free_disk(self, goal: int) -> int:
        freed = self._quarantine.make_room(goal)
        now, spared = time.time(), self._maintenance.pinned()
        try:
            freed += self._choose_and_take(goal - freed, now, spared, manifests=False)
        except DatabaseUnusable:  # the disk has no room to open the usage file
            freed += self._take_largest(spared)
        if freed < goal:  # the usage file may be new, and files may have no row
            try:
                for prefix in prefixes():
                    freed += self.tidy(prefix)
                freed += self._choose_and_take(goal - freed, now, spared, manifests=False)
            except DatabaseUnusable:  # uses that no file has yet tell nothing of what is worth least
                freed = freed or self._take_largest(spared)
                if not freed:
                    raise
        return freed

    def _take_largest(self, spared: set[Digest]) -> int:
        """Evict the largest blob that is neither spared nor being read; return its bytes."""
        largest = self._maintenance.larger(0, PAGE + len(spared))
        return next(filter(None, (self._take([held], spared, on_disk=True) for held in largest)), 0)

    def _choose_and_take(
        self,
        wanted: int,
        now: float,
        spared: set[Digest],
        *,
        manifests: bool,
        stopped: threading.Event | None = None,
    ) -> int:
        """Evict about `wanted` bytes of the items that are worth least. `manifests`: evict manifests too, which free no
        disk space."""
        freed = 0
        for gone in (False, True):
            if freed >= wanted:
                break
            for page in self._maintenance.least_used(PAGE, gone=gone):
                page = [held for held in page if manifests or not held.is_manifest]
                while freed < wanted and (chosen := choose(page, wanted - freed, now, spared)):
                    freed += self._take(chosen, spared, on_disk=not manifests)
                    spared = spared | {held.digest for held in chosen}
                if freed >= wanted or (stopped and stopped.is_set()):
                    break
        return freed

    def _take_unused(self, now: float, spared: set[Digest]) -> int:
        freed = 0
        for page in self._maintenance.least_used(PAGE, gone=False):
            chosen = unused(page, now, self._limits.max_unused, spared)
            freed += self._take(chosen, spared)
            if len(chosen) < len(page) and page[-1].last_used > now - self._limits.max_unused:
                break
        return freed

    def _take(self, chosen: Iterable[CachedItem], spared: set[Digest], *, on_disk: bool = False) -> int:
        """Evict the items that are neither spared nor being read; return their bytes. `on_disk`: count only what the
        disk has free then; rows without a file, and files with another name, count for the cap alone."""
        return sum(
            self._take_batch(batch, on_disk) for batch in _batches([h for h in chosen if h.digest not in spared])
        )

    def _take_batch(self, batch: Sequence[CachedItem], on_disk: bool) -> int:
        claims: list[LockedBlob] = []
        evicted: list[CachedItem] = []
        freed = 0
        try:
            for held in batch:
                claim = None if held.is_manifest else self._store.lock(held.digest)
                if claim is not None:
                    claims.append(claim)
                if claim is not None or held.is_manifest:
                    evicted.append(held)
                    counted = held.is_manifest or (claim is not None and not claim.freeable and not on_disk)
                    freed += held.size if counted else 0
            digests = [held.digest for held in evicted]
            try:
                self._maintenance.remove(digests)
            except DatabaseUnusable:
                # A full disk has no room for this change either. A missing file is a miss, which drops its row.
                if not disk_space(self._folder).lacks(JOURNAL, NEEDED_FILES):
                    raise
                freed += sum(claim.delete() for claim in claims)
                try:
                    self._maintenance.remove(digests)
                except DatabaseUnusable:  # these files freed nothing, or another process took it: others may free more
                    if not on_disk:
                        raise
            freed += sum(claim.delete() for claim in claims)
        finally:
            for claim in claims:
                claim.close()
        if evicted:
            self._events.evicted([EvictedContent(held.digest, held.size) for held in evicted], freed)
            if on_disk:
                log.info("evicted_for_room", bytes=freed, digests=[str(held.digest) for held in evicted])
        return freed


class Sweeper(RoleThread):
    """The thread that sweeps. Of the processes of a host, the first that takes the role does the work until it ends."""

    def __init__(
        self,
        evictor: Evictor,
        role: ProcessRole,
        events: CacheEvents = UNOBSERVED,
        chores: Callable[[], object] = lambda: None,
        timings: SweepTimings = DEFAULT_TIMINGS,
    ) -> None:
        """`chores`: other periodic cleanup beside that of records, called in the thread."""
        super().__init__("sweep", role, timings.interval)
        self._evictor = evictor
        self._events = events
        self._chores = chores
        self._timings = timings
        self._chores_due: float | None = None
        folders = prefixes()
        self._folders, self._round = cycle(folders), len(folders)
        self._pause, self._tidied = timings.first_folders, 0
        self._tidy_at = time.monotonic() + timings.before_folders

    def step(self) -> float:
        """Run the work that is due, and tidy until the next sweep; ends after the current batch if stopped."""
        self._do_chores()
        return self._tidy(time.monotonic() + self._sweep())

    def _do_chores(self) -> None:
        """Call the chores when due; not at the start, so that others can resume what a process that died left."""
        now = time.monotonic()
        if self._chores_due is None:
            self._chores_due = now + self._timings.chores
            self._evictor.prepare()
        elif now >= self._chores_due:
            self._chores_due = now + self._timings.chores
            for chore in (self._chores, self._evictor.sweep_records):
                try:
                    chore()
                except Exception:  # its failure must not keep the cache from its limits
                    log.exception("chores_failed")

    def _tidy(self, until: float) -> float:
        """Tidy folder by folder until a moment; return the seconds that are left. A round over all folders takes
        ten minutes at first, and half an hour later."""
        while self._tidy_at < until and not self.stopped.wait(max(0.0, self._tidy_at - time.monotonic())):
            self._evictor.tidy(next(self._folders))
            self._tidy_at = time.monotonic() + self._pause
            self._tidied += 1
            if self._tidied == self._round:
                self._pause = self._timings.folders
        return max(0.0, until - time.monotonic())

    def _sweep(self) -> float:
        """Sweep once; return the seconds until the next sweep."""
        evictor, timings = self._evictor, self._timings
        freed = evictor.sweep(self.stopped)
        level = evictor.level()
        self._events.level_measured(level)
        if freed:
            log.info("evicted", bytes=freed, held=level.size, disk_free=level.disk_free)
        if evictor.short(level):  # nothing is left that may be evicted
            return timings.interval * 6
        return timings.pressed_interval if freed or evictor.pressed(level) else timings.interval


def prefixes() -> list[str]:
    """The folders of a store, as prefixes of digests."""
    return [f"{algorithm}:{number:02x}" for algorithm in ("sha256", "sha512") for number in range(256)]


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _remove_orphan(path: Path, now: float) -> int:
    """Delete a file without a row, unless it is new: a blob gets its name before it is recorded. Returns its bytes."""
    with suppress(FileNotFoundError), locked_folder(path.parent):
        status = path.stat()
        # a file from far in the future was written by a clock that was wrong
        if path.is_file() and abs(now - status.st_mtime) > ORPHAN_SECONDS:
            path.unlink()
            log.info("orphan_removed", file=path.name)
            return status.st_size if status.st_nlink < 2 else 0
    return 0


# The lock file of the turns counts over all requests for room there ever were, of all processes.


def _begin_counts(path: Path) -> None:
    """Create the file with counts, which a full disk lets nobody write for the first time. Raises OSError."""
    descriptor = open_lock_file(path)
    try:
        if not os.fstat(descriptor).st_size:
            _write_counts(descriptor, RoomCounts())
    finally:
        os.close(descriptor)


def _counts(path: Path) -> RoomCounts:
    try:
        return _parse_counts(path.read_bytes())
    except FileNotFoundError:
        return RoomCounts()


def _read_counts(descriptor: int) -> RoomCounts:
    return _parse_counts(os.pread(descriptor, _COUNTS_BYTES, 0))


def _parse_counts(content: bytes) -> RoomCounts:
    try:
        return RoomCounts(*map(int, content.split()))
    except (ValueError, TypeError):
        return RoomCounts()


def _write_counts(descriptor: int, counts: RoomCounts) -> None:
    with suppress(OSError):
        os.pwrite(descriptor, b"%d %d" % (counts.freed, counts.in_vain), 0)
