"""Eviction: which content is evicted by its worth, and eviction of an image that a person names.

Bytes and links are deleted together.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cache.index.admin import CacheAdmin
from cache.index.maintenance import CachedItem
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.store.base import BlobStore
from cache.values import ImageKey

LOW_MARK = 0.9
"""The share of `max_size` down to which content is evicted once it is exceeded, so that not every arrival evicts."""

REQUEST_COST = 1024 * 1024
"""Bytes that could be fetched in the time that a request takes before its first byte."""

_UNLINKED_FACTOR = 0.1
_MIN_AGE = 1.0


@dataclass(frozen=True, slots=True)
class EvictionLimits:
    """Limits of the cache. `max_size`: bytes that it holds at most. `reserve`, `reserve_files`: bytes and files of the
    disk that stay free. `max_unused`: seconds without use after which content is evicted; 0 for never."""

    max_size: int
    reserve: int = 0
    max_unused: float = 0
    reserve_files: int = 0


def shortage(held: int, free: int, limits: EvictionLimits) -> int:
    """Bytes to evict, given the bytes that the cache holds and those that are free on the disk."""
    over = held - int(limits.max_size * LOW_MARK) if held > limits.max_size else 0
    return max(over, limits.reserve - free, 0)


def worth(held: CachedItem, now: float) -> float:
    """The worth of one byte: how often the content is used and by how many images, times what fetching it again costs
    per byte, divided by the seconds since its last use."""
    used = 1 + math.log2(1 + held.uses)
    shared = 1 + math.log2(held.images) if held.images else _UNLINKED_FACTOR
    cost = (held.size + REQUEST_COST) / max(held.size, 1)
    return used * shared * cost / max(now - held.last_used, _MIN_AGE)


def choose(
    held: Iterable[CachedItem], wanted: int, now: float, spared: Collection[Digest] = frozenset()
) -> list[CachedItem]:
    """Choose the items that are worth least, until their bytes reach `wanted` or no item is left. Content that is gone
    upstream is chosen last; `spared` (pinned) content is never chosen."""
    chosen: list[CachedItem] = []
    for candidate in sorted(held, key=lambda h: (h.gone, worth(h, now))):
        if wanted <= 0:
            break
        if candidate.digest not in spared:
            chosen.append(candidate)
            wanted -= candidate.size
    return chosen


def choose_files(
    held: Iterable[CachedItem], wanted: int, now: float, spared: Collection[Digest] = frozenset()
) -> list[CachedItem]:
    """Choose so many blobs, those that are worth least where each takes one file of the disk, whatever its size."""
    blobs = {item.digest: item for item in held if not item.is_manifest}
    return [blobs[file.digest] for file in choose([replace(b, size=1) for b in blobs.values()], wanted, now, spared)]


def unused(
    held: Iterable[CachedItem], now: float, max_unused: float, spared: Collection[Digest] = frozenset()
) -> list[CachedItem]:
    """Content that was not used for more than `max_unused` seconds and can still be fetched again."""
    return (
        [h for h in held if now - h.last_used > max_unused and not h.gone and h.digest not in spared]
        if max_unused
        else []
    )


@dataclass(frozen=True, slots=True)
class ImageEviction:
    """The content that a person's eviction takes of one image. `kept`: what pins of the image keep of that content, by
    the references of the pins."""

    image: ImageKey
    tags: tuple[Tag, ...]
    digests: frozenset[Digest]
    kept: Mapping[str, frozenset[Digest]]


def plan_eviction(admin: CacheAdmin, image: ImageKey, spared: Collection[Digest] = ()) -> ImageEviction:
    """Find what goes with one tag, one digest, or all of an image (without a reference).

    What another tag of the image refers to stays, and so do what a pin of the image protects, and what is `spared`.
    """
    source, name, reference = image.source, image.name, image.reference
    pointers = admin.pointers(source, name)
    linked = admin.linked(source, name)
    if reference is None:
        hit, digests = pointers, set(linked)
    else:
        hit = [p for p in pointers if reference in (p.tag, p.target.digest)]
        roots = {reference} if isinstance(reference, Digest) else {p.target.digest for p in hit}
        others = {p.target.digest for p in pointers if p not in hit}
        digests = (admin.closure(roots) - admin.closure(others)) & linked
    digests = digests.difference(spared)
    pinned = admin.protected(source, name)
    kept = {pin: frozenset(protected & digests) for pin, protected in pinned.items() if protected & digests}
    tags = [pointer.tag for pointer in hit if not {"", pointer.tag.text} & pinned.keys()]
    return ImageEviction(image, tuple(tags), frozenset(digests.difference(*kept.values())), kept)


def freed_bytes(admin: CacheAdmin, evictions: Sequence[ImageEviction]) -> int:
    """Count the bytes that evictions would free together: those of content to which no image keeps a link."""
    taken = frozenset().union(*(eviction.digests for eviction in evictions))
    images = [(eviction.image.source, eviction.image.name) for eviction in evictions]
    stays = admin.linked_elsewhere(taken, images)
    for eviction in evictions:
        stays |= admin.linked(eviction.image.source, eviction.image.name) - eviction.digests
    return sum(admin.sizes(taken - stays).values())


def evict_image(
    admin: CacheAdmin, store: BlobStore, eviction: ImageEviction, progress: Callable[[int], None] = lambda freed: None
) -> int:
    """Delete what was planned; return the bytes that this freed, since content to which another image has a link stays.

    `progress` is called with the bytes of each deleted file.
    """
    image, sizes = eviction.image, admin.sizes(eviction.digests)
    blobs = admin.remove(image.source, image.name, eviction.tags, eviction.digests)
    return _delete_files(admin, store, blobs, sizes, progress)


def find_unlinked(admin: CacheAdmin) -> dict[Digest, int]:
    """Find the content that no image has a link to and no pin protects, with its bytes."""
    return admin.sizes(admin.unlinked() - admin.pinned())


def evict_unlinked(admin: CacheAdmin, store: BlobStore, progress: Callable[[int], None] = lambda freed: None) -> int:
    """Evict what no image has a link to and no pin protects; return the bytes. `progress`: as for `evict_image`."""
    sizes = find_unlinked(admin)
    return _delete_files(admin, store, admin.remove_unlinked(sizes), sizes, progress)


def _delete_files(
    admin: CacheAdmin,
    store: BlobStore,
    blobs: Iterable[Digest],
    sizes: Mapping[Digest, int],
    progress: Callable[[int], None],
) -> int:
    """Delete the files of blobs whose rows are gone; return the bytes of what had `sizes` and has no row any more."""
    for digest in blobs:
        store.delete(digest)
        progress(sizes.get(digest, 0))
    remaining = admin.sizes(sizes)
    return sum(size for digest, size in sizes.items() if digest not in remaining)
