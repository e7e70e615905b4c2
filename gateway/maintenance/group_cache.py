"""GroupCache: evicts from the shared cache what one group has pulled, without taking it from others.

Content is shared by all groups that a source serves: an upstream with one credential, or without any. So an image is
evicted for a group where no other group has pulled it by the same source. Where another one has, the group's own record
of it ends alone: the image is not listed as the group's any more, its policy does not see it, and its content stays.
What a group pulled with a login of its own is never another's, and is evicted whether a pull of it is on record or not.
What is pinned stays, and stays on record.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from cache.index.admin import CacheAdmin
from cache.index.happenings import HappeningLog
from cache.index.tenant_lists import TenantLists
from cache.index.tenants import TenantUsage
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.store.base import BlobStore
from cache.values import ImageKey
from gateway.maintenance.evict import evict_images, plan_evictions
from gateway.services import Services

PURGED = "an owner of a group that pulled it purged it"
"""What explanations show later of an eviction on request. All whom the source serves may read it, so that it names
nobody: the audit log does."""

ABSENT_SECONDS = 24 * 3600.0
"""Seconds after the last pull of an image of which nothing is cached any more until its pulls are forgotten."""

ABSENT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class EvictedImage:
    """What became of an image of a group. `tags`: how many were evicted, and `bytes` that this freed. `shared`: others
    have pulled it too, so it is cached still. `kept`: the pins that keep some of it; an empty one is of the image."""

    tags: int
    bytes: int
    shared: bool = False
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpiredImage:
    """An image of a group: the tags and digests of it that were not pulled for long, and the others."""

    image: ImageKey
    expired: list[Tag | Digest]
    recent: list[Tag | Digest]


@dataclass(frozen=True, slots=True)
class GroupCache:
    """The cache as groups know it, by their ids. All methods block, and raise DatabaseUnusable."""

    usage: TenantUsage
    lists: TenantLists
    admin: CacheAdmin
    store: BlobStore
    happenings: HappeningLog
    clock: Callable[[], datetime]

    @classmethod
    def of(cls, services: Services) -> "GroupCache":
        """The cache of a server."""
        folder, store = services.folder, services.pull_through.store
        lists, log = TenantLists(folder.index, folder.usage), HappeningLog(folder.usage)
        return cls(services.group_usage, lists, CacheAdmin(folder.index), store, log, services.clock)

    def images_of(self, group_id: int, before: datetime) -> list[ImageKey]:
        """The images that a group pulled first before a moment, and those that its own login has fetched."""
        until = before.timestamp()
        pulled = {found.image for found in self.usage.pulled(group_id) if found.first_pull < until}
        own = {ImageKey(*key) for key in self.admin.images() if key[0].credential.group_id == group_id}
        return sorted(pulled | own, key=str)

    def expired(self, group_id: int, before: datetime) -> list[ExpiredImage]:
        """What a group has not pulled since a moment, image by image."""
        images: dict[ImageKey, ExpiredImage] = {}
        for found in self.usage.pulled(group_id):
            image = images.setdefault(found.image, ExpiredImage(found.image, [], []))
            of_image = image.expired if found.last_pull < before.timestamp() else image.recent
            of_image.append(_reference_of(found.reference))
        return [image for image in images.values() if image.expired]

    def knows(self, group_id: int, image: ImageKey) -> bool:
        """Whether an image is one of the group's."""
        source, name = image.source, image.name
        if source.credential.group_id == group_id:
            return bool(self.admin.linked(source, name) or self.admin.pointers(source, name))
        return self.usage.has_pulled(group_id, source, name)

    def evict(self, group_id: int, image: ImageKey, reason: str, spared: Collection[Digest] = ()) -> EvictedImage:
        """Evict an image of a group, or one tag or digest of it. `reason`: the text that explanations show later;
        `spared`: digests that stay."""
        source, name, reference = image.source, image.name, image.reference
        if self.usage.others(group_id, source, name):
            self._forget(group_id, image, ())
            return EvictedImage(0, 0, shared=True)
        [planned] = plan_evictions([image], self.admin, spared)
        freed = evict_images([planned], self.admin, self.store, self.happenings, reason, self.clock())
        kept = tuple(sorted(planned.kept))
        if "" not in kept and (reference is None or str(reference) not in kept):
            self._forget(group_id, image, kept)
        return EvictedImage(len(planned.tags), freed, kept=kept)

    def evict_expired(self, group_id: int, expired: ExpiredImage, reason: str) -> EvictedImage:
        """Evict what a group has not pulled for long of one image; what its later pulls need stays."""
        image, parts = expired.image, list[EvictedImage]()
        targets = {pointer.tag: pointer.target.digest for pointer in self.admin.pointers(image.source, image.name)}
        needed = self.admin.closure(_digests_of(expired.recent, targets))
        for reference in expired.expired:
            one = ImageKey(image.source, image.name, reference)
            if needed.isdisjoint(_digests_of([reference], targets)):
                parts.append(self.evict(group_id, one, reason, needed))
            else:
                self._forget(group_id, one, ())
        kept = tuple(sorted({pin for part in parts for pin in part.kept}))
        freed, tags = sum(part.bytes for part in parts), sum(part.tags for part in parts)
        return EvictedImage(tags, freed, any(part.shared for part in parts), kept)

    def tidy(self, gone: Iterable[int]) -> None:
        """Forget the groups of these ids, and pulls of images of which nothing is cached any more."""
        self.usage.forget_tenants(gone)
        before = self.clock().timestamp() - ABSENT_SECONDS
        while found := self.lists.absent(before, ABSENT_AT_ONCE):
            for group_id, image in found:
                self.usage.forget(group_id, image.source, image.name)

    def _forget(self, group_id: int, image: ImageKey, kept: Iterable[str]) -> None:
        references = None if image.reference is None else [str(image.reference)]
        self.usage.forget(group_id, image.source, image.name, references, kept)


def _reference_of(text: str) -> Tag | Digest:
    return Digest.parse(text) if ":" in text else Tag(text)


def _digests_of(references: Iterable[Tag | Digest], targets: Mapping[Tag, Digest]) -> set[Digest]:
    """The digests among references, and those to which the tags among them point."""
    found = (reference if isinstance(reference, Digest) else targets.get(reference) for reference in references)
    return {digest for digest in found if digest is not None}
