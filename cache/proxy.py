"""ProxiedRepository: the use cases of pulling through. The cache is asked before the network, always.

Bytes are shared by all; the right to them is not. An image has the right to a digest when there is a link, and a link
is won by asking the upstream with the credential of the image's own source.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TypeVar

import structlog

from cache.arrival.failures import Arrived, Unstorable
from cache.arrival.fill import Fetch
from cache.arrival.flight import Flight, Follower
from cache.arrival.private import PrivateBlob
from cache.found import Answer, FoundBlob, FoundManifest, FoundSize, FoundTarget, Refreshed
from cache.freshness import (
    Freshness,
    TagRule,
    fresh_only_refusal,
    freshness,
    may_be_stale,
    stale_warning,
)
from cache.index.base import Fact
from cache.index.sqlite import DatabaseUnusable
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
from cache.pull_through import PullThrough
from cache.refusals import RETRY_AFTER, Arriving, refusal
from cache.seldom import Seldom
from cache.store.base import OpenBlob
from cache.turns import Turns
from cache.upstream.client import ReferrersPage, TagPage
from cache.upstream.errors import Corrupt, Denied, NotFound, Outage, Unavailable, UpstreamError
from cache.upstream.mirrored import Client
from cache.upstream.quota import Ask, Thrift
from cache.values import Link, Outcome, TagPointer

T = TypeVar("T")
log = structlog.get_logger()
seldom = Seldom()

ANSWER_WITHIN = 20.0
"""Seconds from a request to its headers; clients give up at 30 (containerd 2.3)."""

REVALIDATE_WITHIN = 2.0
LATE_WITHIN = 0.25
"""Instead of that, as long as the upstream left the last question unanswered, or fails."""

THRIFTY = 10
"""How many times its ttl a tag is fresh while little is left of a limit that questions about tags count for, too."""


class ProxiedRepository:
    """One image of one upstream, seen with one credential. Raises only RegistryError."""

    def __init__(
        self,
        shared: PullThrough,
        client: Client,
        image: RepositoryName,
        group: Hashable = None,
        *,
        fresh_only: bool = False,
    ) -> None:
        """`group`: on whose behalf it waits where an upstream's limit is used up; groups take turns. `fresh_only`: a
        tag that the upstream cannot confirm is refused, not served stale."""
        self._group = group
        self._all = shared
        self._client = client
        self._fresh_only = fresh_only
        self._source = client.source
        self._image = image

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        key, mark, now = (self._source, self._image, reference), self._all.index.mark(), self._all.clock()
        if hit := self._all.hits.find(key, mark, now):
            self._all.usage.touch(hit.manifest.descriptor.digest, now)
            return hit
        if isinstance(reference, Digest):
            return self._all.hits.note(key, mark, None, await self._by_digest(reference))
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            if self._is_fresh(pointer):
                found = FoundManifest(held, Answer(Outcome.HIT))
                return self._all.hits.note(key, mark, pointer.checked_at + self._rule(pointer).ttl, found)
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
        work = self._in_turn(Ask.CHECK, lambda: self._head_tag(reference))
        target, first = await self._ask(("head", reference), work, ManifestUnknown)
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def refresh(self, tag: Tag) -> Refreshed:
        """Asks the upstream now, whatever is fresh here."""
        self._all.absences.forget(self._key(tag))
        pointer = await self._all.index.find_pointer(self._source, self._image, tag)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer is None or held is None:
            manifest, _ = await self._ask(("get", tag), lambda: self._get(tag), ManifestUnknown)
        else:
            moved, _ = await self._ask(("revalidate", tag), partial(self._revalidate, pointer, False), ManifestUnknown)
            manifest = moved or held
        return Refreshed(pointer.target.digest if pointer else None, manifest)

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
                if self._all.prefetching is not None:
                    first = self._all.prefetching.claim(self._source, digest) or first
                arriving = Arriving(follower, self._fetch(digest))
                return FoundBlob(arriving, Answer(Outcome.MISS if first else Outcome.COALESCED))
        raise UpstreamUnavailable("this blob came and went", RETRY_AFTER)

    async def _held_blob(self, digest: Digest) -> FoundBlob | None:
        link = Link(self._source, self._image, digest)
        if await self._all.index.linked(link) and (stored := await self._all.held.open(digest)):
            self._all.usage.touch(digest, self._all.clock())
            return FoundBlob(stored, Answer(Outcome.HIT))
        if await self._won(link) and (stored := await self._all.held.open(digest)):
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
        return Arriving(blob, self._fetch(digest))

    async def stat_blob(self, digest: Digest) -> FoundSize:
        """A HEAD never starts a download."""
        link = Link(self._source, self._image, digest)
        info = await self._all.held.stat(digest)
        if info and await self._all.index.linked(link):
            return FoundSize(info.size, Answer(Outcome.HIT))
        if info and await self._won(link):
            return FoundSize(info.size, Answer(Outcome.REVALIDATED))
        flight = self._all.flights.find(self._source, digest)
        if flight and flight.verified and flight.allows(self._image):
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

    async def _by_digest(self, digest: Digest) -> FoundManifest:
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
        if here:
            own = partial(self._head_digest, digest, self._client.primary)
            if await self._shown(("own head", digest), own, ManifestUnknown):
                await self._write_down(Link(self._source, self._image, digest))
                return FoundTarget(here.descriptor, Answer(Outcome.REVALIDATED))
        head = partial(self._head_digest, digest, self._client)
        target, first = await self._ask(("head", digest), head, ManifestUnknown)
        return FoundTarget(target, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _fetched_manifest(self, reference: Tag | Digest) -> FoundManifest:
        work = self._in_turn(Ask.PULL, lambda: self._get(reference))
        manifest, first = await self._ask(("get", reference), work, ManifestUnknown)
        return FoundManifest(manifest, Answer(Outcome.MISS if first else Outcome.COALESCED))

    async def _revalidated(self, pointer: TagPointer, held: Manifest) -> FoundManifest:
        """What the upstream says of a tag that we hold, or what we hold where it cannot say anything in time."""
        rules, rule, now = self._all.rules, self._rule(pointer), self._all.clock()
        fresh_only = self._fresh_only or rule.fresh_only
        usable = may_be_stale(pointer, now, rule.ttl, rules.grace) and not fresh_only
        if usable and self._saves() is not Thrift.NONE and now - pointer.checked_at < rule.ttl * THRIFTY:
            return FoundManifest(held, Answer(Outcome.HIT))
        task, first = self._share(("revalidate", pointer.tag), lambda: self._revalidate(pointer, usable))
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
        in_vain = (outage and outage.late) or self._client.fails(self._image)
        return LATE_WITHIN if in_vain else REVALIDATE_WITHIN

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
        linked = await self._all.index.linked(Link(self._source, self._image, digest))
        if (linked and await self._all.held.stat(digest)) or await self._bytes_of_own_origin(digest):
            return None
        with suppress(Arrived, Unstorable):
            return (await self._within(self._follow(digest, anew=False), BlobUnknown))[0]
        return None

    async def _follow(self, digest: Digest, *, anew: bool) -> tuple[Follower, bool]:
        """Joins the running download or begins one; returns when the upstream has answered. Raises Arrived where the
        bytes have come here in the meantime and `anew` is not said."""
        proved = False
        while True:
            flight = self._all.flights.find(self._source, digest, anew=anew)
            if not flight:
                await self._in_turn(Ask.CONTENT, _nothing)()
                # Somebody else may have had his turn first.
                flight = self._all.flights.find(self._source, digest, anew=anew)
            if flight and self._image not in flight.images and not proved:
                await self._noting(self._client.primary.head_blob(self._image, digest))
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
            task, _ = self._share(("link", digest), partial(self._link_by_head, link))
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
        asked_at = self._all.clock()
        manifest = await self._client.get_manifest(self._image, reference)
        await self._record(manifest, reference, asked_at)
        return manifest

    async def _record(self, manifest: Manifest, reference: Tag | Digest, asked_at: datetime) -> None:
        facts: list[Fact] = [manifest, Link(self._source, self._image, manifest.descriptor.digest)]
        if isinstance(reference, Tag):
            facts.append(self._pointer(reference, manifest.descriptor, asked_at))
        await self._write_down(*facts)
        self._all.absences.forget(self._key(reference))

    async def _write_down(self, *facts: Fact) -> None:
        """What cannot be written down is asked for again some day; no answer depends on it."""
        try:
            await self._all.index.record(*facts)
        except DatabaseUnusable as error:
            if seldom("index"):
                log.error("index_not_written", reason=str(error))

    def _pointer(self, tag: Tag, target: Descriptor, asked_at: datetime) -> TagPointer:
        """As the upstream said to a question of then: a slow answer must not take the place of a later one."""
        return TagPointer(self._source, self._image, tag, target, asked_at)

    async def _revalidate(self, pointer: TagPointer, usable: bool) -> Manifest | None:
        """None when the tag still points to what we hold. While next to nothing is left of a limit, it is left to
        images that are not here."""
        if self._saves() is Thrift.SCARCE:
            raise self._client.quota.saving()
        # What may be served as it is needs no mirror, which may be behind.
        asked, asked_at = self._client.primary if usable else self._client, self._all.clock()
        target = await asked.head_manifest(self._image, pointer.tag)
        if target and target.digest == pointer.target.digest:
            await self._write_down(replace(pointer, checked_at=asked_at))
            return None
        if self._client.quota.thrift() is Thrift.SCARCE:
            raise self._client.quota.saving()
        if target:
            manifest = await self._client.get_manifest(self._image, target.digest)
        else:
            manifest = await asked.get_manifest(self._image, pointer.tag)
        await self._record(manifest, pointer.tag, asked_at)
        return manifest

    async def _head_tag(self, tag: Tag) -> Descriptor:
        asked_at = self._all.clock()
        target = await self._client.head_manifest(self._image, tag)
        if target is None:
            return (await self._get(tag)).descriptor
        await self._write_down(self._pointer(tag, target, asked_at))
        return target

    async def _head_digest(self, digest: Digest, client: Client) -> Descriptor:
        target = await client.head_manifest(self._image, digest)
        if target is None or target.digest != digest:
            return (await self._get(digest)).descriptor
        return target

    async def _link_by_head(self, link: Link) -> None:
        await self._client.primary.head_blob(self._image, link.digest)
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

    async def _won(self, link: Link) -> bool:
        """Whether bytes that are here became the image's by one question."""
        return await self._bytes_of_own_origin(link.digest) and await self._shown(
            ("link", link.digest), partial(self._link_by_head, link), BlobUnknown
        )

    async def _shown(
        self, what: tuple[str, Digest], work: Callable[[], Awaitable[object]], unknown: type[RegistryError]
    ) -> bool:
        """Whether the upstream itself shows what is here, which is a right to it. What a mirror says of a HEAD proves
        nothing: where the upstream does not answer, bytes that mirrors give are verified instead."""
        try:
            await self._ask(what, work, unknown)
        except RegistryError:
            if self._client.primary is self._client:
                raise
            return False
        return True

    async def _within(self, work: Awaitable[T], unknown: type[RegistryError]) -> T:
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


async def _nothing() -> None:
    """What there is to do before a download but to wait for its turn."""
