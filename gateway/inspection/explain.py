"""What is here of an image part by part, what lately happened to it, and what a pull of it would have to fetch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.oci.closure import find_closure
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import is_index
from cache.oci.names import RepositoryName
from cache.values import Source

SLOW = 5_000_000
"""Bytes per second of a fill below which it is called slow."""
_WORTH_TELLING = 1_000_000
_EVICTIONS = 5


@dataclass(frozen=True, slots=True)
class Part:
    """One manifest or blob; `of` is the manifest that refers to it, None for the first."""

    role: str
    digest: Digest
    size: int
    of: Digest | None
    here: bool

    def document(self) -> dict[str, object]:
        return {
            "role": self.role,
            "digest": str(self.digest),
            "size": self.size,
            "of": str(self.of) if self.of else None,
            "here": self.here,
        }


def parts_of(
    inventory: CacheAdmin, source: Source, image: RepositoryName, root: Descriptor, stored: Callable[[Digest], bool]
) -> list[Part]:
    """All that is known of, from the top down. What the image has no link to is not here for it, even if its bytes
    are. `stored` says whether there is a file."""
    linked = inventory.linked(source, image)
    known = find_closure([root.digest], lambda digest: inventory.manifest(digest) if digest in linked else None)
    listed: list[tuple[str, Descriptor, Digest | None]] = [(_role(root), root, None)]
    for digest, manifest in known.manifests.items():
        listed += [(_role_in(manifest, child), child, digest) for child in manifest.references()]
    parts: list[Part] = []
    for role, descriptor, parent in listed:
        digest = descriptor.digest
        blob_here = not descriptor.is_manifest and digest in linked and stored(digest)
        parts.append(Part(role, digest, descriptor.size, parent, blob_here or digest in known.manifests))
    return parts


def happenings(
    chronicle: HappeningLog, source: Source, image: RepositoryName, subjects: Iterable[str]
) -> dict[str, object]:
    """The last refusal, the last evictions and the last download among what concerns these tags and digests."""
    wanted = {"", *subjects}
    own = [h for h in chronicle.of_image(source, image) if h.subject in wanted]
    anybodys = [h for h in chronicle.of_subjects(wanted - {""}) if h.subject.partition(":")[1]]
    refused = next((h for h in own if h.what is HappeningKind.REFUSED), None)
    evicted = {(h.at, h.subject): h for h in [*own, *anybodys] if h.what is HappeningKind.EVICTED}
    filled = [h for h in anybodys if h.what is HappeningKind.FILLED]
    return {
        "last_refusal": _refusal(refused) if refused else None,
        "evictions": [_eviction(evicted[key]) for key in sorted(evicted, reverse=True)[:_EVICTIONS]],
        "last_fill": _fill(filled[0]) if filled else None,
        "slow": slowness(filled, source),
    }


def slowness(filled: Iterable[Happening], source: Source) -> str | None:
    """In words where downloads of noticeable size came slowly; None otherwise."""
    worth = [h for h in filled if h.bytes >= _WORTH_TELLING and h.seconds > 0]
    seconds = sum(h.seconds for h in worth)
    rate = sum(h.bytes for h in worth) / seconds if seconds else float("inf")
    return f"{rate / 1e6:.1f} MB/s from {source.origin.host}" if rate < SLOW else None


def missing(parts: list[Part]) -> str:
    """What a pull would have to fetch beside the first manifest, in words."""
    blobs = [part for part in parts if part.role in ("config", "layer")]
    absent = [part for part in blobs if not part.here]
    if not blobs:
        return "no manifest with layers is here: all layers must be fetched"
    if not absent:
        return f"all {len(blobs)} blobs of the manifests that are here come from the cache"
    size = sum(part.size for part in absent)
    return f"{len(absent)} of {len(blobs)} blobs, {size} bytes, must be fetched"


def _role(descriptor: Descriptor) -> str:
    if not descriptor.is_manifest:
        return "layer"
    return "index" if is_index(descriptor.media_type) else "manifest"


def _role_in(parent: Manifest, child: Descriptor) -> str:
    return "config" if parent.config == child else _role(child)


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


def _refusal(happening: Happening) -> dict[str, object]:
    return {
        "at": _time(happening.at),
        "of": happening.subject,
        "reason": happening.reason,
        "times": happening.times,
    }


def _eviction(happening: Happening) -> dict[str, object]:
    return {
        "at": _time(happening.at),
        "of": happening.subject,
        "reason": happening.reason,
        "bytes": happening.bytes,
    }


def _fill(happening: Happening) -> dict[str, object]:
    return {
        "at": _time(happening.at),
        "digest": happening.subject,
        "bytes": happening.bytes,
        "seconds": round(happening.seconds, 3),
        "bytes_per_second": round(happening.bytes / max(happening.seconds, 1e-6)),
    }
