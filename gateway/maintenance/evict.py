"""Evict: removes images from the cache on a person's request, and records each eviction."""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.oci.digest import Digest
from cache.retention.eviction import ImageEviction, evict_image, plan_eviction
from cache.store.base import BlobStore
from cache.values import ImageKey


def plan_evictions(
    images: Iterable[ImageKey], admin: CacheAdmin, spared: Collection[Digest] = ()
) -> list[ImageEviction]:
    """Find what goes with whole images, tags or digests, without what pins keep and what is `spared`. Blocks. Raises
    DatabaseUnusable."""
    return [plan_eviction(admin, image, spared) for image in images]


def evict_images(
    evictions: Sequence[ImageEviction],
    admin: CacheAdmin,
    store: BlobStore,
    happenings: HappeningLog,
    reason: str,
    now: datetime,
    progress: Callable[[int], None] = lambda freed: None,
) -> int:
    """Evict what was planned; returns the freed bytes. Blocks.

    `reason`: the text that explanations show later. `progress` is called with the bytes of each deleted file.

    Raises DatabaseUnusable.
    """
    total = 0
    for eviction in evictions:
        freed = evict_image(admin, store, eviction, progress)
        total += freed
        if eviction.tags or freed:
            image, subject = eviction.image, str(eviction.image.reference or "")
            happenings.note(Happening(HappeningKind.EVICTED, now, image.source, image.name, subject, reason, freed))
    happenings.flush()
    return total
