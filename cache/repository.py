"""Repository: the protocol by which an image is read, and what its methods return."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.store.base import OpenBlob
from cache.values import BEGINNING, Outcome, PageStart, ReferrersPage, TagPage


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Cache status of a lookup; `age` and `warning` are set if the outcome is STALE, and `warning` where a tag means
    older content than upstream.

    `outcome` is None for what no cache stands before: then the response has no cache headers.
    """

    outcome: Outcome | None
    age: timedelta | None = None
    warning: str = ""


HIT, MISS = CacheStatus(Outcome.HIT), CacheStatus(Outcome.MISS)
UNCACHED = CacheStatus(None)
REVALIDATED, COALESCED = CacheStatus(Outcome.REVALIDATED), CacheStatus(Outcome.COALESCED)


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest, whole and verified."""

    manifest: Manifest
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class FoundTarget:
    """The descriptor of a manifest, whose document may not be cached yet."""

    descriptor: Descriptor
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """An open blob, which the caller closes; its bytes may still be arriving."""

    blob: OpenBlob
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class FoundSize:
    """Size of a blob in bytes; None if the upstream did not state it."""

    size: int | None
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class FoundTags:
    """A page of tags."""

    page: TagPage
    status: CacheStatus


@dataclass(frozen=True, slots=True)
class FoundReferrers:
    """A list of referrers."""

    page: ReferrersPage
    status: CacheStatus


class Repository(Protocol):
    """One image, native or proxied, as one client may read it. Every method raises only RegistryError."""

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        """Find a manifest, with its document. Raises ManifestUnknown."""

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        """Find what a reference points to, without a download of the manifest. Raises ManifestUnknown."""

    async def blob(self, digest: Digest) -> FoundBlob:
        """Open a blob; returns once it is known to exist. Raises BlobUnknown."""

    async def stat_blob(self, digest: Digest) -> FoundSize:
        """Find the size of a blob, without a download. Raises BlobUnknown."""

    async def tags(self, count: int | None, start: PageStart = BEGINNING) -> FoundTags:
        """At most `count` tags from a start on; None for no limit. Raises NameUnknown."""

    async def referrers(self, digest: Digest, artifact_type: str | None) -> FoundReferrers:
        """The manifests whose subject is the digest; None for every artifact type. Raises NameUnknown."""
