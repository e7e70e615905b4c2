"""ProxiedRepository: the use cases of pulling through, for one image. The cache is asked before the network, always.

Manifests are its own: tags are confirmed or served stale, digests stand for themselves. Blobs have a room of theirs.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from cache.index.base import Fact
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    UpstreamUnavailable,
)
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import Freshness, TagRule, decide, fresh_only_refusal, fresh_while_saving, stale_warning
from cache.proxy import upstream_calls
from cache.proxy.blobs import ProxiedBlobs
from cache.proxy.errors import RETRY_AFTER, refusal
from cache.proxy.shared import PullThrough
from cache.proxy.upstream_calls import Asking
from cache.repository import CacheStatus, FoundBlob, FoundManifest, FoundSize, FoundTarget
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import Unavailable, UpstreamOutage
from cache.upstream.quota import RequestKind, SavingMode
from cache.values import Link, Outcome, ReferrersPage, TagPage, TagPointer

REVALIDATE_WITHIN = 2.0
LATE_WITHIN = 0.25
"""Instead of that, as long as the upstream left the last question unanswered, or fails."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A tag that was refreshed: the digest that it pointed to here before, None if it was unknown, and its manifest."""

    before: Digest | None
    manifest: Manifest


class ProxiedRepository:
    """One image of one upstream, seen with one credential. Raises only RegistryError."""

    def __init__(
        self,
        shared: PullThrough,
        client: UpstreamClient,
        image: RepositoryName,
        group: Hashable = None,
        *,
        fresh_only: bool = False,
    ) -> None:
        """`group`: on whose behalf it waits where an upstream's limit is used up; groups take turns. `fresh_only`: a
        tag that the upstream cannot confirm is refused, not served stale."""
        self._all = shared
        self._client = client
        self._fresh_only = fresh_only
        self._source = client.source
        self._image = image
        self._asking = Asking(shared, client, image, group)
        self.blobs = ProxiedBlobs(shared, client, image, self._asking)

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        key, mark, now = self._asking.key(reference), self._all.index.mark(), self._all.clock()
        if hit := self._all.hits.find(key, mark, now):
            self._all.usage.touch(hit.manifest.descriptor.digest, now)
            return hit
        if isinstance(reference, Digest):
            return self._all.hits.note(key, mark, None, await self._by_digest(reference))
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            if self._is_fresh(pointer):
                found = FoundManifest(held, CacheStatus(Outcome.HIT))
                return self._all.hits.note(key, mark, pointer.checked_at + self._rule(pointer).ttl, found)
            return await self._revalidated(pointer, held)
        return await self._fetched_manifest(reference)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """A HEAD downloads nothing that is not here, but what it learns of a tag is kept."""
        if isinstance(reference, Digest):
            return await self._stat_digest(reference)
        pointer = await self._all.index.find_pointer(self._source, self._image, reference)
        if pointer and self._is_fresh(pointer):
            return FoundTarget(pointer.target, CacheStatus(Outcome.HIT))
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer and held:
            found = await self._revalidated(pointer, held)
            return FoundTarget(found.manifest.descriptor, found.status)
        work = self._asking.in_turn(RequestKind.CHECK, lambda: self._head_tag(reference))
        target, first = await self._asking.ask(("head", reference), work, ManifestUnknown)
        return FoundTarget(target, CacheStatus(Outcome.MISS if first else Outcome.COALESCED))

    async def refresh(self, tag: Tag) -> Refreshed:
        """Asks the upstream now, whatever is fresh here."""
        self._all.absences.forget(self._asking.key(tag))
        pointer = await self._all.index.find_pointer(self._source, self._image, tag)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer is None or held is None:
            manifest, _ = await self._asking.ask(("get", tag), lambda: self._get(tag), ManifestUnknown)
        else:
            work = partial(self._revalidate, pointer, False)
            moved, _ = await self._asking.ask(("revalidate", tag), work, ManifestUnknown)
            manifest = moved or held
        return Refreshed(pointer.target.digest if pointer else None, manifest)

    async def blob(self, digest: Digest) -> FoundBlob:
        """Open when this returns, though its bytes may still be arriving."""
        return await self.blobs.open(digest)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        """A HEAD never starts a download."""
        return await self.blobs.stat(digest)

    async def tags(self, count: int | None, last: str | None) -> TagPage:
        return await self._asking.within(self._client.tags(self._image, count, last), NameUnknown)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> ReferrersPage:
        return await self._asking.within(self._client.referrers(self._image, digest, artifact_type), NameUnknown)

    async def _held_manifest(self, digest: Digest) -> Manifest | None:
        if not await self._all.index.linked(Link(self._source, self._image, digest)):
            return None
        held = await self._all.index.find_manifest(digest)
        if held is not None:
            self._all.usage.touch(digest, self._all.clock())
        return held

    async def _by_digest(self, digest: Digest) -> FoundManifest:
        if held := await self._held_manifest(digest):
            return FoundManifest(held, CacheStatus(Outcome.HIT))
        if await self._manifest_of_own_origin(digest):
            await self._stat_digest(digest)
            if held := await self._held_manifest(digest):
                return FoundManifest(held, CacheStatus(Outcome.REVALIDATED))
        return await self._fetched_manifest(digest)

    async def _stat_digest(self, digest: Digest) -> FoundTarget:
        if held := await self._held_manifest(digest):
            return FoundTarget(held.descriptor, CacheStatus(Outcome.HIT))
        here = await self._manifest_of_own_origin(digest)
        if here:
            own = partial(self._head_digest, digest, self._client.primary)
            if await self._asking.shown(("own head", digest), own, ManifestUnknown):
                await self._asking.write_down(Link(self._source, self._image, digest))
                return FoundTarget(here.descriptor, CacheStatus(Outcome.REVALIDATED))
        head = partial(self._head_digest, digest, self._client)
        target, first = await self._asking.ask(("head", digest), head, ManifestUnknown)
        return FoundTarget(target, CacheStatus(Outcome.MISS if first else Outcome.COALESCED))

    async def _fetched_manifest(self, reference: Tag | Digest) -> FoundManifest:
        work = self._asking.in_turn(RequestKind.PULL, lambda: self._get(reference))
        manifest, first = await self._asking.ask(("get", reference), work, ManifestUnknown)
        return FoundManifest(manifest, CacheStatus(Outcome.MISS if first else Outcome.COALESCED))

    async def _revalidated(self, pointer: TagPointer, held: Manifest) -> FoundManifest:
        """What the upstream says of a tag that we hold, or what we hold where it cannot say anything in time."""
        rules, rule, now = self._all.rules, self._rule(pointer), self._all.clock()
        fresh_only = self._fresh_only or rule.fresh_only
        usable = decide(pointer, now, rule, rules.grace) is Freshness.REVALIDATE and not fresh_only
        if usable and self._saves() is not SavingMode.NONE and fresh_while_saving(pointer, now, rule):
            return FoundManifest(held, CacheStatus(Outcome.HIT))
        task, first = self._asking.share(("revalidate", pointer.tag), lambda: self._revalidate(pointer, usable))
        await asyncio.wait({task}, timeout=self._patience() if usable else upstream_calls.ANSWER_WITHIN)
        if task.done():
            result = task.result()
        else:
            result = Unavailable(f"{self._client.host} did not answer in time")
            self._all.outages.note(self._source, now, late=True)
        match result:
            case None:
                return FoundManifest(held, CacheStatus(Outcome.REVALIDATED))
            case Manifest():
                return FoundManifest(result, CacheStatus(Outcome.MISS if first else Outcome.COALESCED))
            case UpstreamOutage() if usable:
                outage = self._all.outages.find(self._source)
                warning = stale_warning(pointer, result.reason, outage.since if outage else None, self._all.clock())
                return FoundManifest(held, CacheStatus(Outcome.STALE, self._all.clock() - pointer.checked_at, warning))
            case UpstreamOutage() if fresh_only:
                raise self._not_fresh(pointer, result)
            case _:
                raise self._asking.unknown_manifest(result, pointer.tag)

    def _rule(self, pointer: TagPointer) -> TagRule:
        return self._all.rules.rule(self._source, self._image, pointer.tag)

    def _is_fresh(self, pointer: TagPointer) -> bool:
        return decide(pointer, self._all.clock(), self._rule(pointer), self._all.rules.grace) is Freshness.FRESH

    def _patience(self) -> float:
        """Seconds to wait for a word on what could be served stale."""
        outage = self._all.outages.find(self._source)
        in_vain = (outage and outage.late) or self._client.fails(self._image)
        return LATE_WITHIN if in_vain else REVALIDATE_WITHIN

    def _saves(self) -> SavingMode:
        """How questions about tags save, where the upstream's limit counts them."""
        quota = self._client.quota
        return SavingMode.NONE if quota.free_checks else quota.saving_mode()

    def _not_fresh(self, pointer: TagPointer, outage: UpstreamOutage) -> RegistryError:
        """Not stale, not wrong: what is here is good, but somebody wants to hear it from the upstream."""
        retry = int(refusal(outage, ManifestUnknown).headers.get("Retry-After", RETRY_AFTER))
        return UpstreamUnavailable(fresh_only_refusal(pointer, outage.reason), retry)

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
        await self._asking.write_down(*facts)
        self._all.absences.forget(self._asking.key(reference))

    def _pointer(self, tag: Tag, target: Descriptor, asked_at: datetime) -> TagPointer:
        """As the upstream said to a question of then: a slow answer must not take the place of a later one."""
        return TagPointer(self._source, self._image, tag, target, asked_at)

    async def _revalidate(self, pointer: TagPointer, usable: bool) -> Manifest | None:
        """None when the tag still points to what we hold. While next to nothing is left of a limit, it is left to
        images that are not here."""
        if self._saves() is SavingMode.SCARCE:
            raise self._client.quota.saving_refusal()
        # What may be served as it is needs no mirror, which may be behind.
        asked, asked_at = self._client.primary if usable else self._client, self._all.clock()
        target = await asked.head_manifest(self._image, pointer.tag)
        if target and target.digest == pointer.target.digest:
            await self._asking.write_down(replace(pointer, checked_at=asked_at))
            return None
        if self._client.quota.saving_mode() is SavingMode.SCARCE:
            raise self._client.quota.saving_refusal()
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
        await self._asking.write_down(self._pointer(tag, target, asked_at))
        return target

    async def _head_digest(self, digest: Digest, client: UpstreamClient) -> Descriptor:
        target = await client.head_manifest(self._image, digest)
        if target is None or target.digest != digest:
            return (await self._get(digest)).descriptor
        return target

    async def _manifest_of_own_origin(self, digest: Digest) -> Manifest | None:
        known = await self._all.index.known_at(self._source.origin, digest)
        return await self._all.index.find_manifest(digest) if known else None
