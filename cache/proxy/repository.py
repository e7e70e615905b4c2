"""ProxiedRepository: one image pulled through from its upstream. The cache is always consulted before the network.

The way of a manifest: memory, then index, then one task that all requests for it share. Tags are confirmed by the
upstream or served stale; digests stand for themselves. Blobs are in `blobs`, rights to content in `rights`.
"""

import asyncio
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial

from cache.events import FetchedManifest
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import ManifestUnknown, RegistryError, UpstreamUnavailable
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import (
    Freshness,
    TagRule,
    decide,
    fresh_only_refusal,
    fresh_while_saving,
    is_fresh_only,
    stale_warning,
)
from cache.proxy.blobs import ProxiedBlobs
from cache.proxy.errors import RETRY_AFTER, headers_due, refusal
from cache.proxy.lists import ProxiedLists
from cache.proxy.paging import cut
from cache.proxy.pull_through import PullThrough
from cache.proxy.rights import Rights
from cache.proxy.upstream_calls import SharedCall, UpstreamCalls, reference_key
from cache.repository import (
    COALESCED,
    HIT,
    MISS,
    REVALIDATED,
    CacheStatus,
    FoundBlob,
    FoundManifest,
    FoundReferrers,
    FoundSize,
    FoundTags,
    FoundTarget,
)
from cache.runtime.fair_queue import NOBODY, Requester
from cache.upstream.allowance import RequestKind, SavingMode
from cache.upstream.client import UpstreamClient
from cache.upstream.errors import Unavailable, UpstreamOutage
from cache.upstream.lists import page_query
from cache.values import BEGINNING, OutageKind, Outcome, PageStart, Source, TagPointer


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A tag that was refreshed: the digest that its pointer had before, None if there was none, and its manifest."""

    before: Digest | None
    manifest: Manifest


class ProxiedRepository:
    """One image of one upstream, seen with one credential; implements Repository. Raises only RegistryError."""

    def __init__(
        self,
        shared: PullThrough,
        client: UpstreamClient,
        image: RepositoryName,
        requester: Requester = NOBODY,
        *,
        fresh_only: bool = False,
        ahead: bool = False,
        ttl: timedelta | None = None,
    ) -> None:
        """`requester`: on whose behalf the upstream is called; groups take turns, then their clients. `fresh_only`: a
        tag that the upstream cannot confirm is refused, not served stale. `ahead`: what a client requests after a
        manifest is fetched as soon as that is verified, since nothing can refuse the manifest any more. `ttl`: how long
        the upstream's word on a tag holds; None for as long as the rules for tags say."""
        self._shared = shared
        self._ttl_rule = None if ttl is None else TagRule("*", ttl)
        self._client = client
        self._image = image
        self._source = client.source
        self._fresh_only = fresh_only
        self._ahead = ahead
        self._requester = requester

    @property
    def source(self) -> Source:
        """The upstream as the credential sees it."""
        return self._source

    # A repository is opened for each request, and most requests are for a recent manifest, which needs none of these.

    @cached_property
    def _rights(self) -> Rights:
        return Rights(self._shared.index, self._client, self._image)

    @cached_property
    def _calls(self) -> UpstreamCalls:
        return UpstreamCalls(self._shared, self._client, self._image, self._rights, self._requester)

    @cached_property
    def blobs(self) -> ProxiedBlobs:
        return ProxiedBlobs(self._shared, self._client, self._image, self._rights, self._calls)

    @cached_property
    def _lists(self) -> ProxiedLists:
        return ProxiedLists(self._shared, self._client, self._image, self._calls, self._fresh_only)

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        shared = self._shared
        key, mark, now = reference_key(self._source, self._image, reference), shared.index.mark(), shared.clock()
        if recent := shared.recent.find(key, mark, now):
            shared.usage.touch(recent.manifest.descriptor.digest, now)
            return recent
        return await self._manifest(reference, key, mark)

    def _headers_due(self) -> AbstractAsyncContextManager[None]:
        """Limit what a client waits for the upstream. What is cached is read outside: it is late on a busy machine
        alone, and late is better than a refusal."""
        return headers_due(self._shared.timings.headers)

    async def _manifest(self, reference: Tag | Digest, key: Hashable, mark: Hashable) -> FoundManifest:
        """A manifest that is not in memory."""
        shared = self._shared
        if isinstance(reference, Digest):
            return shared.recent.note(key, mark, None, await self._manifest_by_digest(reference))
        pointer = await shared.index.find_pointer(self._source, self._image, reference)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer is None or held is None:
            async with self._headers_due():
                return await self._fetched_manifest(reference)
        rule = self._rule(reference)
        freshness = self._freshness(pointer, rule)
        if freshness is Freshness.FRESH:
            span = (pointer.checked_at, pointer.checked_at + rule.ttl)
            return shared.recent.note(key, mark, span, FoundManifest(held, HIT))
        async with self._headers_due():
            return await self._revalidated_manifest(pointer, held, rule, freshness)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        if isinstance(reference, Digest):
            return await self._stat_by_digest(reference)
        return await self._stat_tag(reference)

    async def _stat_tag(self, reference: Tag) -> FoundTarget:
        """Record the target of a tag from a HEAD, without downloading the manifest."""
        rule = self._rule(reference)
        pointer = await self._shared.index.find_pointer(self._source, self._image, reference)
        freshness = self._freshness(pointer, rule)
        if pointer and freshness is Freshness.FRESH:
            return FoundTarget(pointer.target, HIT)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        async with self._headers_due():
            if pointer and held:
                found = await self._revalidated_manifest(pointer, held, rule, freshness)
                return FoundTarget(found.manifest.descriptor, found.status)
            target, first = await self._calls.manifest(
                SharedCall.HEAD_MANIFEST, reference, partial(self._head_tag, reference), RequestKind.CHECK
            )
        return FoundTarget(target, MISS if first else COALESCED)

    async def blob(self, digest: Digest) -> FoundBlob:
        return await self.blobs.open(digest)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        return await self.blobs.stat(digest)

    async def tags(self, count: int | None, start: PageStart = BEGINNING) -> FoundTags:
        query = page_query(count, start)
        page, status = await self._lists.tags(query, continued=start.skip > 0)
        return FoundTags(cut(page, query, start, count), status)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> FoundReferrers:
        return FoundReferrers(*await self._lists.referrers(digest, artifact_type))

    async def refresh(self, tag: Tag) -> Refreshed:
        """Look up at the upstream where a tag points now, however fresh it is, and fetch its manifest. Raises
        ManifestUnknown."""
        self._shared.absences.forget(reference_key(self._source, self._image, tag))
        pointer = await self._shared.index.find_pointer(self._source, self._image, tag)
        held = await self._held_manifest(pointer.target.digest) if pointer else None
        if pointer is None or held is None:
            manifest, _ = await self._calls.manifest(SharedCall.GET_MANIFEST, tag, partial(self._get, tag))
        else:
            revalidate = partial(self._revalidate, pointer, held, stale_allowed=False)
            moved, _ = await self._calls.manifest(SharedCall.REVALIDATE_TAG, tag, revalidate)
            manifest = moved or held
        return Refreshed(pointer.target.digest if pointer else None, manifest)

    async def is_known(self) -> bool:
        """Whether the upstream has ever shown anything of the image that is not forgotten."""
        return (await self._shared.index.holdings(self._source, self._image)).any

    async def holds(self, digest: Digest) -> bool:
        """Whether the image has a right to a digest."""
        return await self._rights.has(digest)

    async def freshness(self, tag: Tag) -> Freshness:
        """How a tag would be served now."""
        pointer = await self._shared.index.find_pointer(self._source, self._image, tag)
        return self._freshness(pointer, self._rule(tag))

    async def _held_manifest(self, digest: Digest) -> Manifest | None:
        """Find a cached manifest to which the image has a right."""
        if not await self._rights.has(digest):
            return None
        held = await self._shared.index.find_manifest(digest)
        if held is not None:
            self._shared.usage.touch(digest, self._shared.clock())
        return held

    async def _manifest_by_digest(self, digest: Digest) -> FoundManifest:
        if held := await self._held_manifest(digest):
            return FoundManifest(held, HIT)
        async with self._headers_due():
            return await self._missing_manifest(digest)

    async def _missing_manifest(self, digest: Digest) -> FoundManifest:
        """A manifest to which the image has no link."""
        if not self._calls.is_absent(digest) and await self._is_provable(digest):
            if held := await self._held_manifest(digest):  # the image's own may have been recorded a moment ago
                return FoundManifest(held, HIT)
            prove = partial(self._prove_manifest, digest)
            async with self._calls.for_client(ManifestUnknown):
                proof = self._calls.proof(SharedCall.PROVE_MANIFEST, digest, prove, RequestKind.PULL)
                first = await self._rights.proved_by(proof)
            if first is not None and (held := await self._held_manifest(digest)):
                return FoundManifest(held, MISS if first else COALESCED)
        return await self._fetched_manifest(digest)

    async def _stat_by_digest(self, digest: Digest) -> FoundTarget:
        """The descriptor of a manifest. Without a link the request is forwarded, and wins none: otherwise the next GET
        would tell whether another image has the manifest."""
        if held := await self._held_manifest(digest):
            return FoundTarget(held.descriptor, HIT)
        async with self._headers_due():
            head = partial(self._head_digest, digest)
            target, first = await self._calls.manifest(SharedCall.HEAD_MANIFEST, digest, head)
        return FoundTarget(target, MISS if first else COALESCED)

    async def _is_provable(self, digest: Digest) -> bool:
        """Whether a HEAD to the upstream would prove a right to a cached manifest."""
        return await self._rights.provable(digest) and await self._shared.index.find_manifest(digest) is not None

    async def _fetched_manifest(self, reference: Tag | Digest) -> FoundManifest:
        """The manifest from the upstream, once for all requests that wait for it."""
        manifest, first = await self._calls.manifest(
            SharedCall.GET_MANIFEST, reference, partial(self._get, reference, ahead=self._ahead), RequestKind.PULL
        )
        return FoundManifest(manifest, MISS if first else COALESCED)

    async def _revalidated_manifest(
        self, pointer: TagPointer, held: Manifest, rule: TagRule, freshness: Freshness
    ) -> FoundManifest:
        """The manifest that the upstream confirms for a tag, or the one that is held where it confirms none in time."""
        stale_allowed, now = freshness is Freshness.REVALIDATE, self._shared.clock()
        if stale_allowed and self._saving() is not SavingMode.NONE and fresh_while_saving(pointer, now, rule):
            return FoundManifest(held, HIT)
        revalidate = partial(self._revalidate, pointer, held, stale_allowed=stale_allowed)
        task, first = self._calls.share(SharedCall.REVALIDATE_TAG, pointer.tag, revalidate)
        await asyncio.wait({task}, timeout=self._wait_limit(stale_allowed=stale_allowed))
        if task.done():
            result = task.result()
        else:
            result = Unavailable(f"{self._client.host} did not respond in time")
            self._shared.outages.note(self._source, now, late=True)
            self._shared.events.upstream_failed(self._source, OutageKind.LATE, result.reason)
        match result:
            case None:
                return FoundManifest(held, REVALIDATED)
            case Manifest():
                return FoundManifest(result, MISS if first else COALESCED)
            case UpstreamOutage() if stale_allowed:
                return FoundManifest(held, self._stale(pointer, result))
            case UpstreamOutage() if is_fresh_only(rule, self._fresh_only):
                raise self._not_fresh(pointer, result)
            case _:
                raise self._calls.manifest_refusal(result, pointer.tag)

    def _rule(self, tag: Tag) -> TagRule:
        return self._ttl_rule or self._shared.rules.rule(self._source, self._image, tag)

    def _freshness(self, pointer: TagPointer | None, rule: TagRule) -> Freshness:
        now, grace = self._shared.clock(), self._shared.rules.grace
        return decide(pointer, now, rule, grace, group_fresh_only=self._fresh_only)

    def _wait_limit(self, *, stale_allowed: bool) -> float:
        """Seconds to wait for the upstream's word on a tag."""
        timings = self._shared.timings
        if not stale_allowed:
            return timings.response
        outage = self._shared.outages.find(self._source)
        silent = (outage and outage.late) or self._client.fails(self._image)
        return timings.revalidation_after_silence if silent else timings.revalidation

    def _saving(self) -> SavingMode:
        """Saving mode for revalidations, if the upstream's limit counts them."""
        quota = self._client.quota
        return SavingMode.NONE if quota.free_checks else quota.saving_mode()

    def _stale(self, pointer: TagPointer, failure: UpstreamOutage) -> CacheStatus:
        outage, now = self._shared.outages.find(self._source), self._shared.clock()
        warning = stale_warning(pointer, failure.reason, outage.since if outage else None, now)
        return CacheStatus(Outcome.STALE, now - pointer.checked_at, warning)

    def _not_fresh(self, pointer: TagPointer, failure: UpstreamOutage) -> RegistryError:
        retry = int(refusal(failure, ManifestUnknown).headers.get("Retry-After", RETRY_AFTER))
        return UpstreamUnavailable(fresh_only_refusal(pointer, failure.reason), retry)

    # What follows runs in tasks that requests share. A pointer is dated to the moment of the request, so that a slow
    # response never takes the place of a later one. All of it raises UpstreamError.

    async def _get(self, reference: Tag | Digest, *, ahead: bool = False) -> Manifest:
        requested_at = self._shared.clock()
        manifest = await self._client.get_manifest(self._image, reference, requester=self._requester)
        if ahead:  # while the manifest is recorded, and its client reads it
            self.blobs.fetch_ahead(manifest)
        await self._record(manifest, reference, requested_at)
        return manifest

    async def _record(self, manifest: Manifest, reference: Tag | Digest, requested_at: datetime) -> None:
        link = self._rights.link(manifest.descriptor.digest)
        if isinstance(reference, Tag):
            pointer = TagPointer(self._source, self._image, reference, manifest.descriptor, requested_at)
            await self._rights.record(manifest, link, pointer)
        else:
            await self._rights.record(manifest, link)
        self._shared.absences.forget(reference_key(self._source, self._image, reference))
        tag = reference if isinstance(reference, Tag) else None
        fetched = FetchedManifest(self._source, self._image, tag, manifest.descriptor.digest)
        self._shared.events.manifest_fetched(fetched)

    async def _revalidate(self, pointer: TagPointer, held: Manifest, *, stale_allowed: bool) -> Manifest | None:
        """The manifest that the tag points to now; None while it still points to what is held, as a HEAD shows or,
        where that proves nothing, a GET.

        When the upstream's limit is nearly used up, the rest is kept for images that are not cached.
        """
        if self._saving() is SavingMode.SCARCE:
            raise self._client.quota.saving_refusal()
        # A tag that may be served stale needs no mirror, which may be behind.
        client, requested_at = self._client.primary if stale_allowed else self._client, self._shared.clock()
        target = await client.head_manifest(self._image, pointer.tag)
        if target is None or target.digest != held.descriptor.digest:
            if self._client.quota.saving_mode() is SavingMode.SCARCE:
                raise self._client.quota.saving_refusal()
            if target:
                manifest = await self._client.get_manifest(self._image, target.digest, requester=self._requester)
            else:
                manifest = await client.get_manifest(self._image, pointer.tag, held, self._requester)
        else:
            manifest = held
        if manifest.descriptor.digest == held.descriptor.digest:
            # The manifest may be held in memory alone, since it was evicted from the index.
            link = self._rights.link(held.descriptor.digest)
            await self._rights.record(held, link, replace(pointer, checked_at=requested_at))
            return None
        await self._record(manifest, pointer.tag, requested_at)
        return manifest

    async def _head_tag(self, tag: Tag) -> Descriptor:
        requested_at = self._shared.clock()
        target = await self._client.head_manifest(self._image, tag)
        if target is None:
            return (await self._get(tag)).descriptor
        await self._rights.record(TagPointer(self._source, self._image, tag, target, requested_at))
        return target

    async def _head_digest(self, digest: Digest) -> Descriptor:
        target = await self._client.head_manifest(self._image, digest)
        if target is None or target.digest != digest:
            return (await self._get(digest)).descriptor
        return target

    async def _prove_manifest(self, digest: Digest) -> None:
        if not await self._rights.prove_manifest(digest):
            await self._get(digest)
