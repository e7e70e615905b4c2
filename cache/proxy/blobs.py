"""ProxiedBlobs: the blobs of one image of one upstream, from the disk, from a running download, or from a new one."""

from collections.abc import Awaitable
from contextlib import suppress
from functools import partial

from cache.download.errors import AlreadyStored, Unstorable
from cache.download.flight import Flight
from cache.download.follower import Follower
from cache.download.incoming import Fetch
from cache.download.uncached import UncachedBlob
from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, UpstreamUnavailable
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName
from cache.proxy.downloading_blob import DownloadingBlob
from cache.proxy.errors import RETRY_AFTER, TranslatedBlob, headers_due
from cache.proxy.pull_through import PullThrough
from cache.proxy.rights import Rights
from cache.proxy.upstream_calls import SharedCall, UpstreamCalls
from cache.repository import COALESCED, HIT, MISS, FoundBlob, FoundManifest, FoundSize
from cache.store.base import LocalBlob, OpenBlob
from cache.upstream.allowance import RequestKind
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import AccessDenied, NoStatement, NotFound, UpstreamError
from cache.values import Damage, Outcome


class Unproved(Exception):
    """The image could not prove its right to another image's running download; only a fetch of its own proves it."""


class ProxiedBlobs:
    """The blobs of one image. Raises only RegistryError."""

    def __init__(
        self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, rights: Rights, calls: UpstreamCalls
    ) -> None:
        self._shared = shared
        self._client = client
        self._image = image
        self._rights = rights
        self._calls = calls
        self._source = client.source

    async def open(self, digest: Digest) -> FoundBlob:
        """Open a blob; its bytes may still be arriving. Raises BlobUnknown."""
        # A download that runs for this image shows that the blob is neither held nor another's, without a lookup.
        begun = self._is_begun(digest)
        if not begun and (held := await self._open_held(digest)):
            return held
        async with headers_due(self._shared.timings.headers):
            return await self._open_missing(digest, begun=begun)

    async def _open_missing(self, digest: Digest, *, begun: bool) -> FoundBlob:
        """Open a blob that was not cached for the image a moment ago. `begun`: whether its download runs for it."""
        for even_if_stored in (False, True):
            begun = begun and not even_if_stored
            if even_if_stored and (held := await self._open_held(digest)):
                return held
            with suppress(AlreadyStored):
                try:
                    async with self._calls.for_client(BlobUnknown):
                        provable = not begun and await self._is_provable(digest)
                        if provable and (found := await self._open_proved(digest)):
                            return found
                        follower, first = await self._follow(digest, even_if_stored=even_if_stored or provable)
                except (Unstorable, Unproved):
                    return FoundBlob(await self._open_uncached(digest), MISS)
                if self._shared.prefetcher is not None:
                    first = first or self._shared.prefetcher.is_first_reader(self._source, digest)
                blob = DownloadingBlob(follower, self._fetch(digest), self._calls.request_fill)
                return FoundBlob(blob, MISS if first else COALESCED)
        raise UpstreamUnavailable("the blob was evicted while it was being opened; try again", RETRY_AFTER)

    async def stat(self, digest: Digest) -> FoundSize:
        """The size of a blob; never starts a download. Raises BlobUnknown.

        Without a link the request is forwarded, and wins none: otherwise the next GET would tell whether another image
        has the blob.
        """
        info = await self._shared.stored.stat(digest)
        if info and await self._rights.has(digest):
            return FoundSize(info.size, HIT)
        flight = self._shared.flights.find(self._source, digest)
        if flight and flight.verified and self._rights.may_read(flight):
            return FoundSize(flight.written, COALESCED)
        due, client = headers_due(self._shared.timings.headers), self._calls.for_client(BlobUnknown, joins=False)
        async with due, client, self._calls.small_request(), self._calls.noted(digest):
            size = await self._client.head_blob(self._image, digest)
        return FoundSize(size, MISS)

    async def holds(self, digest: Digest) -> bool:
        """Whether the blob is cached and the image has a link to it; nothing is requested of the upstream."""
        return await self._rights.has(digest) and await self._shared.stored.stat(digest) is not None

    def prefetch(self, found: FoundManifest) -> None:
        """Begin to download what a client that received a manifest requests next, if the manifest was not cached."""
        if found.status.outcome is Outcome.MISS:
            self.fetch_ahead(found.manifest)

    def fetch_ahead(self, manifest: Manifest) -> None:
        """Begin to download what a client with this manifest requests next."""
        if self._shared.prefetcher is not None:
            self._shared.prefetcher.begin(self._source, manifest, self._download_ahead)

    async def _download_ahead(self, digest: Digest) -> Follower | None:
        """Follow a download of the blob. None if the blob is cached, for this image or for another of the same origin:
        then a client that requests it needs at most one HEAD to the upstream."""
        if await self.holds(digest):
            return None
        if await self._is_provable(digest) or not self._calls.may_fill_at_once:
            return None
        with suppress(AlreadyStored, Unstorable, Unproved):
            async with self._calls.for_client(BlobUnknown):
                follower, _ = await self._follow(digest, even_if_stored=False)
            return follower
        return None

    def _is_begun(self, digest: Digest) -> bool:
        """Whether a download of the blob runs that this image may join, such as one that was begun ahead."""
        flight = self._shared.flights.find(self._source, digest)
        return flight is not None and self._rights.may_join(flight)

    async def drop_damaged(self, blob: LocalBlob, damage: Damage) -> None:
        """Take a cached blob away whose bytes were read and are damaged: whoever requests it next fetches it anew."""
        await self._shared.stored.drop_damaged(blob, damage)

    async def _open_held(self, digest: Digest) -> FoundBlob | None:
        """Open a cached blob to which the image has a link; None if there is none."""
        if not await self._rights.has(digest) or (blob := await self._shared.stored.open(digest)) is None:
            return None
        self._shared.usage.touch(digest, self._shared.clock())
        return FoundBlob(blob, HIT)

    async def _open_proved(self, digest: Digest) -> FoundBlob | None:
        """Open a cached blob whose right the image proves now; None if it cannot. Raises RateLimited.

        The client cannot tell that another image has the blob: it waits for its turn as it would for a download, and
        its response is a MISS.
        """
        if held := await self._open_held(digest):  # the image's own download may have been recorded a moment ago
            return held
        await self._calls.wait_turn(RequestKind.CONTENT, (self._image, digest))
        if (info := await self._shared.stored.stat(digest)) is None:
            return None
        first = await self._rights.proved_by(self._share_proof(digest, info.size))
        if first is None or (blob := await self._shared.stored.open(digest)) is None:
            return None
        self._shared.usage.touch(digest, self._shared.clock())
        return FoundBlob(blob, MISS if first else COALESCED)

    async def _open_uncached(self, digest: Digest) -> OpenBlob:
        """A download for one reader alone, where nothing can be written to disk."""
        async with self._calls.for_client(BlobUnknown):
            place = await self._calls.request_fill()
        try:
            blob = UncachedBlob(digest, self._fetch(digest), ended=place.close)
        except RuntimeError as error:  # no more threads
            place.close()
            raise UpstreamUnavailable(
                "the blob can be neither stored nor streamed now: this server has no thread left", RETRY_AFTER
            ) from error
        try:
            async with self._calls.for_client(BlobUnknown), self._calls.noted(digest):
                await blob.started()
        except BaseException:
            blob.close()
            raise
        self._shared.usage.touch(digest, self._shared.clock())
        return TranslatedBlob(blob)

    async def _follow(self, digest: Digest, *, even_if_stored: bool) -> tuple[Follower, bool]:
        """Join the running download or begin one; return when the upstream has responded, with whether this request
        began it, or proved the image's right to that of another image. Raises UpstreamError; Unproved; AlreadyStored if
        the blob was stored meanwhile, unless `even_if_stored`."""
        proved = False
        while True:
            flight = self._shared.flights.find(self._source, digest, even_if_stored=even_if_stored)
            if not proved and not (flight and self._rights.may_join(flight)):
                await self._calls.wait_turn(RequestKind.CONTENT, (self._image, digest))
                # Another request may have begun the download, or the download may have ended, in the meantime.
                flight = self._shared.flights.find(self._source, digest, even_if_stored=even_if_stored)
            if flight and not proved and not self._rights.may_join(flight):
                stated = await self._rights.proved_by(self._confirm(digest))
                if stated is None:
                    raise Unproved
                proved = await self._is_of_size(flight, stated)
                continue
            flight, first = self._shared.flights.join(
                self._source, self._image, digest, self._fetch(digest), even_if_stored=even_if_stored
            )
            follower = flight.follow(self._calls.requester)
            try:
                await flight.admitted(self._shared.flights.places.limits.wait)
                await follower.started()
                proved = await self._prove_right_to(flight) or proved
            except (NotFound, AccessDenied, NoStatement) as error:
                follower.close()
                if flight.image == self._image or flight.error is None:
                    await self._calls.revoke(error, digest)
                    raise
                # The refusal concerns the image that began the download: begin one for this image.
            except BaseException:
                follower.close()
                raise
            else:
                self._shared.usage.touch(digest, self._shared.clock())
                return follower, proved or (first and not flight.begun_elsewhere)

    async def _is_of_size(self, flight: Flight, stated: int) -> bool:
        """Whether another image's download has the size that the upstream stated for this image; False where it has
        failed. Raises Unproved for another size."""
        follower = flight.follow(self._calls.requester)
        try:
            await flight.admitted(self._shared.flights.places.limits.wait)
            await follower.started()
            if follower.size != stated:
                raise Unproved
        except UpstreamError:
            return False
        finally:
            follower.close()
        return True

    async def _prove_right_to(self, flight: Flight) -> bool:
        """Prove the image's right to a download that another worker runs for another image; return whether this request
        proved it. Raises Unproved, RateLimited."""
        if self._rights.may_read(flight):
            return False
        first = await self._rights.proved_by(self._share_proof(flight.digest, flight.size))
        if first is None:
            raise Unproved
        self._rights.admit(flight)
        return first

    async def _confirm(self, digest: Digest) -> int | None:
        """Confirm the right to a blob of the returned size with a HEAD of its own. Raises UpstreamError."""
        async with self._calls.small_request(), self._calls.noted(digest):
            return await self._rights.confirm_blob(digest)

    def _share_proof(self, digest: Digest, size: int | None) -> Awaitable[bool]:
        """Prove the right to a blob of a size; return whether this request is the first that does. Raises
        UpstreamError."""
        return self._calls.proof(SharedCall.PROVE_BLOB, digest, partial(self._rights.prove_blob, digest, size))

    async def _is_provable(self, digest: Digest) -> bool:
        return await self._rights.provable(digest) and await self._shared.stored.stat(digest) is not None

    def _fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self._client.open_blob(self._image, digest, part)
