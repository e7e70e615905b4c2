"""Images of a repository as lists of tags describe them: their media type, config and size."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import ManifestInvalid
from cache.oci.manifest import Manifest
from gateway.db.engine import Database
from gateway.db.manifests import StoredManifest
from gateway.registry.image_size import size_of
from gateway.registry.stored_manifests import read_in_parts


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """An image or an index. `config`: None where it has none; `size`: the bytes of its layers, each counted once; None
    where that is not known. `children`: the images that an index lists."""

    descriptor: Descriptor
    config: Descriptor | None
    size: int | None
    children: tuple[Descriptor, ...] = ()


async def image_details(
    database: Database, repository_id: int, digests: Collection[Digest]
) -> dict[Digest, ImageDetails]:
    """Describe those of the digests of which a repository has manifests. Raises DatabaseUnusable."""
    found: dict[Digest, ImageDetails] = {}
    async for part in read_in_parts(database, repository_id, digests):
        for stored in part:
            found[stored.descriptor.digest] = await _describe(database, repository_id, stored)
    return found


async def _describe(database: Database, repository_id: int, stored: StoredManifest) -> ImageDetails:
    try:
        manifest = await asyncio.to_thread(
            Manifest.parse, stored.descriptor.media_type, stored.raw, stored.descriptor.digest.algorithm
        )
        size = await size_of(database, repository_id, manifest)
    except ManifestInvalid:  # it was stored under rules that have become stricter
        return ImageDetails(stored.descriptor, None, None)
    return ImageDetails(stored.descriptor, manifest.config, size, manifest.children)
