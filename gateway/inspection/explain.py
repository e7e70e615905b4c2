"""Explanation of an image: its cached parts, its latest events, and what a pull would fetch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cache.index.happenings import Happening, HappeningKind
from cache.oci.closure import Followed, find_closure
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import is_index
from cache.store.base import is_stored
from cache.values import ImageKey, Source
from gateway.inspection.cached_content import LATEST, CacheView, ContentReport, ContentState
from gateway.inspection.verdicts import GateVerdict, explain_gate
from gateway.namespaces.group import Group
from gateway.namespaces.locate import ProxiedLocation
from gateway.settings.units import format_bytes

SLOW = 5_000_000
"""Bytes per second of downloads below which they are reported as slow."""

_NOTICEABLE_BYTES = 1_000_000
_EVICTIONS = 5


@dataclass(frozen=True, slots=True)
class ImagePart:
    """One manifest or blob of an image.

    `role`: index, manifest, config or layer. `size`: bytes. `parent`: the manifest that refers to it, None for the
    first. `cached`: whether a pull of this image is served with it from the cache.
    """

    role: str
    digest: Digest
    size: int
    parent: Digest | None
    cached: bool


@dataclass(frozen=True, slots=True)
class ImageHistory:
    """The latest events of an image: None or empty if there were none; the newest eviction is the first.

    `last_wait`: the latest wait of one of its blobs in the queue for a connection. `slow`: the speed of its downloads
    in words, where it was low.
    """

    last_refusal: Happening | None
    last_wait: Happening | None
    evictions: list[Happening]
    last_fill: Happening | None
    slow: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Explanation of how the next pull would be served; `next_pull` is a sentence about what it would fetch."""

    content: ContentReport
    next_pull: str
    history: ImageHistory
    parts: list[ImagePart]
    gate: GateVerdict


def explain(view: CacheView, location: ProxiedLocation, image: ImageKey) -> Explanation:
    """Explain a tag, `latest` where the image names none, or a digest. Raises DatabaseUnusable."""
    reference = image.reference or LATEST
    content = report_content(view, location.group, image)
    root = _root(view, image)
    parts = [] if root is None else parts_of(view, image, root)
    subjects = {str(reference), *(str(part.digest) for part in parts)}
    gate = explain_gate(location, image.source, reference, view.admin, view.store.read_bytes, view.now)
    return Explanation(content, _next_pull(parts), _history(view, image, subjects), parts, gate)


def report_content(view: CacheView, group: Group, image: ImageKey) -> ContentReport:
    """Report one tag, `latest` where the image names none, or one digest, as a group would be served with it. Raises
    DatabaseUnusable."""
    content = view.report(image)
    if group.fresh_only and content.state is ContentState.STALE:
        reason = f"{content.reason} elsewhere: group {group.path} is fresh-only"
        return replace(content, state=ContentState.EXPIRED, reason=reason)
    return content


def parts_of(view: CacheView, image: ImageKey, root: Descriptor) -> list[ImagePart]:
    """List all known parts of the image below `root`, breadth first.

    Content without a link of the image counts as not cached, even if its bytes are stored.
    """
    linked = view.admin.linked(image.source, image.name)
    manifests: dict[Digest, Manifest] = {}

    def find(digest: Digest) -> Manifest | None:
        manifest = view.admin.manifest(digest) if digest in linked else None
        if manifest is not None:
            manifests[digest] = manifest
        return manifest

    find_closure([root.digest], find, Followed.MANIFESTS)
    listed: list[tuple[str, Descriptor, Digest | None]] = [(_role(root), root, None)]
    for digest, manifest in manifests.items():
        listed += [(_role_in(manifest, child), child, digest) for child in manifest.references()]
    sizes = view.admin.sizes(linked)
    parts: list[ImagePart] = []
    for role, descriptor, parent in listed:
        digest = descriptor.digest
        blob_cached = not descriptor.is_manifest and is_stored(view.store, digest, sizes.get(digest))
        parts.append(ImagePart(role, digest, descriptor.size, parent, blob_cached or digest in manifests))
    return parts


def slowness(fills: Iterable[Happening], source: Source) -> str | None:
    """The speed in words if downloads of noticeable size were slow, else None."""
    noticeable = [fill for fill in fills if fill.bytes >= _NOTICEABLE_BYTES and fill.seconds > 0]
    seconds = sum(fill.seconds for fill in noticeable)
    rate = sum(fill.bytes for fill in noticeable) / seconds if seconds else float("inf")
    return f"{rate / 1e6:.1f} MB/s from {source.origin.netloc}" if rate < SLOW else None


def _root(view: CacheView, image: ImageKey) -> Descriptor | None:
    reference = image.reference or LATEST
    if isinstance(reference, Digest):
        manifest = view.admin.manifest(reference)
        return manifest.descriptor if manifest else None
    pointer = view.find_pointer(image, reference)
    return pointer.target if pointer else None


def _history(view: CacheView, image: ImageKey, subjects: set[str]) -> ImageHistory:
    """Find the latest events of these tags and digests."""
    of_image = [
        event for event in view.happenings.of_image(image.source, image.name) if event.subject in {"", *subjects}
    ]
    of_digests = [event for event in view.happenings.of_subjects(subjects) if event.subject.partition(":")[1]]
    refused, queued = (
        next((event for event in of_image if event.what is kind), None)
        for kind in (HappeningKind.REFUSED, HappeningKind.QUEUED)
    )
    evicted = {(e.at, e.subject): e for e in [*of_image, *of_digests] if e.what is HappeningKind.EVICTED}
    fills = [event for event in of_digests if event.what is HappeningKind.FILLED]
    evictions = [evicted[key] for key in sorted(evicted, reverse=True)[:_EVICTIONS]]
    return ImageHistory(refused, queued, evictions, fills[0] if fills else None, slowness(fills, image.source))


def _next_pull(parts: list[ImagePart]) -> str:
    """Describe in words what a pull would have to fetch besides the first manifest."""
    blobs = [part for part in parts if part.role in ("config", "layer")]
    absent = [part for part in blobs if not part.cached]
    if not blobs:
        return "no manifest with layers is cached: all layers must be fetched"
    if not absent:
        return f"all {len(blobs)} blobs of the cached manifests come from the cache"
    size = sum(part.size for part in absent)
    return f"{len(absent)} of {len(blobs)} blobs, {format_bytes(size)}, must be fetched"


def _role(descriptor: Descriptor) -> str:
    if not descriptor.is_manifest:
        return "layer"
    return "index" if is_index(descriptor.media_type) else "manifest"


def _role_in(parent: Manifest, child: Descriptor) -> str:
    return "config" if parent.config == child else _role(child)
