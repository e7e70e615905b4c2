"""BlobFiles: opens the files of native blobs as far as they are what their rows state; anything else counts as absent.

A file that is missing or of another size is no blob: whoever pushes it again replaces it. It is set aside at once, so
that nobody finds it under the blob's name; its row stays, by which others learn what is missing.
"""

import asyncio
from functools import partial

import structlog

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, StoreUnavailable
from cache.runtime.exhaustion import is_exhausted
from cache.store.base import BlobStore, OpenBlob, is_stored
from cache.values import Damage

log = structlog.get_logger()


class BlobFiles:
    """Files of the store whose sizes the database states. Raises only RegistryError."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    async def open(self, digest: Digest, size: int) -> OpenBlob:
        """Open a blob that was recorded with this size. Raises BlobUnknown, StoreUnavailable."""
        try:
            blob = self._store.open(digest)
        except OSError as error:
            raise _unreadable(digest, error) from error
        if blob is not None and blob.size == size:
            return blob
        if blob is not None:
            blob.close()
        raise await self._damaged(digest, size, Damage.SIZE if blob else Damage.MISSING)

    async def check(self, digest: Digest, size: int) -> None:
        """Check that a blob's file has the recorded size. Raises BlobUnknown, StoreUnavailable."""
        try:
            info = self._store.stat(digest)
        except OSError as error:
            raise _unreadable(digest, error) from error
        if info is None or info.size != size:
            raise await self._damaged(digest, size, Damage.SIZE if info else Damage.MISSING)

    async def _damaged(self, digest: Digest, size: int, damage: Damage) -> BlobUnknown:
        """Log the damage, set the file aside, and return the error for whoever asked for the blob."""
        log.error("native_blob_damaged", digest=str(digest), damage=damage.value)
        if damage is Damage.SIZE:
            try:
                await asyncio.to_thread(self._store.set_aside, digest, partial(is_stored, self._store, digest, size))
            except OSError as error:  # it still counts as absent
                log.warning("blob_not_set_aside", digest=str(digest), reason=error.strerror)
        return BlobUnknown(f"the file of {digest} is damaged on this server: push it again, or restore a backup")


def _unreadable(digest: Digest, error: OSError) -> StoreUnavailable:
    """The error for a file that cannot be read; it may be whole, so it is left as it is."""
    if is_exhausted(error):
        log.error("blob_not_opened", digest=str(digest), reason=error.strerror)
        return StoreUnavailable("this server has no descriptor or memory left to open a file")
    log.error("native_blob_unreadable", digest=str(digest), reason=error.strerror)
    return StoreUnavailable(f"this server cannot read the file of {digest}; its log states why")
