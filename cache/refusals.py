"""The one place where an upstream's failure becomes ours."""

from collections.abc import AsyncIterator

from cache.flight import Follower
from cache.oci.errors import BlobUnknown, RegistryError, UpstreamInvalid, UpstreamUnavailable
from cache.store.base import Extent
from cache.upstream.errors import Corrupt, Denied, NotFound, RateLimited, UpstreamError

RETRY_AFTER = 5
RETRY_AFTER_LIMIT = 60


def refusal(error: UpstreamError, unknown: type[RegistryError]) -> RegistryError:
    """`unknown`: what it is here that the upstream does not have, or does not show."""
    match error:
        case NotFound() | Denied():
            return unknown("the upstream registry has no such image, or does not show it to this gateway")
        case RateLimited():
            seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
            return UpstreamUnavailable(error.reason, max(1, min(seconds, RETRY_AFTER_LIMIT)))
        case Corrupt():
            return UpstreamInvalid(error.reason)
        case _:
            return UpstreamUnavailable(error.reason, RETRY_AFTER)


class Arriving:
    """A follower whose failures speak the language of the registry."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.digest = follower.digest

    @property
    def size(self) -> int | None:
        return self._follower.size

    def fileno(self) -> int:
        return self._follower.fileno()

    async def verified(self) -> None:
        try:
            await self._follower.verified()
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        try:
            async for extent in self._follower.ready(start, stop):
                yield extent
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def read(self, extent: Extent) -> bytes:
        return await self._follower.read(extent)

    def close(self) -> None:
        self._follower.close()
