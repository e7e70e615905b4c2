"""DownloadingBlob: a blob that is read while its download runs, whether the download can be stored or not."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable

from cache.download.errors import Unstorable
from cache.download.follower import Follower
from cache.download.incoming import Fetch
from cache.download.uncached import UncachedBlob
from cache.oci.errors import BlobUnknown
from cache.proxy.errors import refusal
from cache.runtime.line import PlaceRequest
from cache.store.base import Extent, LocalBlob
from cache.upstream.errors import Unavailable, UpstreamError


class DownloadingBlob(LocalBlob):
    """A LocalBlob over a running download; raises RegistryError where that raises UpstreamError.

    Where the download cannot be stored any more, this reader continues on an upstream stream of its own, for which
    `request_place` waits.
    """

    def __init__(self, follower: Follower, fetch: Fetch, request_place: Callable[[], Awaitable[PlaceRequest]]) -> None:
        self._follower = follower
        self._fetch = fetch
        self._request_place = request_place
        self._uncached: UncachedBlob | None = None
        self.digest = follower.digest

    @property
    def size(self) -> int | None:
        return (self._uncached or self._follower).size

    def fileno(self) -> int:
        return self._follower.fileno()

    async def verified(self) -> None:
        try:
            try:
                await (self._uncached or self._follower).verified()
            except Unstorable:
                await (await self._continue_uncached(0)).verified()
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        offset = start
        try:
            try:
                async for extent in (self._uncached or self._follower).ready(start, stop):
                    yield extent
                    offset = extent.stop
            except Unstorable:
                continued = await self._continue_uncached(offset)
                async for extent in continued.ready(offset, stop):
                    yield extent
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def _continue_uncached(self, sent: int) -> UncachedBlob:
        if self._uncached is not None:
            raise Unavailable("the blob cannot be stored")
        place, prefix = await self._request_place(), None
        try:
            prefix = self._follower.sent_prefix(sent)
            self._uncached = UncachedBlob(self.digest, self._fetch, self._follower.size, prefix, ended=place.close)
        except (OSError, RuntimeError) as error:  # out of descriptors or threads
            place.close()
            if prefix is not None:
                os.close(prefix.descriptor)
            raise Unavailable(f"the blob cannot be fetched now ({error})") from error
        return self._uncached

    async def read(self, extent: Extent) -> bytes:
        return await (self._follower if extent.data is None else self._uncached or self._follower).read(extent)

    def close(self) -> None:
        self._follower.close()
        if self._uncached is not None:
            self._uncached.close()
