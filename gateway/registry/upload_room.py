"""UploadRoom: whether an upload may grow: it must not have ended, and the largest size of a blob and the quotas above
its repository must have room."""

from functools import partial

from cache.oci.errors import TooLarge, UploadUnknown
from gateway.db import quotas, uploads
from gateway.db.connection import Connection
from gateway.registry.intake import NativeBlobs
from gateway.settings.units import Size

UNSEEN = 16 * 1024 * 1024
"""Bytes after which an upload without a quota is looked up again: another request may have cancelled it, or deleted its
repository, and what is written then takes room that nobody counts."""


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
        self._allowed = 0
        """Up to how many bytes it may grow before anything is looked up."""

    def require_size(self, size: int) -> None:
        """Check that a blob may have a size. Raises TooLarge."""
        limit = self._blob_bytes
        if size > limit > 0:
            raise TooLarge(f"a blob may have {limit} bytes ({Size(limit)}): native.max_blob of this server says so")

    async def reserve(self, received: int, count: int, coming: int | None) -> None:
        """Reserve room for the next `count` bytes behind those that have been received, before they are written.

        `coming`: all that is still to come, with these; None where nobody knows. Raises TooLarge, Denied, UploadUnknown
        where the upload has ended, DatabaseUnusable.
        """
        end = received + count
        self.require_size(end)
        if end <= self._allowed:
            return
        if self._limited:
            await self._reserve(received, end, coming)
        else:
            if self._allowed:
                await self._require_unfinished()
            self._allowed = end + UNSEEN

    async def _require_unfinished(self) -> None:
        if not await self._native.database.query(partial(uploads.existing, ids=[self._upload])):
            raise UploadUnknown(f"the upload {self._upload} has ended meanwhile")

    async def _reserve(self, received: int, end: int, coming: int | None) -> None:
        now = self._native.clock()

        async def reserve(connection: Connection) -> int | None:
            limit = await quotas.reserve(connection, self._upload, received, now, coming)
            if limit is not None and limit < end:  # little room is left: these must fit all the same
                await quotas.reserve(connection, self._upload, received, now, max(end - received, coming or 0))
            return limit

        limit = await self._native.database.transact(reserve, durable=False)
        self._limited = limit is not None
        self._allowed = max(end, limit or 0)
