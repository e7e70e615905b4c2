"""Sizes of images: of one, the sum of its layers; of an index, that of the layers of all its images, each counted
once."""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import is_manifest
from gateway.db import manifests
from gateway.db.engine import Database
from gateway.db.manifests import StoredManifest

MOST_IMAGES = 500
"""Images of an index that are read for its size: an index for every platform has some twenty."""
MOST_LEVELS = 4
"""Levels of indexes within an index."""


def layers_of(images: Iterable[Manifest]) -> dict[Digest, int]:
    """The sizes of the layers of some images by their digests; a layer without bytes of its own has size 0."""
    return {layer.digest: layer.size for image in images for layer in image.layers}


async def size_of(database: Database, repository_id: int, manifest: Manifest) -> int | None:
    """Sum the layers of an image or an index of a repository, in bytes; None for an index of too many images.

    Images that an index lists and that the repository does not have count for nothing. Raises DatabaseUnusable,
    ManifestInvalid.
    """
    layers, seen = layers_of([manifest]), {manifest.descriptor.digest}
    level = list(_images_in([manifest], seen))
    for _ in range(MOST_LEVELS):
        if not level:
            return sum(layers.values())
        seen.update(level)
        if len(seen) > MOST_IMAGES:
            return None
        stored = await database.query(partial(manifests.read_some, repository_id=repository_id, digests=level))
        parsed = await asyncio.to_thread(_parse_all, list(stored.values()))
        layers |= layers_of(parsed)
        level = list(_images_in(parsed, seen))
    return None if level else sum(layers.values())


def _images_in(found: Iterable[Manifest], seen: set[Digest]) -> Iterator[Digest]:
    """The digests of the images and indexes that some indexes list, without those that were seen."""
    children = (child for manifest in found for child in manifest.children if is_manifest(child.media_type))
    return iter(dict.fromkeys(child.digest for child in children if child.digest not in seen))


def _parse_all(stored: Iterable[StoredManifest]) -> list[Manifest]:
    return [Manifest.parse(one.descriptor.media_type, one.raw, one.descriptor.digest.algorithm) for one in stored]
