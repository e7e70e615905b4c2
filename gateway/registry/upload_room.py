"""UploadRoom: whether an upload may grow, by the largest size of a blob and by the quotas above its repository."""

from cache.oci.errors import TooLarge
from gateway.db import quotas
from gateway.db.connection import Connection
from gateway.registry.intake import NativeBlobs
from gateway.settings.units import Size


class UploadRoom:
    """Room of one upload, for the time of one request.

    `limited`: whether a quota applied to its repository when the upload began. One that is set later is held by the
    commit, which counts the blob.
    """

    def __init__(self, native: NativeBlobs, upload: str, blob_bytes: int, *, limited: bool) -> None:
        self._native = native
        self._upload = upload
        self._blob_bytes = blob_bytes
        self._limited = limited
        self._reserved = 0

    def require_size(self, size: int) -> None:
        """Check that a blob may have a size. Raises TooLarge."""
        limit = self._blob_bytes
        if size > limit > 0:
            raise TooLarge(f"a blob may have {limit} bytes ({Size(limit)}): native.max_blob of this server says so")

    async def reserve(self, received: int, count: int, coming: int | None) -> None:
        """Reserve room for the next `count` bytes behind those that have been received, before they are written.

        `coming`: all that is still to come, with these; None where nobody knows. Raises TooLarge, Denied,
        DatabaseUnusable.
        """
        end = received + count
        self.require_size(end)
        if not self._limited or end <= self._reserved:
            return
        now = self._native.clock()

        async def reserve(connection: Connection) -> int | None:
            limit = await quotas.reserve(connection, self._upload, received, now, coming)
            if limit is not None and limit < end:  # little room is left: these must fit all the same
                await quotas.reserve(connection, self._upload, received, now, max(count, coming or 0))
            return limit

        limit = await self._native.database.transact(reserve, durable=False)
        self._limited = limit is not None
        self._reserved = max(end, limit or 0)
