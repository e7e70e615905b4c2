"""UpstreamCalls: how requests for one image call its upstream.

Requests that want the same share one task; misses wait for their turn while the upstream's limit is used up; a client
waits no longer than it can. Every outcome is noted: an outage begins or ends, content is absent, rights are revoked.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from functools import partial
from typing import TypeVar

from cache.download.errors import AlreadyStored, Unstorable
from cache.events import RefusedContent
from cache.oci.digest import Digest
from cache.oci.errors import InCircle, ManifestUnknown, RegistryError
from cache.oci.names import RepositoryName, Tag
from cache.proxy.circles import NOTHING, CircleWatch
from cache.proxy.errors import outage_kind, refusal
from cache.proxy.memory import Absence
from cache.proxy.pull_through import PullThrough
from cache.proxy.queue import PullQueue
from cache.proxy.rights import Rights
from cache.runtime.fair_queue import Requester
from cache.runtime.line import PlaceRequest
from cache.upstream.allowance import RequestKind
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import (
    AccessDenied,
    CircuitOpen,
    Corrupt,
    FormatUnsupported,
    NoRoom,
    NoStatement,
    NotFound,
    Unavailable,
    UpstreamError,
    UpstreamOutage,
)
from cache.values import Source

T = TypeVar("T")


class SharedCall(Enum):
    """Work for which requests share a task, if it is about one reference of one image, or about the image."""

    GET_MANIFEST = "get manifest"
    HEAD_MANIFEST = "head manifest"
    REVALIDATE_TAG = "revalidate tag"
    PROVE_MANIFEST = "prove manifest"
    PROVE_BLOB = "prove blob"
    CHECK_IMAGE = "check image"
    LIST_TAGS = "list tags"
    LIST_REFERRERS = "list referrers"


def reference_key(source: Source, image: RepositoryName, reference: Tag | Digest) -> Hashable:
    """The key of what this process remembers of a reference: recent manifests and absences."""
    return (source, image, reference)


class UpstreamCalls:
    """Calls for one image. Shared work runs in tasks of the app and ends with none of the requests."""

    def __init__(
        self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, rights: Rights, requester: Requester
    ) -> None:
        """`requester`: on whose behalf the upstream is called; groups take turns, then their clients."""
        self._shared = shared
        self._client = client
        self._image = image
        self._rights = rights
        self.requester = requester
        self._source = client.source

    def share(
        self,
        call: SharedCall,
        reference: Tag | Digest,
        work: Callable[[], Awaitable[T]],
        turn: RequestKind | None = None,
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """The task of all requests for this work, and whether this request started it. UpstreamErrors are results.

        `turn`: the kind of request for whose turn the work waits first; None for work that does not wait.
        """
        key = (self._source, self._image, call, reference)
        task, first = self._shared.share(key, partial(self._settle, key, reference, work, turn))
        if not first:
            self._shared.requests.join(key, self.requester)
            if (queue := self._shared.queues.get(self._source)) is not None:
                queue.join(key, self.requester)
        return task, first

    async def proof(
        self, call: SharedCall, digest: Digest, work: Callable[[], Awaitable[None]], turn: RequestKind | None = None
    ) -> bool:
        """Prove a right, once for all requests that need it; return whether this is the first of them. Raises
        UpstreamError."""
        task, first = self.share(call, digest, work, turn)
        if isinstance(error := await asyncio.shield(task), UpstreamError):
            raise error.again()
        return first

    def is_absent(self, reference: Tag | Digest) -> bool:
        """Whether the upstream had no such manifest a moment ago."""
        return self._find_absence(reference) is not None

    def _find_absence(self, reference: Tag | Digest) -> Absence | None:
        return self._shared.absences.find(reference_key(self._source, self._image, reference), self._shared.clock())

    async def manifest(
        self,
        call: SharedCall,
        reference: Tag | Digest,
        work: Callable[[], Awaitable[T]],
        turn: RequestKind | None = None,
    ) -> tuple[T, bool]:
        """The result of shared work on a manifest, and whether this request started it. Raises RegistryError."""
        if (absence := self._find_absence(reference)) is not None:
            age = (self._shared.clock() - absence.noted_at).total_seconds()
            raise refusal(NotFound(f"{absence.reason} (said {age:.0f} s ago)"), ManifestUnknown)
        task, first = self.share(call, reference, work, turn)
        async with self.for_client(ManifestUnknown):
            result = await asyncio.shield(task)
        if isinstance(result, UpstreamError):
            raise self.manifest_refusal(result, reference)
        return result, first

    async def wait_turn(self, kind: RequestKind, key: Hashable) -> None:
        """Wait until the upstream may be called. Returns at once if waiting is hopeless: the call then raises why.

        `key`: that of all requests which wait for the same, and continue together.
        """
        queue = self._shared.queues.get(self._source)
        if queue is None:
            queue = self._shared.queues[self._source] = PullQueue(lambda: self._client.pause(RequestKind.PULL))
        in_line = len(queue) and kind is RequestKind.PULL and not self._client.pause(kind)
        if in_line or self._client.pause(kind, self._image):
            await queue.wait(self.requester, key)

    def small_request(self, key: Hashable = None) -> AbstractAsyncContextManager[None]:
        """Hold a place for a request with a small response, which waits behind no download. Raises UpstreamError.

        `key`: that of the shared work, whose other requesters join the wait.
        """
        return self._shared.requests.place(self._source.origin, self.requester, key)

    async def request_fill(self) -> PlaceRequest:
        """Wait for the place of a download for one reader, who closes it. Raises UpstreamError."""
        return await self._shared.flights.places.request(self._source.origin, self.requester)

    @property
    def may_fill_at_once(self) -> bool:
        """Whether a download could begin now, and no other waits."""
        return self._shared.flights.places.line(self._source.origin).has_room(self.requester)

    @asynccontextmanager
    async def for_client(self, unknown: type[RegistryError], *, joins: bool = True) -> AsyncIterator[None]:
        """Limit what a client waits for; turn UpstreamErrors into RegistryErrors, but AlreadyStored and Unstorable.

        `unknown`: the error for content that the upstream does not have. `joins`: whether the client may wait for what
        others have begun.
        """
        seconds = self._shared.timings.response
        watch = CircleWatch(self._head_nothing, self._shared.tasks)
        try:
            async with asyncio.timeout(seconds) as wait:
                if joins:
                    watch.begin(wait)
                yield
        except TimeoutError as error:
            if watch.found:
                raise InCircle(f"{self._client.host} waits for the gateway that sent this request on") from error
            late = Unavailable(f"{self._client.host} did not respond within {seconds:.0f} s")
            raise refusal(late, unknown) from error
        except (AlreadyStored, Unstorable):
            raise
        except UpstreamError as error:
            raise refusal(error, unknown) from error
        finally:
            watch.end()

    async def _head_nothing(self) -> None:
        """Send a request of which nothing is kept. Raises UpstreamError."""
        async with self.small_request():
            await self._client.head_blob(self._image, NOTHING)

    @asynccontextmanager
    async def noted(self, reference: Tag | Digest) -> AsyncIterator[None]:
        """Record the outcome of a call for a reference, for outages and for the image's rights."""
        try:
            yield
        except (NotFound, AccessDenied) as error:
            self._responded()
            await self.revoke(error, reference)
            raise
        except FormatUnsupported:
            self._responded()
            raise
        except (NoStatement, NoRoom):
            raise
        except UpstreamOutage as error:
            self._shared.outages.note(self._source, self._shared.clock())
            if not isinstance(error, CircuitOpen):
                self._shared.events.upstream_failed(self._source, outage_kind(error), error.reason)
            if isinstance(error, Corrupt):
                refused = RefusedContent(self._source, self._image, error.fault, error.reason, error.evidence)
                self._shared.events.content_refused(refused)
            raise
        self._responded()

    def _responded(self) -> None:
        """Note that the upstream has responded, whatever it said."""
        self._shared.outages.end(self._source)
        self._shared.events.upstream_responded(self._source)

    async def revoke(self, error: UpstreamError, reference: Tag | Digest) -> None:
        """Take away the rights that a refusal ends. Whether the image itself is refused is found out once for all
        requests that wait."""
        if isinstance(error, AccessDenied):
            self._shared.lists.forget()
        if await self._rights.revoke(error, reference):
            key = (self._source, self._image, SharedCall.CHECK_IMAGE)
            task, _ = self._shared.share(key, self._rights.revoke_if_refused)
            await asyncio.shield(task)

    def manifest_refusal(self, error: UpstreamError, reference: Tag | Digest) -> RegistryError:
        """The error for a manifest; that the registry does not have it is remembered for a while, that it refuses it
        for a shorter one."""
        if isinstance(error, NotFound | AccessDenied):
            key, refused = reference_key(self._source, self._image, reference), isinstance(error, AccessDenied)
            self._shared.absences.note(key, self._shared.clock(), error.reason, briefly=refused)
        return refusal(error, ManifestUnknown)

    async def _settle(
        self, key: Hashable, reference: Tag | Digest, work: Callable[[], Awaitable[T]], turn: RequestKind | None
    ) -> T | UpstreamError:
        """The body of a shared task."""
        try:
            if turn is not None:
                await self.wait_turn(turn, key)
            async with self.small_request(key), self.noted(reference):
                return await work()
        except UpstreamError as error:
            self._shared.events.lookup_failed(self._source, self._image, reference, error.reason)
            return error
