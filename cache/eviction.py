"""Eviction: what may be taken from the cache, and the sweep that takes it. Bytes and links go together."""

from collections.abc import Callable

from cache.index.inventory import Inventory
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.store.base import BlobStore
from cache.values import Source


def evict_image(
    inventory: Inventory,
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
        digests = (_closure(inventory, roots) - _closure(inventory, kept)) & linked
    sizes = inventory.sizes(digests)
    blobs = inventory.remove(source, image, tags, digests)
    for digest in blobs:
        store.delete(digest)
        progress(sizes.get(digest, 0))
    remaining = inventory.sizes(digests)
    return len(tags), sum(size for digest, size in sizes.items() if digest not in remaining)


def _closure(inventory: Inventory, roots: set[Digest]) -> set[Digest]:
    return {digest for root in roots for digest in inventory.closure(root)}
