"""Evict: removes images from the cache on a person's request, and records each eviction."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.retention.eviction import evict_image
from cache.store.base import BlobStore
from cache.values import ImageKey


@dataclass(frozen=True, slots=True)
class Evicted:
    """Numbers of removed tags and bytes."""

    tags: int
    bytes: int


def evict_images(
    images: Iterable[ImageKey],
    admin: CacheAdmin,
    store: BlobStore,
    happenings: HappeningLog,
    reason: str,
    now: datetime,
    progress: Callable[[int], None] = lambda freed: None,
) -> Evicted:
    """Evict whole images, tags or digests. Blocks.

    `reason`: the text that explanations show later. `progress` is called with the bytes of each deleted file.

    Raises DatabaseUnusable.
    """
    tags = freed = 0
    for image in images:
        removed = evict_image(admin, store, image.source, image.name, image.reference, progress)
        tags, freed = tags + removed[0], freed + removed[1]
        if any(removed):
            subject = str(image.reference or "")
            happenings.note(
                Happening(HappeningKind.EVICTED, now, image.source, image.name, subject, reason, removed[1])
            )
    happenings.flush()
    return Evicted(tags, freed)
