"""Eviction: the choice of what is taken from the cache, and the taking of what a person names. Bytes and links go
together."""

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from cache.index.admin import CacheAdmin
from cache.index.maintenance import CachedItem
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.store.base import BlobStore
from cache.values import Source

LOW = 0.9
"""The share of the cap down to which is evicted when the cap is reached, so that not every arrival evicts."""

REQUEST = 1024 * 1024
"""Bytes that could be fetched in the time that a request costs before its first byte."""

_UNLINKED = 0.1
_YOUNGEST = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes at the most, bytes of the disk that stay free, and after how many seconds without use something goes (0:
    never)."""

    max_size: int
    reserve: int = 0
    max_unused: float = 0


def shortage(held: int, free: int, limits: Limits) -> int:
    """Bytes that must go, by the cap and by the space that is free."""
    over = held - int(limits.max_size * LOW) if held > limits.max_size else 0
    return max(over, limits.reserve - free, 0)


def worth(held: CachedItem, now: float) -> float:
    """What the bytes of something are worth: how often it is wanted and by how many images, times what it would cost
    to fetch it again, by byte and by second since it was last used."""
    wanted = 1 + math.log2(1 + held.uses)
    shared = 1 + math.log2(held.images) if held.images else _UNLINKED
    cost = (held.size + REQUEST) / max(held.size, 1)
    return wanted * shared * cost / max(now - held.last_used, _YOUNGEST)


def choose(
    held: Iterable[CachedItem], wanted: int, now: float, spared: Collection[Digest] = frozenset()
) -> list[CachedItem]:
    """The least worth, until they come to the bytes that are wanted, or all there are; what is gone upstream last.

    Nothing of what is spared: what is pinned, and what somebody reads.
    """
    chosen: list[CachedItem] = []
    for candidate in sorted(held, key=lambda h: (h.gone, worth(h, now))):
        if wanted <= 0:
            break
        if candidate.digest not in spared:
            chosen.append(candidate)
            wanted -= candidate.size
    return chosen


def unused(
    held: Iterable[CachedItem], now: float, max_unused: float, spared: Collection[Digest] = frozenset()
) -> list[CachedItem]:
    """What nobody has used for too long and can be fetched again."""
    return (
        [h for h in held if now - h.last_used > max_unused and not h.gone and h.digest not in spared]
        if max_unused
        else []
    )


def evict_image(
    inventory: CacheAdmin,
    store: BlobStore,
    source: Source,
    image: RepositoryName,
    reference: Tag | Digest | None,
    progress: Callable[[int], None] = lambda freed: None,
) -> tuple[int, int]:
    """Takes one tag, one digest, or all of an image out of the cache: (tags, bytes) that are gone.

    What another tag of the image refers to stays, and bytes that another image has a link to rest where they are.
    `progress` is told the bytes of each file as it goes.
    """
    pointers = inventory.pointers(source, image)
    linked = inventory.linked(source, image)
    if reference is None:
        tags, digests = [pointer.tag for pointer in pointers], linked
    else:
        hit = [p for p in pointers if reference in (p.tag, p.target.digest)]
        roots = {reference} if isinstance(reference, Digest) else {p.target.digest for p in hit}
        kept = {p.target.digest for p in pointers if p not in hit} - roots
        tags = [pointer.tag for pointer in hit]
        digests = (inventory.closure(roots) - inventory.closure(kept)) & linked
    sizes = inventory.sizes(digests)
    blobs = inventory.remove(source, image, tags, digests)
    for digest in blobs:
        store.delete(digest)
        progress(sizes.get(digest, 0))
    remaining = inventory.sizes(digests)
    return len(tags), sum(size for digest, size in sizes.items() if digest not in remaining)
