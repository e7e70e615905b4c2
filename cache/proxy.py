"""ProxiedRepository: the use cases of pulling through. The cache is asked before the network, always.

Bytes are shared by all; the right to them is not. An image has the right to a digest when there is a link, and a link
is won by asking the upstream with the credential of the image's own source.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from cache.absences import Absences
from cache.fill import Fetch
from cache.flight import Flight, Flights, Follower
from cache.freshness import (
    Freshness,
    TagRule,
    TagRules,
    fresh_only_refusal,
    freshness,
    may_be_stale,
    stale_warning,
)
from cache.index.base import Fact, Index, Usage
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import (
    BlobUnknown,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamUnavailable,
)
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.outages import Outages
from cache.prefetch import Prefetching
from cache.refusals import RETRY_AFTER, Arriving, refusal
from cache.store.base import BlobStore, OpenBlob
from cache.tasks import Shared, Tasks
from cache.upstream.client import ReferrersPage, TagPage, UpstreamClient
from cache.upstream.errors import Corrupt, Denied, NotFound, Outage, Unavailable, UpstreamError
from cache.values import BlobInfo, Link, Outcome, Source, TagPointer

T = TypeVar("T")

ANSWER_WITHIN = 20.0
"""Seconds from a request to its headers; clients give up at 30 (containerd 2.3)."""

REVALIDATE_WITHIN = 2.0
LATE_WITHIN = 0.25
"""Instead of that, as long as the upstream left the last question unanswered."""


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
class Refreshed:
    """What a tag pointed to here before, if anything, and what it points to."""

    before: Digest | None
    manifest: Manifest


class PullThrough:
    """What all proxied repositories of a process share."""

    def __init__(
        self,
        index: Index,
        usage: Usage,
        store: BlobStore,
        flights: Flights,
        tasks: Tasks,
        rules: TagRules,
        clock: Callable[[], datetime],
        refused: Callable[[Source, Corrupt], None] = lambda source, error: None,
        prefetching: Prefetching | None = None,
    ) -> None:
        """`refused` is told of each document that an upstream gave and that must not be passed on. Without
        `prefetching` nothing is fetched that nobody asked for."""
        self.index = index
        self.usage = usage
        self.store = store
        self.flights = flights
        self.rules = rules
        self.clock = clock
        self.refused = refused
        self.prefetching = prefetching
        self.absences = Absences(rules.negative_ttl)
        self.outages = Outages()
        self._shared: Shared[Hashable, Any] = Shared(tasks)

    def share(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> tuple[asyncio.Task[T | UpstreamError], bool]:
        """One task for all who want the same of an upstream; its errors are values."""
        return self._shared.join(key, lambda: _settled(work), str(key))


async def record_arrival(index: Index, flight: Flight) -> None:
    """What a committed flight means for the index: the bytes are here, and all its images have a right to them."""
    links = [Link(flight.source, image, flight.digest) for image in flight.images]
    await index.record(BlobInfo(flight.digest, flight.written), *links)


class ProxiedRepository:
    """One image of one upstream, seen with one credential. Raises only RegistryError."""

    def __init__(
        self, shared: PullThrough, client: UpstreamClient, image: RepositoryName, *, fresh_only: bool = False
    ) -> None:
        """`fresh_only`: a tag that the upstream cannot confirm is refused, not served stale."""
        self._all = shared
        self._client = client
        self._fresh_only = fresh_only
        self._source = client.source
        self._image = image

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        if isinstance(reference, Digest):
            return await self._manifest_by_digest(reference)
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            if self._is_fresh(pointer):
                return FoundManifest(held, Answer(Outcome.HIT))
            return await self._revalidated(pointer, held)
        return await self._fetched_manifest(reference)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """A HEAD downloads nothing that is not here, but what it learns of a tag is kept."""
        if isinstance(reference, Digest):
            return await self._stat_digest(reference)
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        if pointer and self._is_fresh(pointer):
            return FoundTarget(pointer.target, Answer(Outcome.HIT))
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            found = await self._revalidated(pointer, held)
            return FoundTarget(found.manifest.descriptor, found.answer)
        target, first = await self._ask(("head", reference), lambda: self._head_tag(reference), ManifestUnknown)
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def refresh(self, tag: Tag) -> Refreshed:
        """Asks the upstream now, whatever is fresh here."""
        self._all.absences.forget(self._key(tag))
        pointer = await self._all.index.find_pointer(self._source, self._image, tag)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer is None or held is None:
            manifest, _ = await self._ask(("get", tag), lambda: self._get(tag), ManifestUnknown)
        else:
            moved, _ = await self._ask(("revalidate", tag), lambda: self._revalidate(pointer), ManifestUnknown)
            manifest = moved or held
        return Refreshed(pointer.target.digest if pointer else None, manifest)

    async def blob(self, digest: Digest) -> FoundBlob:
        """Open when this returns, though its bytes may still be arriving."""
        link = Link(self._source, self._image, digest)
        if await self._all.index.linked(link) and (stored := self._all.store.open(digest)):
            self._all.usage.touch(digest, self._all.clock())
            return FoundBlob(stored, Answer(Outcome.HIT))
        if await self._bytes_of_own_origin(digest):
            await self._ask(("link", digest), lambda: self._link_by_head(link), BlobUnknown)
            if stored := self._all.store.open(digest):
                self._all.usage.touch(digest, self._all.clock())
                return FoundBlob(stored, Answer(Outcome.REVALIDATED))
        follower, first = await self._within(self._follow(digest), BlobUnknown)
        if self._all.prefetching is not None:
            first = self._all.prefetching.claim(self._source, digest) or first
        return FoundBlob(Arriving(follower), Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def stat_blob(self, digest: Digest) -> FoundSize:
        """A HEAD never starts a download."""
        link = Link(self._source, self._image, digest)
        info = self._all.store.stat(digest)
        if info and await self._all.index.linked(link):
            return FoundSize(info.size, Answer(Outcome.HIT))
        if info and await self._bytes_of_own_origin(digest):
            await self._ask(("link", digest), lambda: self._link_by_head(link), BlobUnknown)
            return FoundSize(info.size, Answer(Outcome.REVALIDATED))
        flight = self._all.flights.find(self._source, digest)
        if flight and flight.verified and self._image in flight.images:
            return FoundSize(flight.written, Answer(Outcome.COALESCED))
        size = await self._within(self._noting(self._client.head_blob(self._image, digest)), BlobUnknown)
        return FoundSize(size, Answer(Outcome.MISS))

    def prefetch(self, found: FoundManifest) -> None:
        """To be called with what a client was given: if it is new here, what it refers to is asked for next."""
        if self._all.prefetching is not None and found.answer.outcome is Outcome.MISS:
            self._all.prefetching.begin(self._source, found.manifest, self._bring)

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
            await self._all.index.record(Link(self._source, self._image, digest))
            return FoundTarget(here.descriptor, Answer(Outcome.REVALIDATED))
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _fetched_manifest(self, reference: Tag | Digest) -> FoundManifest:
        manifest, first = await self._ask(("get", reference), lambda: self._get(reference), ManifestUnknown)
        return FoundManifest(manifest, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _revalidated(self, pointer: TagPointer, held: Manifest) -> FoundManifest:
        """What the upstream says of a tag that we hold, or what we hold where it cannot say anything in time."""
        now, rule = self._all.clock(), self._rule(pointer)
        fresh_only = self._fresh_only or rule.fresh_only
        usable = may_be_stale(pointer, now, rule.ttl, self._all.rules.grace) and not fresh_only
        task, first = self._share(("revalidate", pointer.tag), lambda: self._revalidate(pointer))
        await asyncio.wait({task}, timeout=self._patience() if usable else ANSWER_WITHIN)
        if task.done():
            result = task.result()
        else:
            result = Unavailable(f"{self._client.host} did not answer in time")
            self._all.outages.note(self._source, now, late=True)
        match result:
            case None:
                return FoundManifest(held, Answer(Outcome.REVALIDATED))
            case Manifest():
                return FoundManifest(result, Answer(Outcome.MISS if first else Outcome.COALESCED))
            case Outage() if usable:
                outage = self._all.outages.find(self._source)
                warning = stale_warning(pointer, result.reason, outage.since if outage else None, self._all.clock())
                return FoundManifest(held, Answer(Outcome.STALE, self._all.clock() - pointer.checked_at, warning))
            case Outage() if fresh_only:
                raise self._not_fresh(pointer, result)
            case _:
                raise self._unknown_manifest(result, pointer.tag)

    def _rule(self, pointer: TagPointer) -> TagRule:
        return self._all.rules.rule(self._source, self._image, pointer.tag)

    def _is_fresh(self, pointer: TagPointer) -> bool:
        return freshness(pointer, self._all.clock(), self._rule(pointer).ttl) is Freshness.FRESH

    def _patience(self) -> float:
        """Seconds to wait for a word on what could be served stale."""
        outage = self._all.outages.find(self._source)
        return LATE_WITHIN if outage and outage.late else REVALIDATE_WITHIN

    def _not_fresh(self, pointer: TagPointer, outage: Outage) -> RegistryError:
        """Not stale, not wrong: what is here is good, but somebody wants to hear it from the upstream."""
        retry = int(refusal(outage, ManifestUnknown).headers.get("Retry-After", RETRY_AFTER))
        return UpstreamUnavailable(fresh_only_refusal(pointer, outage.reason), retry)

    def _key(self, reference: Tag | Digest) -> Hashable:
        return (self._source, self._image, reference)

    def _unknown_manifest(self, error: UpstreamError, reference: Tag | Digest) -> RegistryError:
        """What the registry itself says that there is not is remembered for a moment."""
        if isinstance(error, NotFound | Denied):
            self._all.absences.note(self._key(reference), self._all.clock())
        return refusal(error, ManifestUnknown)

    async def _bring(self, digest: Digest) -> Follower | None:
        """None for what is here, or here for others, and needs no more than a question, once somebody wants it."""
        if self._all.store.stat(digest) is not None and (
            await self._all.index.linked(Link(self._source, self._image, digest))
            or await self._bytes_of_own_origin(digest)
        ):
            return None
        return (await self._within(self._follow(digest), BlobUnknown))[0]

    async def _follow(self, digest: Digest) -> tuple[Follower, bool]:
        """Joins the running download or begins one; returns when the upstream has answered."""
        proved = False
        while True:
            flight = self._all.flights.find(self._source, digest)
            if flight and self._image not in flight.images and not proved:
                await self._noting(self._client.head_blob(self._image, digest))
                proved = True
                continue
            flight, first = self._all.flights.join(self._source, self._image, digest, self._fetch(digest))
            follower = flight.follow()
            try:
                await follower.started()
            except (NotFound, Denied) as error:
                follower.close()
                if flight.image == self._image:
                    await self._note_refusal(error)
                    raise
            except BaseException:
                follower.close()
                raise
            else:
                self._all.usage.touch(digest, self._all.clock())
                return follower, first

    def _fetch(self, digest: Digest) -> Fetch:
        return lambda part=None: self._client.open_blob(self._image, digest, part)

    # What follows runs in tasks that are shared by requests.

    async def _get(self, reference: Tag | Digest) -> Manifest:
        manifest = await self._client.get_manifest(self._image, reference)
        await self._record(manifest, reference)
        return manifest

    async def _record(self, manifest: Manifest, reference: Tag | Digest) -> None:
        facts: list[Fact] = [manifest, Link(self._source, self._image, manifest.descriptor.digest)]
        if isinstance(reference, Tag):
            facts.append(self._pointer(reference, manifest.descriptor))
        await self._all.index.record(*facts)
        self._all.absences.forget(self._key(reference))

    def _pointer(self, tag: Tag, target: Descriptor) -> TagPointer:
        return TagPointer(self._source, self._image, tag, target, self._all.clock())

    async def _revalidate(self, pointer: TagPointer) -> Manifest | None:
        """None when the tag still points to what we hold."""
        target = await self._client.head_manifest(self._image, pointer.tag)
        if target and target.digest == pointer.target.digest:
            await self._all.index.record(replace(pointer, checked_at=self._all.clock()))
            return None
        manifest = await self._client.get_manifest(self._image, target.digest if target else pointer.tag)
        await self._record(manifest, pointer.tag)
        return manifest

    async def _head_tag(self, tag: Tag) -> Descriptor:
        target = await self._client.head_manifest(self._image, tag)
        if target is None:
            return (await self._get(tag)).descriptor
        await self._all.index.record(self._pointer(tag, target))
        return target

    async def _head_digest(self, digest: Digest) -> Descriptor:
        target = await self._client.head_manifest(self._image, digest)
        if target is None or target.digest != digest:
            return (await self._get(digest)).descriptor
        return target

    async def _link_by_head(self, link: Link) -> None:
        await self._client.head_blob(self._image, link.digest)
        await self._all.index.record(link)

    async def _bytes_of_own_origin(self, digest: Digest) -> bool:
        """Whether one question upstream is enough for a link: bytes that came from elsewhere prove nothing here."""
        return self._all.store.stat(digest) is not None and await self._all.index.known_at(self._source.origin, digest)

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
        return self._all.share((self._source, self._image, *what), lambda: self._noting(work(), tag))

    async def _noting(self, work: Awaitable[T], tag: Tag | None = None) -> T:
        try:
            result = await work
        except (NotFound, Denied) as error:
            self._all.outages.end(self._source)
            await self._note_refusal(error, tag)
            raise
        except Outage as error:
            self._all.outages.note(self._source, self._all.clock())
            if isinstance(error, Corrupt):
                self._all.refused(self._source, error)
            raise
        self._all.outages.end(self._source)
        return result

    async def _ask(
        self, what: tuple[str, Tag | Digest], work: Callable[[], Awaitable[T]], unknown: type[RegistryError]
    ) -> tuple[T, bool]:
        manifest = unknown is ManifestUnknown
        if manifest and self._all.absences.holds(self._key(what[1]), self._all.clock()):
            raise refusal(NotFound(f"{self._client.host} said so a moment ago"), unknown)
        task, first = self._share(what, work)
        result = await self._within(asyncio.shield(task), unknown)
        if isinstance(result, UpstreamError):
            raise self._unknown_manifest(result, what[1]) if manifest else refusal(result, unknown)
        return result, first

    async def _within(self, work: Awaitable[T], unknown: type[RegistryError]) -> T:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await work
        except TimeoutError as error:
            late = Unavailable(f"{self._client.host} did not answer within {ANSWER_WITHIN:.0f} s")
            raise refusal(late, unknown) from error
        except UpstreamError as error:
            raise refusal(error, unknown) from error


async def _settled(work: Callable[[], Awaitable[T]]) -> T | UpstreamError:
    try:
        return await work()
    except UpstreamError as error:
        return error
