"""Scrub: stored content is read again and compared with its digest; what does not match is moved to the quarantine.

The store that an Inspector is given moves damaged blobs, by what the check has opened: a blob that was fetched again
meanwhile is left alone.

Everything in this file blocks; it runs in threads.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from cache.events import UNOBSERVED, CacheEvents
from cache.index.maintenance import CacheMaintenance
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName
from cache.retention.role_thread import RoleThread
from cache.runtime.exhaustion import is_exhausted
from cache.runtime.locks import ProcessRole
from cache.store.base import is_stored
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.values import Damage, Source

log = structlog.get_logger()

CHUNK = 256 * 1024
OPENED = 16 * 1024
"""Bytes as which the opening of a file counts: about as many could be read in its time."""
RECHECK_SECONDS = 24 * 3600.0
"""Seconds after a check before content is checked again."""

PAGE = 100
IDLE_SECONDS = 60.0


class ReadLimiter:
    """Limits a reader to `rate` bytes per second (0: unlimited); the bytes of one second may be read at once."""

    def __init__(self, rate: int, stopped: threading.Event) -> None:
        self._rate = rate
        self._stopped = stopped
        self._due = time.monotonic()

    def take(self, count: int) -> None:
        """Wait until so many bytes may have been read, or until the reader is stopped."""
        if self._rate:
            now = time.monotonic()
            self._due = max(self._due, now - 1) + count / self._rate
            if self._due > now:
                self._stopped.wait(self._due - now)

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()


@dataclass(frozen=True, slots=True)
class Finding:
    """Damaged content, and the images that had a right to it. `is_manifest`: whether it is a manifest, in the index."""

    digest: Digest
    damage: Damage
    is_manifest: bool
    images: list[tuple[Source, RepositoryName]]


class InspectedFile:
    """The file of a blob after it was read. `damage`: None where it is as it was recorded, or the check was stopped."""

    def __init__(self, store: FilesystemStore, digest: Digest, descriptor: int | None, damage: Damage | None) -> None:
        self.damage = damage
        self._store = store
        self._digest = digest
        self._descriptor = descriptor

    def set_aside(self) -> bool:
        """Take the name away from the damaged file, unless another file has it since; whether that was done."""
        if self.damage in (None, Damage.MISSING):
            return False
        return self._store.set_aside(self._digest, self._is_other)

    def _is_other(self) -> bool:
        return self._descriptor is not None and not self._store.is_named(self._digest, self._descriptor)


@contextmanager
def inspected(
    store: FilesystemStore, digest: Digest, size: int, limiter: ReadLimiter | None
) -> Iterator[InspectedFile]:
    """Open the file of a blob that was recorded with this size, and read it; without a limiter its size alone counts.

    Raises OSError where this process has no descriptor or no memory left.
    """
    try:
        descriptor = os.open(store.path(digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield InspectedFile(store, digest, None, Damage.MISSING)
        return
    except OSError as error:
        yield InspectedFile(store, digest, None, _unreadable(error))
        return
    try:
        yield InspectedFile(store, digest, descriptor, _damage(descriptor, digest, size, limiter))
    finally:
        os.close(descriptor)


class Inspector:
    """Checks one digest at a time; damaged content is then in the quarantine and no longer in the index."""

    def __init__(self, maintenance: CacheMaintenance, store: FilesystemStore, quarantine: Quarantine) -> None:
        self._maintenance = maintenance
        self._store = store
        self._quarantine = quarantine

    def check(self, digest: Digest, limiter: ReadLimiter) -> Finding | None:
        """Check the blob and the manifest of a digest; None if they match it, are absent, or the check was stopped."""
        size = self._maintenance.blob_size(digest)
        if size is not None and (finding := self._check_blob(digest, size, limiter)):
            return finding
        raw = self._maintenance.manifest_bytes(digest)
        if raw is None:
            return None
        limiter.take(len(raw))
        return None if digest.holds_for(raw) else self._remove_manifest(digest, raw)

    def _check_blob(self, digest: Digest, size: int, limiter: ReadLimiter) -> Finding | None:
        with inspected(self._store, digest, size, limiter) as file:
            if file.damage is None:
                return None
            file.set_aside()
            return self._remove_blob(digest, size, file.damage)

    def _remove_blob(self, digest: Digest, size: int, damage: Damage) -> Finding | None:
        """Delete the rows of a blob without a file; None where it was evicted or fetched again meanwhile."""
        images = self._maintenance.images_of(digest)
        if self._maintenance.blob_size(digest) is None:
            return None
        if not self._maintenance.remove([digest], unless=lambda _: is_stored(self._store, digest, size)):
            return None
        log.error(
            "blob_damaged",
            digest=str(digest),
            damage=damage.value,
            path=str(self._store.path(digest)),
            remedy="it was set aside: the next pull fetches it again; look at the disk if there are more",
        )
        return Finding(digest, damage, False, images)

    def _remove_manifest(self, digest: Digest, raw: bytes) -> Finding:
        images = self._maintenance.images_of(digest)
        self._maintenance.remove([digest])
        self._quarantine.take_bytes(raw, str(digest))
        log.error("manifest_damaged", digest=str(digest))
        return Finding(digest, Damage.DIGEST, True, images)


class Scrub(RoleThread):
    """The thread that checks, in one process of the host at a time, first what was not checked for longest.

    `repair` is called with each finding, in the thread; it must not block.
    """

    def __init__(
        self,
        maintenance: CacheMaintenance,
        usage: UsageFile,
        inspector: Inspector,
        role: ProcessRole,
        rate: int,
        repair: Callable[[Finding], None],
        events: CacheEvents = UNOBSERVED,
    ) -> None:
        super().__init__("scrub", role, IDLE_SECONDS)
        self._maintenance = maintenance
        self._usage = usage
        self._inspector = inspector
        self._limiter = ReadLimiter(rate, self.stopped)
        self._repair = repair
        self._events = events

    def step(self) -> float:
        """Check one page of due content."""
        digests = self._maintenance.least_checked(time.time() - RECHECK_SECONDS, PAGE)
        for digest in digests:
            finding = self._inspector.check(digest, self._limiter)
            if self.stopped.is_set():
                break
            self._usage.note_checked([digest], datetime.now(UTC))
            if finding:
                self._events.damage_found(finding.damage)
                self._repair(finding)
        return 0.0 if digests else IDLE_SECONDS


def _damage(descriptor: int, digest: Digest, size: int, limiter: ReadLimiter | None) -> Damage | None:
    try:
        if os.fstat(descriptor).st_size != size:
            return Damage.SIZE
        return None if limiter is None or _matches(descriptor, digest, size, limiter) else Damage.DIGEST
    except OSError as error:
        return _unreadable(error)


def _matches(descriptor: int, digest: Digest, size: int, limiter: ReadLimiter) -> bool:
    """Whether a file matches its digest, or the check was stopped. What was read leaves the page cache."""
    hasher, buffer, offset = digest.hasher(), memoryview(bytearray(min(CHUNK, size))), 0
    limiter.take(OPENED)
    while offset < size and not limiter.stopped:
        count = os.preadv(descriptor, [buffer], offset)
        if not count:
            return False
        hasher.update(buffer[:count])
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_DONTNEED)
        offset += count
        limiter.take(count)
    return limiter.stopped or hasher.hexdigest() == digest.hex


def _unreadable(error: OSError) -> Damage:
    """UNREADABLE; raises an error that comes from this process and not from the file."""
    if is_exhausted(error):
        raise error
    return Damage.UNREADABLE
