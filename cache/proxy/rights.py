"""Rights: which images may have which digests. Bytes are shared by all images; the right to them never is.

A right is a link (source, image, digest) in the index. All that pulling gives, checks and revokes is in this file. What
lies elsewhere: a running download (`cache.download.flight`) keeps the images that joined it, and whether the right of
each was proved, by its own fetch or by a proof that `admit` notes; `record_arrival` makes links of them.

- `has`: a link exists, so no request to the upstream is needed.
- `provable`: cached bytes were sent by the image's own origin. Then one HEAD to the upstream, with the credential
  of the image's source, proves the right (`prove_blob`; for manifests `prove_manifest`). Where a HEAD is refused, or
  says less than it must, it proves nothing and takes nothing: a GET decides. The client gets what it would
  get if nobody had the bytes: the same wait for its turn, the same refusals, MISS. Bytes of another origin prove
  nothing, and neither does a manifest that lists the digest, a mirror's response to a HEAD, a success that states
  another size than the content has, such as a notice in its place, or what a host states to which the upstream
  redirects and which its settings do not name: the owner of an image may have chosen that host.
- `may_join`: a running download was started for this image, or the image's right to it was proved before. Any other
  image proves its right first (`confirm_blob`), and proves it as well if another worker runs the download (`may_read`
  is false): that worker's fetch proves the right of the image that it fetches for, and of no other.
- `proved_by`: a proof that was refused is no verdict. Some registries serve content and refuse every HEAD, and a mirror
  may have what the upstream lost. Then the content is fetched under this image's name, as if nobody had it: what a
  client gets must not depend on what others have. An outage, a limit, or a proof without a response is no reason to
  fetch: the upstream is not to be asked again by a request that can only fail in the same way.
- `record`, `record_arrival`: what an upstream's response to this image proved becomes links.
- `revoke`: a refusal of a fresh token revokes the reference that was requested. Everything that the credential had
  proved for the image is revoked only if the image itself is refused (`revoke_if_refused`): a registry may refuse a
  single reference, by a policy for example.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TypeVar

import structlog

from cache.download.flight import Flight
from cache.index.base import Fact, FullIndex, Index
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.throttle import LogThrottle
from cache.sqlite import DatabaseUnusable
from cache.store.base import BlobStore, LocalBlob
from cache.upstream.allowance import RequestKind
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import AccessDenied, NoStatement, NotFound, RateLimited, Unavailable, UpstreamError
from cache.values import BlobInfo, Link

T = TypeVar("T")
log = structlog.get_logger()
log_throttle = LogThrottle()

PROOF_SECONDS = 8.0
"""Longest wait for the response to a HEAD that proves a right, and to the GET that may have to follow it."""


class Rights:
    """The rights of one image, seen with the credential of one source."""

    def __init__(self, index: Index, client: UpstreamClient, image: RepositoryName) -> None:
        self._index = index
        self._client = client
        self._image = image
        self._source = client.source

    def link(self, digest: Digest) -> Link:
        return Link(self._source, self._image, digest)

    def has(self, digest: Digest) -> Awaitable[bool]:
        """Whether the image has a link to the digest; usually decided from memory."""
        return self._index.linked(self.link(digest))

    def provable(self, digest: Digest) -> Awaitable[bool]:
        """Whether cached content came from this image's registry, so that one HEAD to the upstream proves a right."""
        return self._index.known_at(self._source.registry, digest)

    async def confirm_blob(self, digest: Digest) -> int | None:
        """Send the upstream itself, and no mirror, a HEAD for a blob under the image's name, or a GET where that proves
        nothing. Return the size that it states: only that of the blob proves the right. Raises UpstreamError."""
        async with self._proof_in_time():
            return await self._client.primary.head_blob(self._image, digest, as_proof=True)

    async def prove_blob(self, digest: Digest, size: int | None) -> None:
        """Send the upstream itself a HEAD for a blob of a size that is here, and record the right. Raises
        UpstreamError; NoStatement if the response does not state that size."""
        stated = await self.confirm_blob(digest)
        if stated is None or stated != size:
            raise NoStatement(f"{self._client.host} responded with something else than the blob")
        await self.record(self.link(digest))

    async def prove_manifest(self, digest: Digest) -> bool:
        """Send the upstream itself a HEAD for a cached manifest, and record the right. Raises UpstreamError.

        False if the HEAD names another digest or proves nothing: then only a GET proves the right. RateLimited is
        raised when a GET would be refused, although a HEAD may be free: what is cached for others must not show.
        """
        if self._client.pause(RequestKind.PULL):
            self._client.quota.check(RequestKind.PULL)
        async with self._proof_in_time():
            target = await self._client.primary.head_manifest(self._image, digest, as_proof=True)
        if target is None or target.digest != digest:
            return False
        await self.record(self.link(digest))
        return True

    @asynccontextmanager
    async def _proof_in_time(self) -> AsyncIterator[None]:
        """Limit a HEAD, which some registries leave without a response. Raises Unavailable."""
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                yield
        except TimeoutError as error:
            raise Unavailable(f"{self._client.host} did not respond in time") from error

    async def proved_by(self, proof: Awaitable[T]) -> T | None:
        """Await a proof of a right to content that others have; return its result, or None if it failed: then only a
        fetch proves the right. Raises RateLimited and Unavailable, since a fetch would meet the same; except where
        mirrors remain."""
        try:
            return await proof
        except UpstreamError as error:
            if isinstance(error, RateLimited | Unavailable) and self._client.primary is self._client:
                raise
            return None

    def may_join(self, flight: Flight) -> bool:
        """Whether the image may wait for a running download without proving its right first."""
        return self._image in flight.images

    def may_read(self, flight: Flight) -> bool:
        """Whether the image may read a download that it joined.

        False where the download is another worker's for another image, which proves no right of this one.
        """
        return flight.allows(self._image)

    def admit(self, flight: Flight) -> None:
        """Note that the image's right to a running download was proved."""
        flight.admit(self._image)

    async def record(self, *facts: Fact) -> None:
        """Record what a response to this image proved. What cannot be written is requested again later."""
        try:
            await self._index.record(*facts)
        except DatabaseUnusable as error:
            if log_throttle.due("index"):
                log.error("index_not_written", reason=str(error))

    async def revoke(self, error: UpstreamError, reference: Tag | Digest) -> bool:
        """Take away what a refusal of one reference ends; return whether the image itself may be refused, too.

        Where a credential was refused, that is the pointer of the tag or the link to the digest; otherwise the pointer
        of a tag that the upstream does not have.
        """
        refused = isinstance(error, AccessDenied) and self._client.has_credential
        if refused or isinstance(reference, Tag):
            await self._index.forget(self._source, self._image, reference)
        return refused and (await self._index.holdings(self._source, self._image)).any

    async def revoke_if_refused(self) -> None:
        """Take away all links and pointers of the image if the upstream refuses the image itself.

        It does if it refuses a tag that was good before, or the list of tags, and grants neither.
        """
        image, upstream = self._image, self._client.primary
        tags = (await self._index.holdings(self._source, image)).tags[:1]
        questions: list[Callable[[], Awaitable[object]]] = [
            *(partial(self._look_up, tag) for tag in tags),
            partial(upstream.tags, image, "n=1"),
        ]
        refused = False
        for question in questions:
            try:
                await question()
            except AccessDenied:
                refused = True
            except NotFound:
                continue
            except UpstreamError:
                return
            else:
                return
        if refused:
            await self._index.forget(self._source, self._image)

    async def _look_up(self, tag: Tag) -> None:
        """Return if the upstream itself has a tag and shows it. Raises UpstreamError."""
        if await self._client.primary.head_manifest(self._image, tag) is None:
            await self._client.primary.get_manifest(self._image, tag)


async def record_arrival(index: FullIndex, store: BlobStore, flight: Flight) -> None:
    """Record a committed download: the bytes are cached, and all images whose right was proved have a link.

    If that fails, as on a full disk, and nobody else has recorded the blob, its file is deleted: no request can find
    it. Raises what the index raises.
    """
    links = [Link(flight.source, image, flight.digest) for image in flight.images if flight.allows(image)]
    try:
        await index.record(BlobInfo(flight.digest, flight.written), *links)
    except Exception:
        if await index.recorded_size(flight.digest) is None:
            another = partial(_is_of_another, store, flight)
            await asyncio.to_thread(store.delete, flight.digest, another)
        raise


def _is_of_another(store: BlobStore, flight: Flight) -> bool:
    """Whether the file that has the blob's name is not the one that this download has stored."""
    stored = store.open(flight.digest)
    if stored is None:
        return True
    with closing(stored):
        return not isinstance(stored, LocalBlob) or not flight.is_followed(stored.fileno())
