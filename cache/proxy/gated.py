"""GatedRepository: an image of an upstream behind a group's gate for tags and digests.

Decides before the first byte, so content that is let through streams as it does everywhere. Raises only RegistryError.
"""

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import datetime

from cache.index.base import History
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, Denied, ManifestUnknown, RefusalReason, RegistryError, UpstreamUnavailable
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import (
    CONFIG_LIMIT,
    Gate,
    conclude_async,
    decide_digest,
    decide_tag,
    find_creation,
)
from cache.proxy.errors import RETRY_AFTER, headers_due
from cache.proxy.pull_through import PullThrough
from cache.proxy.repository import ProxiedRepository
from cache.proxy.upstream_calls import reference_key
from cache.repository import FoundBlob, FoundManifest, FoundReferrers, FoundSize, FoundTags, FoundTarget
from cache.values import BEGINNING, Outcome, PageStart, Source

CREATION_SECONDS = 5.0
"""Time limit for reading an image's creation date; response headers are due within 20 s."""


@dataclass(frozen=True, slots=True)
class GatedImage:
    """An image of a source, with the tags that the group pins."""

    source: Source
    name: RepositoryName
    pins: dict[Tag, Digest]


class GatedRepository:
    """A Repository that serves pinned tags, and waits with what is in its cooldown; all else is the inner one's.

    Raises Denied for what the gate withholds, and UpstreamUnavailable where a date that decides cannot be read.
    """

    def __init__(
        self,
        inner: ProxiedRepository,
        gate: Gate,
        image: GatedImage,
        shared: PullThrough,
        history: History,
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._image = image
        self._index = shared.index
        self._creation_dates = shared.creation_dates
        self._allowed = shared.allowed_digests
        self._history = history
        self._clock = shared.clock
        self._headers_seconds = shared.timings.headers

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        if isinstance(reference, Digest):
            async with headers_due(self._headers_seconds):
                await self._check(reference)
            return await self._inner.manifest(reference)
        if reference not in self._image.pins and not self._gate.cooldown:
            return await self._inner.manifest(reference)
        async with headers_due(self._headers_seconds):
            return await self._manifest(reference)

    async def _manifest(self, reference: Tag) -> FoundManifest:
        """The manifest of a tag that a pin or the gate may decide."""
        if pin := self._image.pins.get(reference):
            return await self._pinned_manifest(reference, pin)
        return await self._cooled_manifest(reference, await self._inner.manifest(reference))

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """The descriptor that `manifest` finds: what a tag means must not depend on the method."""
        if isinstance(reference, Digest):
            async with headers_due(self._headers_seconds):
                await self._check(reference)
                return await self._inner.stat_manifest(reference)
        if reference not in self._image.pins and not self._gate.cooldown:
            return await self._inner.stat_manifest(reference)
        found = await self.manifest(reference)
        return FoundTarget(found.manifest.descriptor, found.status)

    async def blob(self, digest: Digest) -> FoundBlob:
        async with headers_due(self._headers_seconds):
            await self._check(digest)
        return await self._inner.blob(digest)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        async with headers_due(self._headers_seconds):
            await self._check(digest)
        return await self._inner.stat_blob(digest)

    async def tags(self, count: int | None, start: PageStart = BEGINNING) -> FoundTags:
        return await self._inner.tags(count, start)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> FoundReferrers:
        async with headers_due(self._headers_seconds):
            await self._check(digest)
            return await self._inner.referrers(digest, artifact_type)

    async def _pinned_manifest(self, tag: Tag, digest: Digest) -> FoundManifest:
        try:
            return await self._inner.manifest(digest)
        except ManifestUnknown as error:
            reason = f"the group pins {tag} to {digest}, which the upstream does not have"
            raise Denied(reason, counted_as=RefusalReason.PIN) from error

    async def _cooled_manifest(self, tag: Tag, found: FoundManifest) -> FoundManifest:
        """Return what the gate lets a tag mean, of which `found` is the current content. Raises Denied."""
        current = found.manifest.descriptor.digest
        sightings = await self._history.sightings(self._image.source, self._image.name, tag)
        now = self._clock()
        decision = decide_tag(self._gate, tag, current, sightings, now)
        verdict = await conclude_async(decision, lambda _: self._creation(found.manifest))
        if verdict.digest == current:
            return found
        if verdict.digest is None:
            raise Denied(verdict.reason, counted_as=RefusalReason.COOLDOWN)
        older = await self._inner.manifest(verdict.digest)
        status = found.status if found.status.outcome is Outcome.STALE else older.status
        warning = f"{verdict.reason}; {status.warning}" if status.warning else verdict.reason
        return FoundManifest(older.manifest, replace(status, warning=warning))

    async def _check(self, digest: Digest) -> None:
        """Check a digest. Raises Denied if only manifests in their cooldown refer to it, as far as is known."""
        if not self._gate.cooldown:
            return
        key = (self._gate, self._image.source, self._image.name, digest)
        mark = self._index.mark()
        if self._allowed.holds(key, mark):
            return
        ancestors = await self._history.ancestors(self._image.source, self._image.name, digest)
        decision = decide_digest(self._gate, digest, ancestors, self._image.pins.values(), self._clock())
        verdict = await conclude_async(decision, self._creation_of)
        if not verdict.allowed:
            raise Denied(verdict.reason, counted_as=RefusalReason.COOLDOWN)
        self._allowed.note(key, mark)

    async def _creation_of(self, digest: Digest) -> datetime | None:
        if (known := self._creation_dates.find(digest)) is not None:
            return known
        manifest = await self._index.find_manifest(digest)
        return await self._creation(manifest) if manifest else None

    async def _creation(self, manifest: Manifest) -> datetime | None:
        """Find the publisher's date. Raises UpstreamUnavailable where it cannot be read now.

        That there is none is remembered where the config was read, or where the registry does not have it.
        """
        dates, digest = self._creation_dates, manifest.descriptor.digest
        key = reference_key(self._image.source, self._image.name, digest)
        if (known := dates.find(digest)) is not None or dates.is_undated(key):
            return known
        try:
            async with asyncio.timeout(CREATION_SECONDS):
                created = await self._found_creation(manifest)
        except TimeoutError as error:
            raise UpstreamUnavailable("the image's creation date could not be read in time", RETRY_AFTER) from error
        except UpstreamUnavailable:
            raise
        except (BlobUnknown, ManifestUnknown):
            return dates.note(digest, key, None)
        except (RegistryError, EOFError):
            return None
        return dates.note(digest, key, created)

    async def _found_creation(self, manifest: Manifest) -> datetime | None:
        """Find the publisher's date; the documents are parsed in a thread, since they may be large."""
        finding = find_creation(manifest)
        document: Manifest | bytes | None = None
        while True:
            found = await asyncio.to_thread(_advance, finding, document)
            if not isinstance(found, Descriptor):
                return found
            document = await self._read_document(found)

    async def _read_document(self, descriptor: Descriptor) -> Manifest | bytes:
        """A manifest, or the content of a config, fetched where it is not cached. Raises RegistryError, EOFError.

        The last bytes of what `ready` yields wait for the blob's digest, so the content is verified.
        """
        if descriptor.is_manifest:
            return (await self._inner.manifest(descriptor.digest)).manifest
        blob, content = (await self._inner.blob(descriptor.digest)).blob, b""
        try:
            async for extent in blob.ready(0, CONFIG_LIMIT if blob.size is None else min(blob.size, CONFIG_LIMIT)):
                content += await blob.read(extent)
            return content
        finally:
            blob.close()


def _advance(
    finding: Generator[Descriptor, Manifest | bytes | None, datetime | None], document: Manifest | bytes | None
) -> Descriptor | datetime | None:
    """Send a document to the search for a date; return the next one that it needs, or its result."""
    try:
        return finding.send(document)
    except StopIteration as done:
        created: datetime | None = done.value
        return created
