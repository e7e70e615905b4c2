"""Holdings: the blobs that are here, by index and by disk at once. What the two do not agree on is not here.

A file that is missing, cut, grown, empty or unreadable is a miss like any other: what the index says of it goes, and
the next fetch puts both right.
"""

import structlog

from cache.events import UNOBSERVED, CacheEvents
from cache.index.base import Sizes
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable
from cache.runtime.exhaustion import is_exhausted
from cache.sqlite import DatabaseUnusable
from cache.store.base import BlobStore, OpenBlob
from cache.values import BlobInfo, Damage

log = structlog.get_logger()


class Holdings:
    def __init__(self, sizes: Sizes, store: BlobStore, events: CacheEvents = UNOBSERVED) -> None:
        self._sizes = sizes
        self._store = store
        self._events = events

    async def open(self, digest: Digest) -> OpenBlob | None:
        """None when it is not here as it should be. Raises StoreUnavailable where no more files can be opened."""
        size = await self._sizes.find_size(digest)
        if size is None:
            return None
        try:
            blob = self._store.open(digest)
        except OSError as error:
            await self._note_error(digest, size, error)
            return None
        if blob is not None and blob.size == size:
            return blob
        if blob is not None:
            blob.close()
        await self._note(digest, size, Damage.SIZE if blob else Damage.MISSING)
        return None

    async def stat(self, digest: Digest) -> BlobInfo | None:
        """As `open`, without opening."""
        size = await self._sizes.find_size(digest)
        if size is None:
            return None
        try:
            info = self._store.stat(digest)
        except OSError as error:
            await self._note_error(digest, size, error)
            return None
        if info is None or info.size != size:
            await self._note(digest, size, Damage.SIZE if info else Damage.MISSING)
            return None
        return info

    async def _note_error(self, digest: Digest, size: int, error: OSError) -> None:
        if is_exhausted(error):
            log.error("blob_not_opened", digest=str(digest), reason=error.strerror)
            raise StoreUnavailable("this server has no descriptor or memory left to open a file") from error
        log.error("blob_unreadable", digest=str(digest), reason=error.strerror)
        await self._note(digest, size, Damage.UNREADABLE)

    async def _note(self, digest: Digest, size: int, damage: Damage) -> None:
        if damage is Damage.MISSING:
            log.info("blob_missing", digest=str(digest))  # evicted a moment ago, as a rule
        else:
            log.error("blob_damaged", digest=str(digest), damage=damage.value)
            self._events.damage_found(damage)
        try:
            await self._sizes.drop(digest, lambda: self._is_well(digest, size))
        except DatabaseUnusable as error:  # such as a full disk: it is a miss all the same
            log.warning("blob_not_dropped", digest=str(digest), reason=str(error))

    def _is_well(self, digest: Digest, size: int) -> bool:
        try:
            blob = self._store.open(digest)
        except OSError:
            return False
        if blob is None:
            return False
        well = blob.size == size
        blob.close()
        return well
