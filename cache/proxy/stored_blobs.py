"""StoredBlobs: the blobs that index and disk agree on; everything else counts as absent.

A file that is missing, truncated, too long, empty or unreadable is a miss: it is set aside at once, so that nobody
finds it under the blob's name, then its row is dropped from the index, and the next fetch corrects both.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from cache.events import UNOBSERVED, CacheEvents
from cache.index.base import Sizes
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable
from cache.runtime.exhaustion import is_exhausted
from cache.sqlite import DatabaseUnusable
from cache.store.base import BlobStore, LocalBlob, OpenBlob, has_name
from cache.values import BlobInfo, Damage

log = structlog.get_logger()


class StoredBlobs:
    """Reads blobs of the store, as far as the index confirms them."""

    def __init__(self, sizes: Sizes, store: BlobStore, events: CacheEvents = UNOBSERVED) -> None:
        self._sizes = sizes
        self._store = store
        self._events = events

    async def open(self, digest: Digest) -> OpenBlob | None:
        """Open a blob; None where it is absent or damaged. Raises StoreUnavailable where no descriptor is left."""
        size = await self._sizes.find_size(digest)
        if size is None:
            return None
        try:
            blob = self._store.open(digest)
        except OSError as error:
            await self._report_error(digest, size, error)
            return None
        if blob is not None and blob.size == size:
            return blob
        if blob is not None:
            blob.close()
        await self._report(digest, size, Damage.SIZE if blob else Damage.MISSING)
        return None

    async def stat(self, digest: Digest) -> BlobInfo | None:
        """Size of a blob; None where it is absent or damaged. Raises StoreUnavailable."""
        size = await self._sizes.find_size(digest)
        if size is None:
            return None
        try:
            info = self._store.stat(digest)
        except OSError as error:
            await self._report_error(digest, size, error)
            return None
        if info is None or info.size != size:
            await self._report(digest, size, Damage.SIZE if info else Damage.MISSING)
            return None
        return info

    async def drop_damaged(self, blob: LocalBlob, damage: Damage) -> None:
        """Set a blob aside whose bytes were read and are not its digest's, and drop it from the index, unless it was
        fetched again meanwhile."""
        size = await self._sizes.find_size(blob.digest)
        if size is not None:
            await self._report(blob.digest, size, damage, lambda: not has_name(self._store, blob))

    async def _report_error(self, digest: Digest, size: int, error: OSError) -> None:
        if is_exhausted(error):
            log.error("blob_not_opened", digest=str(digest), reason=error.strerror)
            raise StoreUnavailable("this server has no descriptor or memory left to open a file") from error
        log.error("blob_unreadable", digest=str(digest), reason=error.strerror)
        await self._report(digest, size, Damage.UNREADABLE)

    async def _report(
        self, digest: Digest, size: int, damage: Damage, replaced: Callable[[], bool] | None = None
    ) -> None:
        """Log and count a damage, set the file aside, and drop its row. `replaced`: whether another file has the name
        now; by default, whether a file of the right size has it."""
        if damage is Damage.MISSING:
            log.info("blob_missing", digest=str(digest))  # as a rule it was evicted just before
        else:
            log.error("blob_damaged", digest=str(digest), damage=damage.value)
            self._events.damage_found(damage)
        intact = partial(self._is_intact, digest, size)
        if damage is not Damage.MISSING:
            try:
                await asyncio.to_thread(self._store.set_aside, digest, replaced or intact)
            except OSError as error:  # it still counts as a miss
                log.warning("blob_not_set_aside", digest=str(digest), reason=error.strerror)
        try:
            await self._sizes.drop(digest, intact)
        except DatabaseUnusable as error:  # such as a full disk: it still counts as a miss
            log.warning("blob_not_dropped", digest=str(digest), reason=str(error))

    def _is_intact(self, digest: Digest, size: int) -> bool:
        try:
            blob = self._store.open(digest)
        except OSError:
            return False
        if blob is None:
            return False
        intact = blob.size == size
        blob.close()
        return intact
