"""WritableRepository and UploadSession: the protocols by which a repository is pushed to and deleted from."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.repository import FoundReferrers, FoundSize, FoundTarget, Repository
from cache.store.base import LocalBlob
from cache.values import Damage
from gateway.auth.protection import TagGuard

Body = AsyncIterator[bytes | memoryview]
"""Bytes of a request's body as they arrive. A memoryview is valid until the next piece is requested: it shows a buffer
that is then used again. Raises ClientLeft where the client has left before the end of the body."""


class ClientLeft(Exception):
    """The client has left before the end of its body."""


class SourceDamaged(Exception):
    """The open blob that was to be mounted is not what its digest says, or cannot be read."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.value)
        self.damage = damage


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag that was deleted: what it pointed to, and until when it can be restored at least."""

    digest: Digest
    kept_until: datetime


class UploadSession(Protocol):
    """One upload of a blob, bound to a repository and to who began it; whichever worker it reaches goes on with it."""

    id: str
    """Part of the upload's URL, not to be guessed."""
    received: int
    """Bytes that have arrived. They outlive any process; of a power failure they are safe once they are committed."""

    async def append(self, body: Body, start: int | None = None, length: int | None = None) -> int:
        """Append a body, and return how many bytes have been received in all.

        `start`: offset that the client states for it. `length`: number of bytes that it states. Where the client leaves
        early, what has arrived stays. Raises RangeInvalid, with the range that has arrived in its headers, where
        another offset is due or another request appends to the same upload, SizeInvalid where the body has another
        length or is larger than a blob may be, StorageFull.
        """

    async def commit(self, digest: Digest) -> None:
        """Make what has arrived a blob of the repository, durable when this returns; the upload ends.

        Raises DigestInvalid where the digest does not hold: the upload ends then, too. StorageFull.
        """

    async def cancel(self) -> None:
        """End the upload and forget what has arrived. Raises UploadUnknown where it has ended already."""

    async def require_unfinished(self) -> None:
        """Check that the upload has not ended, on whichever worker. Raises UploadUnknown."""


class WritableRepository(Repository, Protocol):
    """A repository of a project, as one principal uses it: `owner` names that one. Raises RegistryError."""

    async def referrers(self, digest: Digest, artifact_type: str | None, after: int = 0) -> FoundReferrers:
        """A page of the manifests whose subject is the digest; None for every artifact type.

        `after`: number where the page begins, as the page before it states; 0 for the first one. A page is small enough
        for clients, which refuse documents above 4 MiB. Empty where the repository does not exist: a registry with
        this endpoint never responds with 404 (distribution-spec, "Listing Referrers").
        """

    async def confirm_manifest(self, digest: Digest) -> FoundTarget:
        """Find what `stat_manifest` finds, for a client that may rely on it in a push: it is read from the database,
        and not collected for one full delay from now. Raises ManifestUnknown."""

    async def confirm_blob(self, digest: Digest) -> FoundSize:
        """Find what `stat_blob` finds, for a client that may rely on it in a push: it is read from the database, and
        not collected for one full delay from now. Raises BlobUnknown."""

    async def begin_upload(self, owner: str) -> UploadSession:
        """Begin an upload; the repository comes into being with it if it is the first. Raises TooManyRequests."""

    async def find_upload(self, id: str, owner: str) -> UploadSession:
        """Find an unfinished upload of this repository that this owner began. Raises UploadUnknown.

        One that another worker has ended may still be found: whatever is done to it then raises that.
        """

    async def mount(self, digest: Digest, source: LocalBlob | None) -> bool:
        """Take a blob over that the caller may read, without a copy; whether it is now in this repository.

        `source`: the open blob where it is not native content; None where it is. The caller has decided that whoever
        asks may read it, and closes it. Raises SourceDamaged where the bytes of the `source` are not its digest's.
        """

    async def put_manifest(
        self, manifest: Manifest, tags: tuple[Tag, ...], guard: TagGuard | None = None
    ) -> Mapping[Tag, Digest]:
        """Store a manifest and point tags to it, in one transaction, in which the repository comes into being.

        `guard`: the rules for tags as they are now; None for those that the repository was opened with. Return what
        the tags pointed to before, without those that are new.
        Raises ManifestBlobUnknown, which lists every reference that is not in this repository, ManifestInvalid where
        there are too many, Denied where a quota has no room, or a rule protects a tag, StorageFull.
        """

    async def delete_manifest(self, digest: Digest) -> datetime:
        """Delete a manifest with every tag that points to it; return until when these can be restored at least.

        Raises ManifestUnknown; Denied where an index of the repository lists it, or a rule protects one of these tags.
        """

    async def delete_tag(self, tag: Tag) -> DeletedTag:
        """Delete a tag; its manifest stays. Raises ManifestUnknown; Denied where a rule protects it."""

    async def delete_blob(self, digest: Digest) -> None:
        """Take a blob out of the repository. Raises BlobUnknown; Denied where a manifest of the repository needs it."""
