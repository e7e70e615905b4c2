"""ProxiedBlobs: the blobs of one image of one upstream.

Bytes are shared by all; the right to them is not. An image has the right to a digest when there is a link, and a link
is won by asking the upstream with the credential of the image's own source.
"""

import asyncio
from contextlib import suppress
from functools import partial

from cache.download.errors import Arrived, Unstorable
from cache.download.fill import Fetch
from cache.download.flight import Flight, Follower
from cache.download.uncached import PrivateBlob
from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, UpstreamUnavailable
from cache.oci.names import RepositoryName
from cache.proxy.errors import RETRY_AFTER, Arriving
from cache.proxy.shared import PullThrough
from cache.proxy.upstream_calls import Asking
from cache.repository import CacheStatus, FoundBlob, FoundManifest, FoundSize
from cache.store.base import OpenBlob
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import AccessDenied, NotFound, UpstreamError
from cache.upstream.quota import RequestKind
from cache.values import Link, Outcome


class ProxiedBlobs:
    """Raises only RegistryError."""

    def __init__(self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, asking: Asking) -> None:
        self._all = shared
        self._client = client
        self._image = image
        self._asking = asking
        self._source = client.source

    async def open(self, digest: Digest) -> FoundBlob:
        """Open when this returns, though its bytes may still be arriving."""
        for anew in (False, True):
            if found := await self._held_blob(digest):
                return found
            with suppress(Arrived):
                try:
                    follower, first = await self._asking.within(self._follow(digest, anew=anew), BlobUnknown)
                except Unstorable:
                    return FoundBlob(await self._private_blob(digest), CacheStatus(Outcome.MISS))
                if self._all.prefetching is not None:
                    first = self._all.prefetching.claim(self._source, digest) or first
                arriving = Arriving(follower, self._fetch(digest))
                return FoundBlob(arriving, CacheStatus(Outcome.MISS if first else Outcome.COALESCED))
        raise UpstreamUnavailable("this blob came and went", RETRY_AFTER)

    async def stat(self, digest: Digest) -> FoundSize:
        """A HEAD never starts a download."""
        link = Link(self._source, self._image, digest)
        info = await self._all.held.stat(digest)
        if info and await self._all.index.linked(link):
            return FoundSize(info.size, CacheStatus(Outcome.HIT))
        if info and await self._won(link):
            return FoundSize(info.size, CacheStatus(Outcome.REVALIDATED))
        flight = self._all.flights.find(self._source, digest)
        if flight and flight.verified and flight.allows(self._image):
            return FoundSize(flight.written, CacheStatus(Outcome.COALESCED))
        size = await self._asking.within(self._asking.noting(self._client.head_blob(self._image, digest)), BlobUnknown)
        return FoundSize(size, CacheStatus(Outcome.MISS))

    def prefetch(self, found: FoundManifest) -> None:
        """Begin to download what a client that was given a manifest requests next, if the manifest is new here."""
        if self._all.prefetching is not None and found.status.outcome is Outcome.MISS:
            self._all.prefetching.begin(self._source, found.manifest, self._begin_download)

    async def _begin_download(self, digest: Digest) -> Follower | None:
        """Follow a download of the blob. None if the blob is here, for this image or for another of the same origin:
        then a client that requests it needs a HEAD to the upstream at most."""
        linked = await self._all.index.linked(Link(self._source, self._image, digest))
        if (linked and await self._all.held.stat(digest)) or await self._bytes_of_own_origin(digest):
            return None
        with suppress(Arrived, Unstorable):
            return (await self._asking.within(self._follow(digest, anew=False), BlobUnknown))[0]
        return None

    async def _held_blob(self, digest: Digest) -> FoundBlob | None:
        link = Link(self._source, self._image, digest)
        if await self._all.index.linked(link) and (stored := await self._all.held.open(digest)):
            self._all.usage.touch(digest, self._all.clock())
            return FoundBlob(stored, CacheStatus(Outcome.HIT))
        if await self._won(link) and (stored := await self._all.held.open(digest)):
            self._all.usage.touch(digest, self._all.clock())
            return FoundBlob(stored, CacheStatus(Outcome.REVALIDATED))
        return None

    async def _private_blob(self, digest: Digest) -> OpenBlob:
        """For who must do without a file from the first byte on."""
        try:
            blob = PrivateBlob(digest, self._fetch(digest))
        except RuntimeError as error:  # no more threads
            raise UpstreamUnavailable("this blob can be neither stored nor passed on now", RETRY_AFTER) from error
        try:
            await self._asking.within(self._asking.noting(blob.started()), BlobUnknown)
        except BaseException:
            blob.close()
            raise
        self._all.usage.touch(digest, self._all.clock())
        return Arriving(blob, self._fetch(digest))

    async def _follow(self, digest: Digest, *, anew: bool) -> tuple[Follower, bool]:
        """Joins the running download or begins one; returns when the upstream has answered. Raises Arrived where the
        bytes have come here in the meantime and `anew` is not said."""
        proved = False
        while True:
            flight = self._all.flights.find(self._source, digest, anew=anew)
            if not flight:
                await self._asking.in_turn(RequestKind.CONTENT, _nothing)()
                # Somebody else may have had his turn first.
                flight = self._all.flights.find(self._source, digest, anew=anew)
            if flight and self._image not in flight.images and not proved:
                await self._asking.noting(self._client.primary.head_blob(self._image, digest))
                proved = True
                continue
            flight, first = self._all.flights.join(self._source, self._image, digest, self._fetch(digest), anew=anew)
            follower = flight.follow()
            try:
                await follower.started()
                await self._win_right(flight, digest)
            except (NotFound, AccessDenied) as error:
                follower.close()
                if flight.image == self._image or flight.error is None:
                    await self._asking.note_refusal(error)
                    raise
            except BaseException:
                follower.close()
                raise
            else:
                self._all.usage.touch(digest, self._all.clock())
                return follower, first and not flight.borrowed

    async def _win_right(self, flight: Flight, digest: Digest) -> None:
        """Where another worker fetches for another image, this one's right is not proved by that. Raises
        UpstreamError."""
        if not flight.allows(self._image):
            link = Link(self._source, self._image, digest)
            task, _ = self._asking.share(("link", digest), partial(self._link_by_head, link))
            if isinstance(error := await asyncio.shield(task), UpstreamError):
                raise error.again()
            flight.admit(self._image)

    async def _won(self, link: Link) -> bool:
        """Whether bytes that are here became the image's by one question."""
        return await self._bytes_of_own_origin(link.digest) and await self._asking.shown(
            ("link", link.digest), partial(self._link_by_head, link), BlobUnknown
        )

    async def _link_by_head(self, link: Link) -> None:
        await self._client.primary.head_blob(self._image, link.digest)
        await self._asking.write_down(link)

    async def _bytes_of_own_origin(self, digest: Digest) -> bool:
        """Whether one question upstream is enough for a link: bytes that came from elsewhere prove nothing here."""
        if not await self._all.index.known_at(self._source.origin, digest):
            return False
        return await self._all.held.stat(digest) is not None

    def _fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self._client.open_blob(self._image, digest, part)


async def _nothing() -> None:
    """What there is to do before a download but to wait for its turn."""
