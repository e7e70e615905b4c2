"""ProxiedRepository: the use cases of pulling through. The cache is asked before the network, always.

Bytes are shared by all; the right to them is not. An image has the right to a digest when there is a link, and a link
is won by asking the upstream with the credential of the image's own source.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import structlog

from cache.failures import Arrived, Unstorable
from cache.fill import Fetch
from cache.flight import Flight, Flights, Follower
from cache.freshness import Freshness, freshness, may_be_stale
from cache.holdings import Damage, Holdings
from cache.index.base import Catalogue, Fact, Index, Usage
from cache.index.sqlite import DatabaseUnusable
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamInvalid,
    UpstreamUnavailable,
)
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.private import PrivateBlob
from cache.seldom import Seldom
from cache.store.base import BlobStore, Extent, OpenBlob
from cache.tasks import Shared, Tasks
from cache.turns import Turns
from cache.upstream.client import ReferrersPage, TagPage
from cache.upstream.errors import Corrupt, Denied, NotFound, Outage, RateLimited, Unavailable, UpstreamError
from cache.upstream.mirrored import Client
from cache.upstream.quota import Ask, Thrift
from cache.values import BlobInfo, Link, Outcome, Source, TagPointer

T = TypeVar("T")
Failed = Callable[[Source, RepositoryName, Tag | Digest, UpstreamError], None]
log = structlog.get_logger()
seldom = Seldom()

ANSWER_WITHIN = 20.0
"""Seconds from a request to its headers; clients give up at 30 (containerd 2.3)."""

REVALIDATE_WITHIN = 2.0
LATE_WITHIN = 0.25
"""For an answer that somebody has waited for in vain already: an upstream that hangs costs one client, not each."""

THRIFTY = 10
"""How many times its ttl a tag is fresh while little is left of a limit that questions about tags count for, too."""

RETRY_AFTER = 5
RETRY_AFTER_LIMIT = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """How a lookup ended; `age` and `warning` are there when it was answered STALE."""

    outcome: Outcome
    age: timedelta | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FoundManifest:
    manifest: Manifest
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundTarget:
    descriptor: Descriptor
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """An open blob, which the caller closes."""

    blob: OpenBlob
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundSize:
    """Bytes of a blob; None where the upstream did not say."""

    size: int | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class TagRules:
    ttl: timedelta
    grace: timedelta


class PullThrough:
    """What all proxied repositories of a process share."""

    def __init__(
        self,
        index: Catalogue,
        usage: Usage,
        store: BlobStore,
        flights: Flights,
        tasks: Tasks,
        rules: TagRules,
        clock: Callable[[], datetime],
        refused: Callable[[Source, Corrupt], None] = lambda source, error: None,
        damaged: Callable[[Digest, Damage], None] = lambda digest, damage: None,
        failed: Failed = lambda source, image, reference, error: None,
    ) -> None:
        """`refused` is told of each document that an upstream gave and that must not be passed on, `damaged` of each
        file that was not as it was written, `failed` of each question about a manifest or a link that was not answered
        as it was hoped."""
        self.failed = failed
        self.index = index
        self.usage = usage
        self.held = Holdings(index, store, damaged)
        self.flights = flights
        self.rules = rules
        self.clock = clock
        self.refused = refused
        self.late: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.turns: dict[Source, Turns] = {}
        self._shared: Shared[Hashable, Any] = Shared(tasks)

    def waiting_misses(self) -> dict[Source, int]:
        """How many misses wait for their turn, by source."""
        return {source: len(turns) for source, turns in self.turns.items()}

    def share(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """One task for all who want the same of an upstream; its errors are values."""
        return self._shared.join(key, lambda: _settled(work), str(key))


async def record_arrival(index: Index, flight: Flight) -> None:
    """What a committed flight means for the index: the bytes are here, and all its images have a right to them."""
    links = [Link(flight.source, image, flight.digest) for image in flight.images if flight.allows(image)]
    await index.record(BlobInfo(flight.digest, flight.written), *links)


class ProxiedRepository:
    """One image of one upstream, seen with one credential. Raises only RegistryError."""

    def __init__(self, shared: PullThrough, client: Client, image: RepositoryName, group: Hashable = None) -> None:
        """`group`: on whose behalf it waits where an upstream's limit is used up; groups take turns."""
        self._group = group
        self._all = shared
        self._client = client
        self._source = client.source
        self._image = image

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        if isinstance(reference, Digest):
            return await self._manifest_by_digest(reference)
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            if freshness(pointer, self._all.clock(), self._all.rules.ttl) is Freshness.FRESH:
                return FoundManifest(held, Answer(Outcome.HIT))
            return await self._revalidated(pointer, held)
        return await self._fetched_manifest(reference)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """A HEAD downloads nothing that is not here, but what it learns of a tag is kept."""
        if isinstance(reference, Digest):
            return await self._stat_digest(reference)
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        if pointer and freshness(pointer, self._all.clock(), self._all.rules.ttl) is Freshness.FRESH:
            return FoundTarget(pointer.target, Answer(Outcome.HIT))
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            found = await self._revalidated(pointer, held)
            return FoundTarget(found.manifest.descriptor, found.answer)
        work = self._in_turn(Ask.CHECK, lambda: self._head_tag(reference))
        target, first = await self._ask(("head", reference), work, ManifestUnknown)
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def blob(self, digest: Digest) -> FoundBlob:
        """Open when this returns, though its bytes may still be arriving."""
        for anew in (False, True):
            if found := await self._held_blob(digest):
                return found
            with suppress(Arrived):
                try:
                    follower, first = await self._within(self._follow(digest, anew=anew), BlobUnknown)
                except Unstorable:
                    return FoundBlob(await self._private_blob(digest), Answer(Outcome.MISS))
                arriving = _Arriving(follower, self._fetch(digest))
                return FoundBlob(arriving, Answer(Outcome.MISS if first else Outcome.COALESCED))
        raise UpstreamUnavailable("this blob came and went", RETRY_AFTER)

    async def _held_blob(self, digest: Digest) -> FoundBlob | None:
        link = Link(self._source, self._image, digest)
        if await self._all.index.linked(link) and (stored := await self._all.held.open(digest)):
            self._all.usage.touch(digest, self._all.clock())
            return FoundBlob(stored, Answer(Outcome.HIT))
        if await self._bytes_of_own_origin(digest):
            await self._ask(("link", digest), lambda: self._link_by_head(link), BlobUnknown)
            if stored := await self._all.held.open(digest):
                self._all.usage.touch(digest, self._all.clock())
                return FoundBlob(stored, Answer(Outcome.REVALIDATED))
        return None

    async def _private_blob(self, digest: Digest) -> OpenBlob:
        """For who must do without a file from the first byte on."""
        try:
            blob = PrivateBlob(digest, self._fetch(digest))
        except RuntimeError as error:  # no more threads
            raise UpstreamUnavailable("this blob can be neither stored nor passed on now", RETRY_AFTER) from error
        try:
            await self._within(self._noting(blob.started()), BlobUnknown)
        except BaseException:
            blob.close()
            raise
        self._all.usage.touch(digest, self._all.clock())
        return _Arriving(blob, self._fetch(digest))

    async def stat_blob(self, digest: Digest) -> FoundSize:
        """A HEAD never starts a download."""
        link = Link(self._source, self._image, digest)
        info = await self._all.held.stat(digest)
        if info and await self._all.index.linked(link):
            return FoundSize(info.size, Answer(Outcome.HIT))
        if info and await self._bytes_of_own_origin(digest):
            await self._ask(("link", digest), lambda: self._link_by_head(link), BlobUnknown)
            return FoundSize(info.size, Answer(Outcome.REVALIDATED))
        flight = self._all.flights.find(self._source, digest)
        if flight and flight.verified and flight.allows(self._image):
            return FoundSize(flight.written, Answer(Outcome.COALESCED))
        size = await self._within(self._noting(self._client.head_blob(self._image, digest)), BlobUnknown)
        return FoundSize(size, Answer(Outcome.MISS))

    async def tags(self, count: int | None, last: str | None) -> TagPage:
        return await self._within(self._client.tags(self._image, count, last), NameUnknown)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> ReferrersPage:
        return await self._within(self._client.referrers(self._image, digest, artifact_type), NameUnknown)

    async def _held_manifest(self, digest: Digest) -> Manifest | None:
        if not await self._all.index.linked(Link(self._source, self._image, digest)):
            return None
        held = await self._all.index.find_manifest(digest)
        if held is not None:
            self._all.usage.touch(digest, self._all.clock())
        return held

    async def _manifest_by_digest(self, digest: Digest) -> FoundManifest:
        if held := await self._held_manifest(digest):
            return FoundManifest(held, Answer(Outcome.HIT))
        if await self._manifest_of_own_origin(digest):
            await self._stat_digest(digest)
            if held := await self._held_manifest(digest):
                return FoundManifest(held, Answer(Outcome.REVALIDATED))
        return await self._fetched_manifest(digest)

    async def _stat_digest(self, digest: Digest) -> FoundTarget:
        if held := await self._held_manifest(digest):
            return FoundTarget(held.descriptor, Answer(Outcome.HIT))
        here = await self._manifest_of_own_origin(digest)
        target, first = await self._ask(("head", digest), lambda: self._head_digest(digest), ManifestUnknown)
        if here:
            await self._write_down(Link(self._source, self._image, digest))
            return FoundTarget(here.descriptor, Answer(Outcome.REVALIDATED))
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _fetched_manifest(self, reference: Tag | Digest) -> FoundManifest:
        work = self._in_turn(Ask.PULL, lambda: self._get(reference))
        manifest, first = await self._ask(("get", reference), work, ManifestUnknown)
        return FoundManifest(manifest, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _revalidated(self, pointer: TagPointer, held: Manifest) -> FoundManifest:
        """What the upstream says of a tag that we hold, or what we hold where it cannot say anything in time."""
        rules = self._all.rules
        now = self._all.clock()
        usable = may_be_stale(pointer, now, rules.ttl, rules.grace)
        if usable and self._saves() is not Thrift.NONE and now - pointer.checked_at < rules.ttl * THRIFTY:
            return FoundManifest(held, Answer(Outcome.HIT))
        task, first = self._share(("revalidate", pointer.tag), lambda: self._revalidate(pointer, usable))
        in_vain = task in self._all.late or self._client.fails(self._image)
        patience = LATE_WITHIN if in_vain else REVALIDATE_WITHIN
        await asyncio.wait({task}, timeout=patience if usable else ANSWER_WITHIN)
        if not task.done():
            self._all.late.add(task)
        result = task.result() if task.done() else Unavailable(f"{self._client.host} did not answer in time")
        match result:
            case None:
                return FoundManifest(held, Answer(Outcome.REVALIDATED))
            case Manifest():
                return FoundManifest(result, Answer(Outcome.MISS if first else Outcome.COALESCED))
            case Outage() if usable:
                age = now - pointer.checked_at
                return FoundManifest(held, Answer(Outcome.STALE, age, f"{result.reason}; {_as_of(age)}"))
            case _:
                raise _refusal(result, ManifestUnknown)

    async def _follow(self, digest: Digest, *, anew: bool) -> tuple[Follower, bool]:
        """Joins the running download or begins one; returns when the upstream has answered. Raises Arrived where the
        bytes have come here in the meantime and `anew` is not said."""
        proved = False
        while True:
            flight = self._all.flights.find(self._source, digest)
            if not flight:
                await self._in_turn(Ask.CONTENT, _nothing)()
                flight = self._all.flights.find(self._source, digest)  # somebody else may have had his turn first
            if flight and self._image not in flight.images and not proved:
                await self._noting(self._client.head_blob(self._image, digest))
                proved = True
                continue
            flight, first = self._all.flights.join(self._source, self._image, digest, self._fetch(digest), anew=anew)
            follower = flight.follow()
            try:
                await follower.started()
                await self._win_right(flight, digest)
            except (NotFound, Denied) as error:
                follower.close()
                if flight.image == self._image or flight.error is None:
                    await self._note_refusal(error)
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
            task, _ = self._share(("link", digest), lambda: self._link_by_head(link))
            if isinstance(error := await asyncio.shield(task), UpstreamError):
                raise error.again()
            flight.admit(self._image)

    def _fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self._client.open_blob(self._image, digest, part)

    def _saves(self) -> Thrift:
        """How questions about tags save, where the upstream's limit counts them."""
        quota = self._client.quota
        return Thrift.NONE if quota.free_checks else quota.thrift()

    def _in_turn(self, ask: Ask, work: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """The same work, begun when the upstream may be asked, or at once where that is not to be hoped for: then the
        client says why not."""

        async def begin() -> T:
            turns = self._all.turns.get(self._source)
            if turns is None:
                turns = self._all.turns[self._source] = Turns(lambda: self._client.pause(Ask.PULL))
            if self._client.pause(ask) or (len(turns) and ask is Ask.PULL):
                await turns.wait(self._group)
            return await work()

        return begin

    # What follows runs in tasks that are shared by requests.

    async def _get(self, reference: Tag | Digest) -> Manifest:
        manifest = await self._client.get_manifest(self._image, reference)
        await self._record(manifest, reference)
        return manifest

    async def _record(self, manifest: Manifest, reference: Tag | Digest) -> None:
        facts: list[Fact] = [manifest, Link(self._source, self._image, manifest.descriptor.digest)]
        if isinstance(reference, Tag):
            facts.append(self._pointer(reference, manifest.descriptor))
        await self._write_down(*facts)

    async def _write_down(self, *facts: Fact) -> None:
        """What cannot be written down is asked for again some day; no answer depends on it."""
        try:
            await self._all.index.record(*facts)
        except DatabaseUnusable as error:
            if seldom("index"):
                log.error("index_not_written", reason=str(error))

    def _pointer(self, tag: Tag, target: Descriptor) -> TagPointer:
        return TagPointer(self._source, self._image, tag, target, self._all.clock())

    async def _revalidate(self, pointer: TagPointer, usable: bool) -> Manifest | None:
        """None when the tag still points to what we hold. While next to nothing is left of a limit, it is left to
        images that are not here."""
        if self._saves() is Thrift.SCARCE:
            raise self._client.quota.saving()
        # What may be served as it is needs no mirror, which may be behind.
        asked = self._client.primary if usable else self._client
        target = await asked.head_manifest(self._image, pointer.tag)
        if target and target.digest == pointer.target.digest:
            await self._write_down(replace(pointer, checked_at=self._all.clock()))
            return None
        if self._client.quota.thrift() is Thrift.SCARCE:
            raise self._client.quota.saving()
        if target:
            manifest = await self._client.get_manifest(self._image, target.digest)
        else:
            manifest = await asked.get_manifest(self._image, pointer.tag)
        await self._record(manifest, pointer.tag)
        return manifest

    async def _head_tag(self, tag: Tag) -> Descriptor:
        target = await self._client.head_manifest(self._image, tag)
        if target is None:
            return (await self._get(tag)).descriptor
        await self._write_down(self._pointer(tag, target))
        return target

    async def _head_digest(self, digest: Digest) -> Descriptor:
        target = await self._client.head_manifest(self._image, digest)
        if target is None or target.digest != digest:
            return (await self._get(digest)).descriptor
        return target

    async def _link_by_head(self, link: Link) -> None:
        await self._client.head_blob(self._image, link.digest)
        await self._write_down(link)

    async def _bytes_of_own_origin(self, digest: Digest) -> bool:
        """Whether one question upstream is enough for a link: bytes that came from elsewhere prove nothing here."""
        if not await self._all.index.known_at(self._source.origin, digest):
            return False
        return await self._all.held.stat(digest) is not None

    async def _manifest_of_own_origin(self, digest: Digest) -> Manifest | None:
        known = await self._all.index.known_at(self._source.origin, digest)
        return await self._all.index.find_manifest(digest) if known else None

    async def _note_refusal(self, error: UpstreamError, tag: Tag | None = None) -> None:
        """A refusal of a fresh token takes the rights away that the credential had; a tag that is gone is forgotten."""
        if isinstance(error, Denied) and self._client.has_credential:
            await self._all.index.forget(self._source, self._image)
        elif tag is not None:
            await self._all.index.forget(self._source, self._image, tag)

    def _share(
        self, what: tuple[str, Tag | Digest], work: Callable[[], Awaitable[T]]
    ) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        tag = what[1] if isinstance(what[1], Tag) else None
        return self._all.share(
            (self._source, self._image, *what), lambda: self._telling(what[1], self._noting(work(), tag))
        )

    async def _telling(self, reference: Tag | Digest, work: Awaitable[T]) -> T:
        try:
            return await work
        except UpstreamError as error:
            self._all.failed(self._source, self._image, reference, error)
            raise

    async def _noting(self, work: Awaitable[T], tag: Tag | None = None) -> T:
        try:
            return await work
        except (NotFound, Denied) as error:
            await self._note_refusal(error, tag)
            raise
        except Corrupt as error:
            self._all.refused(self._source, error)
            raise

    async def _ask(
        self, what: tuple[str, Tag | Digest], work: Callable[[], Awaitable[T]], unknown: type[RegistryError]
    ) -> tuple[T, bool]:
        task, first = self._share(what, work)
        result = await self._within(asyncio.shield(task), unknown)
        if isinstance(result, UpstreamError):
            raise _refusal(result, unknown)
        return result, first

    async def _within(self, work: Awaitable[T], unknown: type[RegistryError]) -> T:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await work
        except TimeoutError as error:
            late = Unavailable(f"{self._client.host} did not answer within {ANSWER_WITHIN:.0f} s")
            raise _refusal(late, unknown) from error
        except (Arrived, Unstorable):
            raise
        except UpstreamError as error:
            raise _refusal(error, unknown) from error


class _Arriving:
    """What arrives, its failures in the language of the registry. Where it cannot be stored any more, it goes on as a
    stream of its reader's own."""

    def __init__(self, blob: Follower | PrivateBlob, fetch: Fetch) -> None:
        self._blob = blob
        self._fetch = fetch
        self._left: Follower | None = None
        self.digest = blob.digest

    @property
    def size(self) -> int | None:
        return self._blob.size

    def fileno(self) -> int:
        return self._blob.fileno()

    async def verified(self) -> None:
        try:
            try:
                await self._blob.verified()
            except Unstorable:
                await self._go_alone(0).verified()
        except UpstreamError as error:
            raise _refusal(error, BlobUnknown) from error

    async def ready(self, start: int, stop: int | None) -> AsyncIterator[Extent]:
        offset = start
        try:
            try:
                async for extent in self._blob.ready(start, stop):
                    yield extent
                    offset = extent.stop
            except Unstorable:
                async for extent in self._go_alone(offset).ready(offset, stop):
                    yield extent
        except UpstreamError as error:
            raise _refusal(error, BlobUnknown) from error

    def _go_alone(self, sent: int) -> PrivateBlob:
        if isinstance(self._blob, PrivateBlob):
            raise Unavailable("the blob cannot be stored here")
        follower = self._left = self._blob
        try:
            beginning = follower.beginning(sent)
            self._blob = PrivateBlob(self.digest, self._fetch, follower.size, beginning)
        except (OSError, RuntimeError) as error:  # out of descriptors or threads
            raise Unavailable(f"the blob cannot be fetched now ({error})") from error
        return self._blob

    async def read(self, extent: Extent) -> bytes:
        return await self._blob.read(extent)

    def close(self) -> None:
        self._blob.close()
        if self._left is not None:
            self._left.close()


async def _nothing() -> None:
    """What there is to do before a download but to wait for its turn."""


def _as_of(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"served as it was {seconds // size} {unit} ago"
    return f"served as it was {seconds} s ago"


async def _settled(work: Callable[[], Awaitable[T]]) -> T | UpstreamError:
    try:
        return await work()
    except UpstreamError as error:
        return error


def _refusal(error: UpstreamError, unknown: type[RegistryError]) -> RegistryError:
    """The one place where an upstream's failure becomes ours."""
    match error:
        case NotFound() | Denied():
            return unknown("the upstream registry has no such image, or does not show it to this gateway")
        case RateLimited():
            seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
            return UpstreamUnavailable(error.reason, max(1, min(seconds, RETRY_AFTER_LIMIT)))
        case Corrupt():
            return UpstreamInvalid(error.reason)
        case Unavailable() if error.retry_after is not None:
            return UpstreamUnavailable(error.reason, max(1, min(error.retry_after, RETRY_AFTER_LIMIT)))
        case _:
            return UpstreamUnavailable(error.reason, RETRY_AFTER)
