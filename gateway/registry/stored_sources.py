"""StoredSources: native blobs as sources of mounts, whose bytes are read again before another repository has them.

A blob may rot and keep its size. Its readers notice, since clients check digests, but whoever mounts it does not: the
mount would be confirmed, the client would not send the right bytes that it has, and the last copy might be lost. So
the file is hashed before a mount, as one of the cache is. That costs about 1 s for 0.5 to 2 GB, and a hash stands for
its file for a day, as long as nobody writes to that: the mounts of each build do not read their base image anew. Where
a hash takes too long, the blob is mounted as it was recorded, since the scrub reads it within the day, and an upload of
gigabytes is worse.

What is damaged is set aside as the scrub does it: after a second reading, and not while a push stores the same digest.
Its row stays. The push goes on with an upload, which puts a good file in its place.
"""

import structlog

from cache.lease.base import held
from cache.oci.digest import Digest
from cache.runtime.exhaustion import is_exhausted
from cache.store.base import LocalBlob, has_name
from cache.values import Damage
from gateway.registry.intake import NativeBlobs, blob_lease, take_lease
from gateway.registry.storage_errors import storage_error

log = structlog.get_logger()


class StoredSources:
    """Looks at the files of native blobs that are mounted."""

    def __init__(self, native: NativeBlobs) -> None:
        self._native = native

    async def is_whole(self, digest: Digest, size: int) -> bool:
        """Whether the file of a blob that was recorded with this size can be mounted. Raises StoreUnavailable."""
        try:
            blob = self._native.store.open(digest)
            if blob is None:
                return False
            try:
                return blob.size == size and (not isinstance(blob, LocalBlob) or await self._has_its_bytes(blob))
            finally:
                blob.close()
        except OSError as error:
            if is_exhausted(error):
                raise storage_error(error) from error
            log.error("native_blob_unreadable", digest=str(digest), reason=error.strerror)
            return False  # it stays, since it may be whole

    async def _has_its_bytes(self, blob: LocalBlob) -> bool:
        digest, hashes = blob.digest, self._native.threads.sources
        if await hashes.recent_digest(blob.fileno(), digest.algorithm) in (None, digest):
            return True
        again = await hashes.digest(blob.fileno(), digest.algorithm)
        if again == digest:
            log.warning("native_blob_misread", digest=str(digest))
            return True
        if again is not None and await self._native.threads.run(self._set_aside, blob):
            log.error("native_blob_damaged", digest=str(digest), damage=Damage.DIGEST.value)
            self._native.damaged(Damage.DIGEST)
        return False

    def _set_aside(self, blob: LocalBlob) -> bool:
        """Take the name away from a damaged file, unless another file has it, or is about to; whether that was done."""
        lease = take_lease(self._native.leases, blob_lease(blob.digest))
        if lease is None:
            return False
        with held(lease):
            store = self._native.store
            return store.set_aside(blob.digest, lambda: not has_name(store, blob))
