"""Translation of UpstreamErrors into RegistryErrors; no other file says what a client gets for one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.download.uncached import UncachedBlob
from cache.oci.errors import BlobUnknown, RegistryError, UpstreamInvalid, UpstreamUnavailable
from cache.store.base import Extent, OpenBlob
from cache.upstream.egress import FailureStage, stage_of
from cache.upstream.errors import (
    AccessDenied,
    Corrupt,
    CredentialRefused,
    FormatUnsupported,
    NoStatement,
    NotFound,
    RateLimited,
    Unavailable,
    UpstreamError,
    UpstreamOutage,
)
from cache.values import OutageKind

RETRY_AFTER = 5
RETRY_AFTER_LIMIT = 60


def refusal(error: UpstreamError, unknown: type[RegistryError]) -> RegistryError:
    """The error that a client gets. `unknown`: its class where the upstream does not have the content, or does not show
    it to this gateway."""
    match error:
        case NotFound() | AccessDenied():
            refused = unknown("the upstream registry has no such image, or does not show it to this gateway")
            refused.reason, refused.is_absence = error.reason, True
            return refused
        case FormatUnsupported() | NoStatement():
            return unknown(error.reason)
        case RateLimited():
            seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
            return UpstreamUnavailable(error.reason, max(1, min(seconds, RETRY_AFTER_LIMIT)))
        case Corrupt():
            return UpstreamInvalid(error.reason)
        case Unavailable() if error.retry_after is not None:
            return UpstreamUnavailable(error.reason, max(1, min(error.retry_after, RETRY_AFTER_LIMIT)))
        case _:
            return UpstreamUnavailable(error.reason, RETRY_AFTER)


def outage_kind(error: UpstreamOutage) -> OutageKind:
    """Find the kind of outage that the error of a request to an upstream shows."""
    match error:
        case RateLimited():
            return OutageKind.LIMITED
        case CredentialRefused():
            return OutageKind.LOGIN_REFUSED
        case Corrupt():
            return OutageKind.INVALID
        case Unavailable() if stage_of(error) is not FailureStage.RESPONSE:
            return OutageKind.UNREACHED
        case _:
            return OutageKind.FAILING


@asynccontextmanager
async def headers_due(seconds: float) -> AsyncIterator[None]:
    """Limit the time that all requests to upstreams take within the block. Raises UpstreamUnavailable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise UpstreamUnavailable(
            f"the upstream registry did not respond within {seconds:.0f} s", RETRY_AFTER
        ) from error


class TranslatedBlob(OpenBlob):
    """A blob that is fetched for one reader; raises RegistryError where that raises UpstreamError."""

    def __init__(self, blob: UncachedBlob) -> None:
        self._blob = blob
        self.digest = blob.digest

    @property
    def size(self) -> int | None:
        return self._blob.size

    async def verified(self) -> None:
        try:
            await self._blob.verified()
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        try:
            async for extent in self._blob.ready(start, stop):
                yield extent
        except UpstreamError as error:
            raise refusal(error, BlobUnknown) from error

    async def read(self, extent: Extent) -> bytes:
        return await self._blob.read(extent)

    def close(self) -> None:
        self._blob.close()
