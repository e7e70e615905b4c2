"""Summaries of tags, as lists of many show them: read together, and parsed outside the event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cache.oci.errors import ManifestInvalid
from cache.oci.manifest import Manifest
from gateway.db import manifests, tags
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.manifests import StoredManifest
from gateway.db.tags import StoredTag
from gateway.registry.platform_names import platform_name


@dataclass(frozen=True, slots=True)
class TagSummary:
    """A tag, and what its manifest says of itself.

    `size`: bytes of the layers of an image; None for an index, and for what cannot be read. `layers`: how many.
    `platforms`: of the images that an index lists; None for an image.
    """

    stored: StoredTag
    media_type: str
    size: int | None = None
    layers: int = 0
    platforms: Sequence[str] | None = None


async def summarize(database: Database, repository_id: int, names: Sequence[str]) -> list[TagSummary]:
    """Summarise those of the names that are tags of a repository, in their order. Raises DatabaseUnusable."""

    async def read(connection: Connection) -> list[tuple[StoredTag, StoredManifest]]:
        found = {tag.tag.text: tag for tag in await tags.list_of_names(connection, repository_id, names)}
        digests = dict.fromkeys(tag.digest for tag in found.values())
        stored = await manifests.read_some(connection, repository_id, digests)
        present = [found[name] for name in names if name in found]
        return [(tag, stored[tag.digest]) for tag in present if tag.digest in stored]

    async with database.read() as connection:
        rows = await read(connection)
    return await asyncio.to_thread(lambda: [_summary(tag, stored) for tag, stored in rows])


def _summary(tag: StoredTag, stored: StoredManifest) -> TagSummary:
    descriptor = stored.descriptor
    try:
        manifest = Manifest.parse(descriptor.media_type, stored.raw, descriptor.digest.algorithm)
        if manifest.children:
            platforms = [platform_name(platform) for _, platform in manifest.platforms()]
            return TagSummary(tag, descriptor.media_type, platforms=[name for name in platforms if name])
    except ManifestInvalid:  # stored under rules that have become stricter
        return TagSummary(tag, descriptor.media_type)
    size = sum({layer.digest: layer.size for layer in manifest.layers}.values())
    return TagSummary(tag, descriptor.media_type, size, len(manifest.layers))
