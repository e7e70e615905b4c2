"""Warm: fetches a list of images into the cache before clients request them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cache.oci.closure import PlatformMissing
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.proxy.warming import QuotaReserved, WarmingCounts, matching_tags, warm
from cache.upstream.errors import UpstreamError
from gateway.maintenance.warming_sources import WarmingSources


@dataclass(frozen=True, slots=True)
class WantedImage:
    """One image of the list; `reference` is a digest, or a tag that may be a glob."""

    image: str
    reference: str
    platforms: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.image}{'@' if ':' in self.reference else ':'}{self.reference}"


@dataclass(frozen=True, slots=True)
class WarmingFailure:
    """An image that is not completely cached, and the reason."""

    image: str
    reason: str


async def warm_images(
    sources: WarmingSources, wanted: Sequence[WantedImage], group: str, counts: WarmingCounts
) -> list[WarmingFailure]:
    """Fetch all images of a list below a group; returns those that failed.

    Failed images are tried once more at the end: a server may have started or stopped meanwhile. Raises
    DatabaseUnusable.
    """
    failures = await _warm_all(sources, wanted, group, counts)
    if failures:
        names, retried = {failure.image for failure in failures}, WarmingCounts(progress=counts.progress)
        failures = await _warm_all(sources, [one for one in wanted if str(one) in names], group, retried)
        counts.fetched, counts.bytes = counts.fetched + retried.fetched, counts.bytes + retried.bytes
    return failures


async def _warm_all(
    sources: WarmingSources, wanted: Sequence[WantedImage], group: str, counts: WarmingCounts
) -> list[WarmingFailure]:
    failures: list[WarmingFailure] = []
    for number, one in enumerate(wanted, 1):
        begin = partial(counts.progress.begin, number=number, count=len(wanted))
        failures += await _warm_image(sources, one, group, counts, begin)
    return failures


async def _warm_image(
    sources: WarmingSources, wanted: WantedImage, group: str, counts: WarmingCounts, begin: Callable[[str], None]
) -> list[WarmingFailure]:
    begin(str(wanted))
    try:
        async with sources.open(wanted.image, group) as source:
            if ":" in wanted.reference:
                await warm(source, Digest.parse(wanted.reference), wanted.platforms, counts)
                counts.progress.end()
                return []
            tags = await matching_tags(source, wanted.reference)
            if not tags:
                return [WarmingFailure(str(wanted), "no tag of the upstream matches")]
            for tag in sorted(tags):
                begin(f"{wanted.image}:{tag}")
                await warm(source, tag, wanted.platforms, counts)
                counts.progress.end()
            return []
    except QuotaReserved:
        return [WarmingFailure(str(wanted), "the upstream's quota leaves nothing to spare now: try again later")]
    except (RegistryError, UpstreamError, PlatformMissing) as error:
        return [WarmingFailure(str(wanted), str(error))]
