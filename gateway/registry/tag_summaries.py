"""Summaries of tags, as lists of many show them: read some at a time, and parsed outside the event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cache.oci.digest import Digest
from cache.oci.errors import ManifestInvalid
from cache.oci.manifest import Manifest
from gateway.db import tags
from gateway.db.engine import Database
from gateway.db.manifests import StoredManifest
from gateway.db.tags import StoredTag
from gateway.registry.image_size import layers_of
from gateway.registry.platform_names import platform_name
from gateway.registry.stored_manifests import read_in_parts


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
    pointing: dict[Digest, list[StoredTag]] = {}
    for tag in await database.query(partial(tags.list_of_names, repository_id=repository_id, names=names)):
        pointing.setdefault(tag.digest, []).append(tag)
    made: dict[str, TagSummary] = {}
    async for part in read_in_parts(database, repository_id, pointing):
        made |= await asyncio.to_thread(_summaries, part, pointing)
    return [made[name] for name in names if name in made]


def _summaries(part: Sequence[StoredManifest], pointing: Mapping[Digest, Sequence[StoredTag]]) -> dict[str, TagSummary]:
    """Summaries of the tags that point to some manifests, by their names."""
    summaries = (_summary(tag, stored) for stored in part for tag in pointing[stored.descriptor.digest])
    return {summary.stored.tag.text: summary for summary in summaries}


def _summary(tag: StoredTag, stored: StoredManifest) -> TagSummary:
    descriptor = stored.descriptor
    try:
        manifest = Manifest.parse(descriptor.media_type, stored.raw, descriptor.digest.algorithm)
        if manifest.children:
            platforms = [platform_name(platform) for _, platform in manifest.platforms()]
            return TagSummary(tag, descriptor.media_type, platforms=[name for name in platforms if name])
    except ManifestInvalid:  # stored under rules that have become stricter
        return TagSummary(tag, descriptor.media_type)
    size = sum(layers_of([manifest]).values())
    return TagSummary(tag, descriptor.media_type, size, len(manifest.layers))
