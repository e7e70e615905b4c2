"""Lists of tags and referrers: requested once for all who want the same, remembered for a moment, and served stale.

What the upstream sent last is recorded, by image and query, and served with its age while the upstream fails. A refusal
of a list deletes what is recorded of the image, and so does the loss of the image's rights.
"""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar, cast

import structlog

from cache.index.lists import ListRecord
from cache.oci.digest import Digest
from cache.oci.errors import NameUnknown
from cache.oci.names import RepositoryName
from cache.policy.freshness import stale_warning_of
from cache.proxy.pull_through import PullThrough
from cache.proxy.upstream_calls import SharedCall, UpstreamCalls
from cache.repository import UNCACHED, CacheStatus
from cache.runtime.throttle import LogThrottle
from cache.sqlite import DatabaseUnusable
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import AccessDenied, NotFound, Unavailable, UpstreamError, UpstreamOutage
from cache.values import Outcome, PageStart, ReferrersPage, TagPage

P = TypeVar("P", TagPage, ReferrersPage)
CONTINUED_SECONDS = 60.0
"""Seconds for which a list that is cut into pages is remembered for a client that goes on to the next one."""

_NAME_BYTES, _VALUE_FACTOR = 64, 10
log = structlog.get_logger()
log_throttle = LogThrottle()


@dataclass(frozen=True, slots=True)
class _Wanted(Generic[P]):
    """A list that is wanted: its shared call, the query that identifies it, the request for it, and its form.

    `seconds`: how old a response may be that is remembered.
    """

    call: SharedCall
    query: str
    work: Callable[[], Awaitable[P]]
    read: Callable[[dict[str, Any], list[str]], P]
    seconds: float = 1.0


class ProxiedLists:
    """The lists of one image, seen with one credential. Raises RegistryError."""

    def __init__(
        self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, calls: UpstreamCalls, fresh_only: bool
    ) -> None:
        """`fresh_only`: what the upstream does not confirm now is refused."""
        self._shared, self._client, self._image = shared, client, image
        self._source, self._calls, self._fresh_only = client.source, calls, fresh_only

    async def tags(self, query: str, *, continued: bool = False) -> tuple[TagPage, CacheStatus]:
        """The upstream's page of a query. `continued`: the client has seen the beginning of this page already."""
        work = partial(self._client.tags, self._image, query, self._calls.requester)
        seconds = CONTINUED_SECONDS if continued else 1.0
        return await self._find(_Wanted(SharedCall.LIST_TAGS, f"tags {query}", work, _read_tags, seconds))

    async def referrers(self, digest: Digest, artifact_type: str | None) -> tuple[ReferrersPage, CacheStatus]:
        work = partial(self._client.referrers, self._image, digest, artifact_type, self._calls.requester)
        query = f"referrers {digest} {artifact_type or ''}"
        return await self._find(_Wanted(SharedCall.LIST_REFERRERS, query, work, _read_referrers))

    async def _find(self, wanted: _Wanted[P]) -> tuple[P, CacheStatus]:
        """A list for a client. The key holds the source, so no credential sees what only another one may see."""
        key = (self._source, self._image, wanted.call, wanted.query)
        if not self._fresh_only and (page := self._shared.lists.find(key, wanted.seconds)) is not None:
            return cast(P, page), UNCACHED
        record = None if self._fresh_only else await self._record_of(wanted.query)
        async with self._calls.for_client(NameUnknown):
            task, first = self._shared.share(key, partial(self._request, key, wanted))
            if not first:
                self._shared.requests.join(key, self._calls.requester)
            await asyncio.wait({task}, timeout=self._wait_limit() if record else None)
            late = Unavailable(f"{self._client.host} did not respond in time")
            result = task.result() if task.done() else late
            if isinstance(result, UpstreamOutage) and record:
                page = await asyncio.to_thread(_unpacked, record.content, wanted.read)
                return page, self._stale(record.checked_at, result)
            if isinstance(result, UpstreamError):
                raise result.again()
        return result, UNCACHED

    async def _request(self, key: Hashable, wanted: _Wanted[P]) -> P | UpstreamError:
        """The body of a shared task."""
        lists = self._shared.lists
        try:
            async with self._calls.small_request(key):
                requested_at, checked_at = lists.clock(), self._shared.clock()
                page = await wanted.work()
        except UpstreamError as error:
            if isinstance(error, NotFound | AccessDenied):
                await self._written(self._shared.index.lists.forget(self._source, self._image))
            return error
        if lists.note(key, requested_at, _memory(page), page):
            content = await asyncio.to_thread(_packed, page)
            record = ListRecord(content, checked_at)
            await self._written(self._shared.index.lists.record(self._source, self._image, wanted.query, record))
        return page

    async def _record_of(self, query: str) -> ListRecord | None:
        """The record that may be served stale; None if there is none."""
        rules = self._shared.rules
        try:
            record = await self._shared.index.lists.find(self._source, self._image, query)
        except DatabaseUnusable:
            return None
        fits = record is not None and self._shared.clock() - record.checked_at < rules.ttl + rules.grace
        return record if fits else None

    async def _written(self, writing: Awaitable[None]) -> None:
        """Wait for a change of the records; one that cannot be written is lost."""
        try:
            await writing
        except DatabaseUnusable as error:
            if log_throttle.due("lists"):
                log.error("index_not_written", reason=str(error))

    def _wait_limit(self) -> float:
        """Seconds to wait for the upstream where its last list can be served."""
        outage, timings = self._shared.outages.find(self._source), self._shared.timings
        silent = (outage and outage.late) or self._client.fails(self._image)
        return timings.revalidation_after_silence if silent else timings.list

    def _stale(self, checked_at: datetime, failure: UpstreamOutage) -> CacheStatus:
        outage, now = self._shared.outages.find(self._source), self._shared.clock()
        since = outage.since if outage else None
        warning = stale_warning_of(self._source.origin.netloc, checked_at, failure.reason, since, now)
        return CacheStatus(Outcome.STALE, max(timedelta(0), now - checked_at), warning)


# A record is a line of JSON and then the names of tags, one a line: they are split and joined faster than JSON.


def _packed(page: TagPage | ReferrersPage) -> bytes:
    names = page.tags if isinstance(page, TagPage) else []
    document = (
        {"next": asdict(page.next) if page.next else None, "size": page.size}
        if isinstance(page, TagPage)
        else {"manifests": page.manifests, "filtered": page.filtered, "size": page.size}
    )
    return zlib.compress("\n".join([json.dumps(document), *names]).encode(), 1)


def _unpacked(content: bytes, read: Callable[[dict[str, Any], list[str]], P]) -> P:
    document, *names = zlib.decompress(content).decode().split("\n")
    return read(json.loads(document), names)


def _read_tags(document: dict[str, Any], names: list[str]) -> TagPage:
    start = document["next"]
    return TagPage(names, PageStart(**start) if start else None, document["size"])


def _read_referrers(document: dict[str, Any], _: list[str]) -> ReferrersPage:
    return ReferrersPage(**document)


def _memory(page: TagPage | ReferrersPage) -> int:
    """Bytes that a page takes in memory, about."""
    return page.size + _NAME_BYTES * len(page.tags) if isinstance(page, TagPage) else _VALUE_FACTOR * page.size
