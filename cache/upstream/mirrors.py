"""Mirrors: a client of an upstream that falls back to mirrors when the upstream cannot provide content.

A mirror is another registry that, according to the settings, may serve the same content. It never receives a
credential, so it cannot prove a right that a credential has: mirrors are used for anonymous sources only, whose content
is public. Sources with a credential use their upstream only.

Content that is requested by digest may come from any registry, since it is verified: the next one is tried after an
outage, a limit, a 404 or wrong bytes, even in the middle of a blob. For tags the upstream is authoritative. A mirror is
used for a tag only while the upstream does not respond at all, and only for tags that are not cached, because a mirror
may be behind.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

import structlog

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import NOBODY, Requester
from cache.upstream.allowance import RequestKind
from cache.upstream.client import BlobStream, UpstreamClient
from cache.upstream.errors import AccessDenied, NotFound, UpstreamError, UpstreamOutage
from cache.upstream.quota import Quota
from cache.values import Part, ReferrersPage, Rest, Source, TagPage

T = TypeVar("T")
log = structlog.get_logger()

REMEMBER = 60.0
"""Seconds for which a blob is requested from the next registry after one has failed to provide it."""

_LIMIT = 1000


class MirroredClient:
    """An UpstreamClient over the upstream itself and its mirrors. Raises what the upstream itself raised."""

    def __init__(
        self,
        primary: UpstreamClient,
        mirrors: Sequence[UpstreamClient],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.primary = primary
        self._clients = [primary, *mirrors]
        self._clock = clock
        self._begin_at: dict[Digest, tuple[int, float]] = {}
        self._lock = threading.Lock()

    @property
    def source(self) -> Source:
        return self.primary.source

    @property
    def host(self) -> str:
        return self.primary.host

    @property
    def has_credential(self) -> bool:
        return self.primary.has_credential

    @property
    def quota(self) -> Quota:
        return self.primary.quota

    def fails(self, image: RepositoryName) -> bool:
        return self.primary.fails(image)

    def pause(self, kind: RequestKind, image: RepositoryName | None = None) -> float:
        """Seconds until a request may be sent to any of the registries, for an image if one is named."""
        return min(client.pause(kind, image) for client in self._clients)

    async def head_manifest(
        self, image: RepositoryName, reference: Tag | Digest, *, as_proof: bool = False
    ) -> Descriptor | None:
        return await self._first(reference, lambda client: client.head_manifest(image, reference, as_proof=as_proof))

    async def get_manifest(
        self,
        image: RepositoryName,
        reference: Tag | Digest,
        held: Manifest | None = None,
        requester: Requester = NOBODY,
    ) -> Manifest:
        return await self._first(reference, lambda client: client.get_manifest(image, reference, held, requester))

    async def head_blob(self, image: RepositoryName, digest: Digest, *, as_proof: bool = False) -> int | None:
        return await self._first(digest, lambda client: client.head_blob(image, digest, as_proof=as_proof))

    async def tags(self, image: RepositoryName, query: str = "", requester: Requester = NOBODY) -> TagPage:
        return await self._first(None, lambda client: client.tags(image, query, requester))

    async def referrers(
        self, image: RepositoryName, digest: Digest, artifact_type: str | None, requester: Requester = NOBODY
    ) -> ReferrersPage:
        return await self._first(None, lambda client: client.referrers(image, digest, artifact_type, requester))

    @contextmanager
    def open_blob(
        self, image: RepositoryName, digest: Digest, part: Part | Rest | None = None
    ) -> Iterator["WatchedStream"]:
        """Open a blob from the first registry that provides it; blocks, for a thread. A registry that broke off or sent
        wrong bytes is tried last the next time."""
        failures: dict[int, UpstreamError] = {}
        for place in self._order(digest):
            with ExitStack() as stack:
                try:
                    stream = stack.enter_context(self._clients[place].open_blob(image, digest, part))
                except UpstreamError as error:
                    if place == 0 and isinstance(error, AccessDenied):
                        raise
                    self._note(place, error)
                    self._pass_over(digest, place)
                    failures[place] = error
                    continue
                used = partial(self._pass_over, digest, place)
                yield WatchedStream(stream, used, to_the_end=not isinstance(part, Part))
                return
        raise failures[0]

    async def _first(self, reference: Tag | Digest | None, request: Callable[[UpstreamClient], Awaitable[T]]) -> T:
        """Send a request to one registry after the other; the first response counts. A 404 counts except for a digest,
        which a mirror may have kept when the upstream lost it."""
        excused = (UpstreamOutage, NotFound) if isinstance(reference, Digest) else UpstreamOutage
        try:
            return await request(self.primary)
        except excused as error:
            self._note(0, error)
            refusal = error
        for place, mirror in enumerate(self._clients[1:], 1):
            try:
                return await request(mirror)
            except UpstreamError as error:
                self._note(place, error)
        raise refusal

    def _note(self, place: int, error: UpstreamError) -> None:
        log.info("next_source_asked", upstream=self.host, failed=self._clients[place].host, reason=error.reason)

    def _order(self, digest: Digest) -> list[int]:
        with self._lock:
            begin, until = self._begin_at.get(digest, (0, 0.0))
        places = list(range(len(self._clients)))
        return places[begin:] + places[:begin] if self._clock() < until else places

    def _pass_over(self, digest: Digest, place: int) -> None:
        with self._lock:
            self._begin_at.pop(digest, None)
            self._begin_at[digest] = ((place + 1) % len(self._clients), self._clock() + REMEMBER)
            while len(self._begin_at) > _LIMIT:
                del self._begin_at[next(iter(self._begin_at))]


class WatchedStream:
    """A BlobStream that calls `used` when it breaks off or has ended: another request for the blob means that its
    content was no good."""

    def __init__(self, inner: BlobStream, used: Callable[[], None], *, to_the_end: bool) -> None:
        self.start, self.size, self.accepts_ranges = inner.start, inner.size, inner.accepts_ranges
        self._inner, self._used, self._to_the_end = inner, used, to_the_end

    def receive_into(self, buffer: memoryview) -> int:
        try:
            count = self._inner.receive_into(buffer)
        except UpstreamError:
            self._used()
            raise
        if not count and self._to_the_end:
            self._used()
        return count

    def abort(self) -> None:
        self._inner.abort()
