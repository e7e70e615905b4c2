"""GatedRepository: an image behind a gate that looks at tags and digests.

It decides before the first byte, so what may flow streams as it does everywhere. Raises only RegistryError.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cache.index.base import History, Index
from cache.oci.digest import Digest
from cache.oci.errors import Denied, ManifestUnknown, RegistryError, UpstreamUnavailable
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import Gate, annotated_creation, configured_creation, decide_tag, withheld
from cache.proxy.errors import RETRY_AFTER
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundBlob, FoundManifest, FoundSize, FoundTarget
from cache.values import Outcome, ReferrersPage, Source, TagPage

CONFIG_LIMIT = 1024 * 1024
TOLD_WITHIN = 5.0
"""Seconds that what an image says of its age may take: headers are due in 20."""

REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Subject:
    """What a gate is asked about: an image of a source, with the pins that the group has for it."""

    source: Source
    image: RepositoryName
    pins: dict[Tag, Digest]


class GatedRepository:
    def __init__(
        self,
        inner: ProxiedRepository,
        gate: Gate,
        subject: Subject,
        index: Index,
        history: History,
        clock: Callable[[], datetime],
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._subject = subject
        self._index = index
        self._history = history
        self._clock = clock
        self._created: dict[Digest, datetime | None] = {}

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        if isinstance(reference, Digest):
            await self._check(reference)
            return await self._inner.manifest(reference)
        if pin := self._subject.pins.get(reference):
            return await self._pinned(reference, pin)
        found = await self._inner.manifest(reference)
        if not self._gate.cooldown:
            return found
        return await self._cooled(reference, found)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """The same as `manifest`, which it asks: what a tag means must not depend on the method."""
        if isinstance(reference, Digest):
            await self._check(reference)
            return await self._inner.stat_manifest(reference)
        if reference not in self._subject.pins and not self._gate.cooldown:
            return await self._inner.stat_manifest(reference)
        found = await self.manifest(reference)
        return FoundTarget(found.manifest.descriptor, found.status)

    async def blob(self, digest: Digest) -> FoundBlob:
        await self._check(digest)
        return await self._inner.blob(digest)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        await self._check(digest)
        return await self._inner.stat_blob(digest)

    async def tags(self, count: int | None, last: str | None) -> TagPage:
        return await self._inner.tags(count, last)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> ReferrersPage:
        await self._check(digest)
        return await self._inner.referrers(digest, artifact_type)

    async def _pinned(self, tag: Tag, digest: Digest) -> FoundManifest:
        try:
            return await self._inner.manifest(digest)
        except ManifestUnknown as error:
            raise Denied(f"the group pins {tag} to {digest}, which the upstream does not have") from error

    async def _cooled(self, tag: Tag, found: FoundManifest) -> FoundManifest:
        current = found.manifest.descriptor.digest
        sightings = await self._history.sightings(self._subject.source, self._subject.image)
        now = self._clock()
        verdict = decide_tag(self._gate, tag, current, sightings, None, now)
        if verdict.digest != current and self._gate.trusts_created:
            verdict = decide_tag(self._gate, tag, current, sightings, await self._creation(found.manifest), now)
        if verdict.digest == current:
            return found
        if verdict.digest is None:
            raise Denied(verdict.reason)
        older = await self._inner.manifest(verdict.digest)
        return FoundManifest(older.manifest, found.status if found.status.outcome is Outcome.STALE else older.status)

    async def _check(self, digest: Digest) -> None:
        """Raises Denied for what is part of nothing but manifests that are withheld, as far as this server knows."""
        if not self._gate.cooldown:
            return
        sightings = await self._history.sightings(self._subject.source, self._subject.image)
        pinned, now = self._subject.pins.values(), self._clock()
        young = withheld(self._gate, sightings, {}, pinned, now)
        if young and self._gate.trusts_created:
            young = withheld(self._gate, sightings, await self._creations(young), pinned, now)
        if not young:
            return
        kept_back = await self._closure(young)
        if digest not in kept_back:
            return
        others = {sighting.digest for sighting in sightings} | set(pinned)
        if digest in await self._closure(others - young):
            return
        untagged = await self._history.manifests(self._subject.source, self._subject.image)
        if digest in await self._closure(untagged - kept_back):
            return
        raise Denied(f"{digest} is part of nothing but what the group still waits for (its cooldown)")

    async def _closure(self, roots: set[Digest]) -> set[Digest]:
        """The digests and all that they refer to, as far as the manifests are here."""
        found: set[Digest] = set()
        pending = list(roots)
        while pending:
            digest = pending.pop()
            if digest not in found:
                found.add(digest)
                if manifest := await self._index.find_manifest(digest):
                    below = manifest.references()
                    found.update(entry.digest for entry in below if not entry.is_manifest)
                    pending += [entry.digest for entry in below if entry.is_manifest]
        return found

    async def _creations(self, digests: set[Digest]) -> dict[Digest, datetime]:
        creations: dict[Digest, datetime] = {}
        for digest in digests:
            manifest = await self._index.find_manifest(digest)
            moment = await self._creation(manifest) if manifest else None
            if moment is not None:
                creations[digest] = moment
        return creations

    async def _creation(self, manifest: Manifest) -> datetime | None:
        """As its publisher says, which is so for ever. Raises UpstreamUnavailable where that cannot be learned now."""
        digest = manifest.descriptor.digest
        if digest not in self._created:
            try:
                async with asyncio.timeout(TOLD_WITHIN):
                    created = await self._told_creation(manifest)
            except TimeoutError as error:
                raise UpstreamUnavailable("what the image says of its age did not come in time", RETRY_AFTER) from error
            if len(self._created) >= REMEMBERED:
                self._created.clear()
            self._created[digest] = created
        return self._created[digest]

    async def _told_creation(self, manifest: Manifest) -> datetime | None:
        """Where an index is silent, as the config of its first image says."""
        moment = annotated_creation(manifest)
        if moment is not None:
            return moment
        try:
            if manifest.children:
                child = manifest.children[0]
                below = await self._inner.manifest(child.digest) if child.is_manifest else None
                return await self._told_creation(below.manifest) if below and not below.manifest.children else None
            if manifest.config is None or manifest.config.size > CONFIG_LIMIT:
                return None
            return configured_creation(await self._read(await self._inner.blob(manifest.config.digest)))
        except UpstreamUnavailable:
            raise
        except (RegistryError, EOFError):
            return None

    async def _read(self, found: FoundBlob) -> bytes:
        blob, content = found.blob, b""
        try:
            async for extent in blob.ready(0, CONFIG_LIMIT if blob.size is None else min(blob.size, CONFIG_LIMIT)):
                content += await blob.read(extent)
            return content
        finally:
            blob.close()
