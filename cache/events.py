"""CacheEvents: everything that the cache reports to observers that count and log; it never influences the cache."""

from collections.abc import Sequence
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.values import Damage, Fault, OutageKind, Source


@dataclass(frozen=True, slots=True)
class EndedDownload:
    """A download that has ended.

    `size`: bytes that arrived. `reason`: why it was not committed, empty where that is not known or it was committed.
    `unstorable`: whether it failed because nothing could be written to the disk of this host.
    """

    source: Source
    image: RepositoryName
    digest: Digest
    committed: bool
    size: int
    seconds: float
    reason: str = ""
    unstorable: bool = False


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest that came from an upstream, and is cached now; `tag`: None where it was requested by its digest."""

    source: Source
    image: RepositoryName
    tag: Tag | None
    digest: Digest


@dataclass(frozen=True, slots=True)
class QueuedDownload:
    """A download that waits for a connection to its upstream, or has waited for so many `seconds`."""

    source: Source
    image: RepositoryName
    digest: Digest
    seconds: float


@dataclass(frozen=True, slots=True)
class RefusedContent:
    """A response that must not be passed on; `evidence` is its body, where that is small and was read."""

    source: Source
    image: RepositoryName
    fault: Fault
    reason: str
    evidence: bytes = b""


@dataclass(frozen=True, slots=True)
class EvictedContent:
    """A manifest or blob that was evicted, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class CacheLevel:
    """Fill level of the cache and its disk: `size` and `disk_free` in bytes, `blobs` as a count.

    `other`: bytes of the quarantine and the databases, which count for the maximum size of the cache as `size` does.
    `free_files`: files that the disk can still take, None where their number is not limited.
    """

    size: int
    blobs: int
    disk_free: int
    free_files: int | None = None
    other: int = 0


class CacheEvents:
    """Events of a cache; each method does nothing until a subclass overrides it.

    Methods return at once and never raise. They are called in the event loop, except where a method names a thread.
    """

    def download_queued(self, queued: QueuedDownload) -> None:
        """A download has to wait for a connection; called again when its wait has ended."""

    def download_began(self, source: Source, digest: Digest) -> None:
        """A download from an upstream, or from another worker that runs it, has begun."""

    def download_ended(self, download: EndedDownload) -> None:
        """A download of this process has ended; one that another worker ran is reported by that worker alone."""

    def download_followed(self, source: Source, digest: Digest) -> None:
        """A download that began has ended here, for another worker ran it, or had stored its bytes."""

    def manifest_fetched(self, fetched: FetchedManifest) -> None:
        """A manifest of an upstream was cached."""

    def content_verified(self, source: Source, image: RepositoryName) -> None:
        """A blob that was downloaded for an image had its digest."""

    def content_refused(self, refused: RefusedContent) -> None:
        """A manifest or blob failed its checks and is not passed on."""

    def lookup_failed(self, source: Source, image: RepositoryName, reference: Tag | Digest, reason: str) -> None:
        """An upstream did not give a manifest, or did not confirm a right to a digest; `reason` is for people."""

    def upstream_failed(self, source: Source, kind: OutageKind, reason: str) -> None:
        """A request to an upstream failed in a way that is an outage; `reason` is for people."""

    def upstream_responded(self, source: Source) -> None:
        """An upstream responded as it should."""

    def damage_found(self, damage: Damage) -> None:
        """Something stored was not as it was written. Called in the event loop, or in the thread of the scrub."""

    def evicted(self, contents: Sequence[EvictedContent], freed: int) -> None:
        """A batch was evicted, which freed so many bytes. Called in the thread that evicts."""

    def level_measured(self, level: CacheLevel) -> None:
        """The sweep has measured the cache. Called in the thread of the sweep."""


UNOBSERVED = CacheEvents()
"""Events without an observer."""
