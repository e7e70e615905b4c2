"""UpstreamClient: the contract of whatever fetches from another registry, one registry or one with mirrors."""

from contextlib import AbstractContextManager
from typing import Protocol

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import NOBODY, Requester
from cache.upstream.allowance import RequestKind
from cache.upstream.quota import Quota
from cache.values import Part, ReferrersPage, Rest, Source, TagPage


class BlobStream(Protocol):
    """The bytes of one blob as they arrive, read by one thread."""

    start: int
    """Offset within the blob of the first byte of the stream."""

    size: int | None
    """Number of bytes from `start` on; None if the upstream does not state it."""

    accepts_ranges: bool
    """Whether the upstream offers ranges of this blob."""

    def receive_into(self, buffer: memoryview) -> int:
        """Fill some of the buffer; 0 at the end. Raises Unavailable when the stream breaks off or stalls."""

    def abort(self) -> None:
        """Wake, from another thread, one that waits for bytes; it then sees the connection end."""


class UpstreamClient(Protocol):
    """One upstream, used with one credential. Raises only UpstreamError.

    Facts about the upstream are properties and two synchronous methods; the six requests are the rest. `requester`: on
    whose behalf a large document waits for memory.
    """

    @property
    def source(self) -> Source: ...

    @property
    def host(self) -> str:
        """Name of the upstream for messages."""

    @property
    def has_credential(self) -> bool: ...

    @property
    def quota(self) -> Quota: ...

    @property
    def primary(self) -> "UpstreamClient":
        """The client of the upstream itself, without mirrors: it alone decides what a tag points to."""

    def fails(self, image: RepositoryName) -> bool:
        """Whether the upstream failed recently, so that the next response may take long or never arrive."""

    def pause(self, kind: RequestKind, image: RepositoryName | None = None) -> float:
        """Seconds until a request of this kind may be sent, for an image if one is named."""

    async def head_manifest(
        self, image: RepositoryName, reference: Tag | Digest, *, as_proof: bool = False
    ) -> Descriptor | None:
        """Fetch the reference's target by HEAD; None if the response does not state it, or proves nothing: then only a
        GET tells whether it exists.

        `as_proof`: None also where a host responds that the upstream's settings do not name: whoever owns an image of
        some registries chooses the host to which its requests are redirected.
        """

    async def get_manifest(
        self,
        image: RepositoryName,
        reference: Tag | Digest,
        held: Manifest | None = None,
        requester: Requester = NOBODY,
    ) -> Manifest:
        """The manifest, verified against the requested digest, else against the one that the upstream names.

        `held`: returned if the upstream confirms that it is still what the reference means.
        """

    async def head_blob(self, image: RepositoryName, digest: Digest, *, as_proof: bool = False) -> int | None:
        """Size of the blob in bytes, by HEAD or, where that proves nothing, by a GET; None if the upstream does not
        state it, or as for `head_manifest`. Raises Corrupt for an HTML page."""

    def open_blob(
        self, image: RepositoryName, digest: Digest, part: Part | Rest | None = None
    ) -> AbstractContextManager[BlobStream]:
        """Open the blob, or some of it, for a thread; blocks.

        A `Part` is provided exactly, or Unavailable is raised. For a `Rest` the upstream may send the whole blob;
        `start` of the stream shows which.
        """

    async def tags(self, image: RepositoryName, query: str = "", requester: Requester = NOBODY) -> TagPage:
        """One page of the image's tags: the one that `query` requests, as `n=100&last=v1`, and as long as it comes."""

    async def referrers(
        self, image: RepositoryName, digest: Digest, artifact_type: str | None, requester: Requester = NOBODY
    ) -> ReferrersPage:
        """Manifests whose subject is the digest, of one artifact type or of all."""
