"""Asking: how one image asks its upstream. Once for all who want the same, in its turn, no longer than clients wait.

What the upstream says is taken down on the way: that it is out or back, that something is absent or not allowed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

import structlog

from cache.download.errors import Arrived, Unstorable
from cache.events import RefusedContent
from cache.index.base import Fact
from cache.oci.digest import Digest
from cache.oci.errors import ManifestUnknown, RegistryError
from cache.oci.names import RepositoryName, Tag
from cache.proxy.errors import refusal
from cache.proxy.queue import Turns
from cache.proxy.shared import PullThrough
from cache.runtime.throttle import LogThrottle
from cache.sqlite import DatabaseUnusable
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import AccessDenied, Corrupt, NotFound, Unavailable, UpstreamError, UpstreamOutage
from cache.upstream.quota import RequestKind

T = TypeVar("T")
log = structlog.get_logger()
throttle = LogThrottle()

ANSWER_WITHIN = 20.0
"""Seconds from a request to its headers; clients give up at 30 (containerd 2.3)."""


class Asking:
    """`unknown` is what a client is told of what the upstream does not have. Work that is given to `share`, `ask` and
    `shown` runs in tasks that requests share, and ends with none of them."""

    def __init__(self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, group: Hashable) -> None:
        """`group`: on whose behalf it waits where an upstream's limit is used up; groups take turns."""
        self._all = shared
        self._client = client
        self._image = image
        self._group = group
        self._source = client.source

    def key(self, reference: Tag | Digest) -> Hashable:
        """By which this process remembers what is known of it: hits and absences."""
        return (self._source, self._image, reference)

    async def within(self, work: Awaitable[T], unknown: type[RegistryError]) -> T:
        """What comes of work that a client waits for. Raises RegistryError; Arrived and Unstorable pass."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await work
        except TimeoutError as error:
            late = Unavailable(f"{self._client.host} did not answer within {ANSWER_WITHIN:.0f} s")
            raise refusal(late, unknown) from error
        except (Arrived, Unstorable):
            raise
        except UpstreamError as error:
            raise refusal(error, unknown) from error

    async def ask(
        self, what: tuple[str, Tag | Digest], work: Callable[[], Awaitable[T]], unknown: type[RegistryError]
    ) -> tuple[T, bool]:
        """What comes of shared work, and whether this call began it. Raises RegistryError."""
        manifest = unknown is ManifestUnknown
        if manifest and self._all.absences.holds(self.key(what[1]), self._all.clock()):
            raise refusal(NotFound(f"{self._client.host} said so a moment ago"), unknown)
        task, first = self.share(what, work)
        result = await self.within(asyncio.shield(task), unknown)
        if isinstance(result, UpstreamError):
            raise self.unknown_manifest(result, what[1]) if manifest else refusal(result, unknown)
        return result, first

    async def shown(
        self, what: tuple[str, Digest], work: Callable[[], Awaitable[object]], unknown: type[RegistryError]
    ) -> bool:
        """Whether the upstream itself shows what is here, which is a right to it. What a mirror says of a HEAD proves
        nothing: where the upstream does not answer, bytes that mirrors give are verified instead."""
        try:
            await self.ask(what, work, unknown)
        except RegistryError:
            if self._client.primary is self._client:
                raise
            return False
        return True

    def share(
        self, what: tuple[str, Tag | Digest], work: Callable[[], Awaitable[T]]
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """The task of all who want the same, and whether this call began it. Its errors are values."""
        tag = what[1] if isinstance(what[1], Tag) else None
        return self._all.share(
            (self._source, self._image, *what), lambda: self._telling(what[1], self.noting(work(), tag))
        )

    async def noting(self, work: Awaitable[T], tag: Tag | None = None) -> T:
        """The same, and what it says of the upstream and of the image's rights is taken down."""
        try:
            result = await work
        except (NotFound, AccessDenied) as error:
            self._all.outages.end(self._source)
            await self.note_refusal(error, tag)
            raise
        except UpstreamOutage as error:
            self._all.outages.note(self._source, self._all.clock())
            if isinstance(error, Corrupt):
                refused = RefusedContent(self._source, error.fault, error.reason, error.evidence)
                self._all.events.content_refused(refused)
            raise
        self._all.outages.end(self._source)
        return result

    def in_turn(self, ask: RequestKind, work: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """The same work, begun when the upstream may be asked, or at once where that is not to be hoped for: then the
        client says why not."""

        async def begin() -> T:
            turns = self._all.turns.get(self._source)
            if turns is None:
                turns = self._all.turns[self._source] = Turns(lambda: self._client.pause(RequestKind.PULL))
            if self._client.pause(ask) or (len(turns) and ask is RequestKind.PULL):
                await turns.wait(self._group)
            return await work()

        return begin

    async def write_down(self, *facts: Fact) -> None:
        """What cannot be written down is asked for again some day; no answer depends on it."""
        try:
            await self._all.index.record(*facts)
        except DatabaseUnusable as error:
            if throttle.due("index"):
                log.error("index_not_written", reason=str(error))

    def unknown_manifest(self, error: UpstreamError, reference: Tag | Digest) -> RegistryError:
        """What the registry itself says that there is not is remembered for a moment."""
        if isinstance(error, NotFound | AccessDenied):
            self._all.absences.note(self.key(reference), self._all.clock())
        return refusal(error, ManifestUnknown)

    async def note_refusal(self, error: UpstreamError, tag: Tag | None = None) -> None:
        """A refusal of a fresh token takes the rights away that the credential had; a tag that is gone is forgotten."""
        if isinstance(error, AccessDenied) and self._client.has_credential:
            await self._all.index.forget(self._source, self._image)
        elif tag is not None:
            await self._all.index.forget(self._source, self._image, tag)

    async def _telling(self, reference: Tag | Digest, work: Awaitable[T]) -> T:
        try:
            return await work
        except UpstreamError as error:
            self._all.events.lookup_failed(self._source, self._image, reference, error.reason)
            raise
