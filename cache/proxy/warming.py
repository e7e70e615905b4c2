"""Warming: fetching everything that an image needs before a client requests it, by whatever way it is fetched."""

import asyncio
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from cache.oci.closure import Closure
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.values import BEGINNING, PageStart, TagPage

_CONCURRENT_BLOBS = 3
_TAGS_PER_PAGE = 1000
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}


class WarmingSource(Protocol):
    """One image with the rights of a group, fetched into the cache. Raises RegistryError or UpstreamError."""

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        """Fetch a manifest, or take it from the cache."""

    async def fetch(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        """Fetch a blob; returns when all of it is cached. Calls `arrived`, in any thread, with the bytes that came."""

    async def tags(self, count: int, start: PageStart) -> TagPage:
        """List at most `count` tags from a start on."""

    def holds(self, digest: Digest) -> bool:
        """Whether the blob is cached for this image; no request is made."""

    def has_quota(self) -> bool:
        """Whether the upstream's quota leaves something for content that no client has requested."""


class QuotaReserved(Exception):
    """The upstream's quota leaves nothing for warming now; later it will."""


class WarmingProgress:
    """Receives the progress of a warming run, and ignores it; a subclass shows it to a person."""

    def begin(self, image: str, number: int, count: int) -> None:
        """The image of this number in a list of `count` begins."""

    def expect(self, size: int) -> None:
        """So many bytes more of the image are not cached."""

    def arrived(self, size: int) -> None:
        """So many bytes of the image came; fewer than none where a download began anew. In any thread."""

    def end(self) -> None:
        """All of the image is cached."""


@dataclass(slots=True)
class WarmingCounts:
    """Counts of one run: manifests read, blobs fetched and their bytes, blobs that were cached already."""

    manifests: int = 0
    fetched: int = 0
    held: int = 0
    bytes: int = 0
    progress: WarmingProgress = field(default_factory=WarmingProgress, repr=False)

    def count_fetched(self, size: int) -> None:
        """Count one blob of so many bytes."""
        self.fetched += 1
        self.bytes += size


def own_platform() -> str:
    """The platform of this machine, as `linux/architecture[/variant]`."""
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


async def matching_tags(source: WarmingSource, pattern: str) -> list[Tag]:
    """Find the upstream's tags that match a glob; a pattern without wildcards is one tag, and is not looked up.

    Raises TagInvalid, and what the source raises.
    """
    if not set(pattern) & set("*?["):
        return [Tag.parse(pattern)]
    found: list[Tag] = []
    start = BEGINNING
    while True:
        page = await source.tags(_TAGS_PER_PAGE, start)
        found += [Tag.parse(name) for name in page.tags if fnmatchcase(name, pattern)]
        if page.next is None or page.next == start:
            return found
        start = page.next


async def warm(source: WarmingSource, reference: Tag | Digest, platforms: Sequence[str], counts: WarmingCounts) -> None:
    """Fetch everything of one tag or digest that the registry serves and that is not cached yet, so an interrupted run
    is resumed. Layers that the registry does not serve are left to the clients, which have them from elsewhere.

    Raises what the source raises, QuotaReserved, PlatformMissing.
    """
    if not source.has_quota():
        raise QuotaReserved
    closure = Closure(platforms=platforms)
    entries = [*closure.add(await source.manifest(reference))]
    counts.manifests += 1
    for digest in closure:
        if not source.has_quota():
            raise QuotaReserved
        entries += closure.add(await source.manifest(digest))
        counts.manifests += 1
    blobs = {entry.digest: entry for entry in entries if not entry.is_manifest and entry.is_distributable}
    missing = [entry for entry in blobs.values() if not source.holds(entry.digest)]
    counts.held += len(blobs) - len(missing)
    counts.progress.expect(sum(entry.size for entry in missing))
    slots = asyncio.Semaphore(_CONCURRENT_BLOBS)

    async def fetch(entry: Descriptor) -> None:
        async with slots:
            if not source.has_quota():
                raise QuotaReserved
            await source.fetch(entry.digest, counts.progress.arrived)
            counts.count_fetched(entry.size)

    outcomes = await asyncio.gather(*map(fetch, missing), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
