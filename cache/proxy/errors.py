"""The one place where an UpstreamError becomes a RegistryError."""

import os
from collections.abc import AsyncIterator

from cache.download.errors import Unstorable
from cache.download.fill import Fetch
from cache.download.flight import Follower
from cache.download.uncached import PrivateBlob
from cache.oci.errors import BlobUnknown, RegistryError, UpstreamInvalid, UpstreamUnavailable
from cache.store.base import Extent
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, RateLimited, Unavailable, UpstreamError

RETRY_AFTER = 5
RETRY_AFTER_LIMIT = 60


def refusal(error: UpstreamError, unknown: type[RegistryError]) -> RegistryError:
    """The error that a client gets. `unknown`: its class where the upstream does not have the content, or does not show
    it to this gateway."""
    match error:
        case NotFound() | AccessDenied():
            return unknown("the upstream registry has no such image, or does not show it to this gateway")
        case RateLimited():
            seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
            return UpstreamUnavailable(error.reason, max(1, min(seconds, RETRY_AFTER_LIMIT)))
        case Corrupt():
            return UpstreamInvalid(error.reason)
        case Unavailable() if error.retry_after is not None:
            return UpstreamUnavailable(error.reason, max(1, min(error.retry_after, RETRY_AFTER_LIMIT)))
        case _:
            return UpstreamUnavailable(error.reason, RETRY_AFTER)


class DownloadingBlob:
    """An OpenBlob over a running download; raises RegistryError where that raises UpstreamError.

    Where the download cannot be stored any more, this reader continues on an upstream stream of its own.
    """

    def __init__(self, blob: Follower | PrivateBlob, fetch: Fetch) -> None:
        self._blob = blob
        self._fetch = fetch
        self._left: Follower | None = None
        self.digest = blob.digest

    @property
    def size(self) -> int | None:
        return self._blob.size

    def fileno(self) -> int:
        return self._blob.fileno()

    async def verified(self) -> None:
        try:
            try:
                await self._blob.verified()
            except Unstorable:
                await self._continue_uncached(0).verified()
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        offset = start
        try:
            try:
                async for extent in self._blob.ready(start, stop):
                    yield extent
                    offset = extent.stop
            except Unstorable:
                async for extent in self._continue_uncached(offset).ready(offset, stop):
                    yield extent
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    def _continue_uncached(self, sent: int) -> PrivateBlob:
        if isinstance(self._blob, PrivateBlob):
            raise Unavailable("the blob cannot be stored here")
        follower = self._left = self._blob
        beginning = None
        try:
            beginning = follower.beginning(sent)
            self._blob = PrivateBlob(self.digest, self._fetch, follower.size, beginning)
        except (OSError, RuntimeError) as error:  # out of descriptors or threads
            if beginning is not None:
                os.close(beginning.descriptor)
            raise Unavailable(f"the blob cannot be fetched now ({error})") from error
        return self._blob

    async def read(self, extent: Extent) -> bytes:
        return await self._blob.read(extent)

    def close(self) -> None:
        self._blob.close()
        if self._left is not None:
            self._left.close()
