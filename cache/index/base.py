"""Index: tag pointers, links, manifests and sizes of what was pulled through."""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Protocol

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.values import BlobInfo, Link, Origin, Sighting, Source, TagPointer

Fact = TagPointer | Link | Manifest | BlobInfo


class Index(Protocol):
    def mark(self) -> Hashable:
        """Equal to an earlier one only if no answer has changed since, by whatever process."""

    async def find_pointer(self, source: Source, image: RepositoryName, tag: Tag) -> TagPointer | None: ...

    async def find_manifest(self, digest: Digest) -> Manifest | None:
        """The document alone; whether somebody may have it is told by `linked`."""

    async def linked(self, link: Link) -> bool: ...

    async def known_at(self, origin: Origin, digest: Digest) -> bool:
        """Whether any image of this origin, with whatever credential, has a link to the digest."""

    async def record(self, *facts: Fact) -> None:
        """All of them or none, in one transaction; a newer pointer takes the place of an older one."""

    async def forget(self, source: Source, image: RepositoryName, tag: Tag | None = None) -> None:
        """One tag's pointer; without a tag every pointer and link of the image."""


class History(Protocol):
    """What tags pointed to over time: every recorded pointer is a sighting. It gives no right to anything."""

    async def sightings(self, source: Source, image: RepositoryName) -> list[Sighting]:
        """Of all tags of the image; no revocation and no eviction takes them back."""

    async def manifests(self, source: Source, image: RepositoryName) -> set[Digest]:
        """Those that are here and that the image has a link to."""


class Sizes(Protocol):
    """What the bytes of a blob must come to for it to be here at all."""

    async def find_size(self, digest: Digest) -> int | None:
        """Bytes of a blob that is, or was, here; None where nothing is known of it."""

    async def drop(self, digest: Digest, unless: Callable[[], bool]) -> None:
        """Bytes and links of a digest, unless what stood against it has been put right: that is asked at a moment at
        which no other process can record anything. It blocks a thread."""


class FullIndex(Index, Sizes, History, Protocol):
    """All of them, as one file has them."""


class UsageRecorder(Protocol):
    """When something was last used; may vanish."""

    def touch(self, digest: Digest, now: datetime) -> None: ...
