"""Index: tag pointers, links, manifests and sizes of what was pulled through."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cache.index.lists import Lists
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.values import Ancestor, BlobInfo, Link, Registry, Sighting, Source, TagPointer

Fact = TagPointer | Link | Manifest | BlobInfo


class SizeConflict(Exception):
    """A digest was recorded with another size before, so one of the two is not that of its content."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Content of an image: the two tags whose pointers were checked last, and whether it has any pointer or link."""

    tags: tuple[Tag, ...] = ()
    any: bool = False


class Index(Protocol):
    """Records of one cache as the pull-through cache reads and writes them."""

    def mark(self) -> Hashable:
        """Mark of the index's state: equal marks mean that no result has changed in between, in any process."""

    async def find_pointer(self, source: Source, image: RepositoryName, tag: Tag) -> TagPointer | None: ...

    async def find_manifest(self, digest: Digest) -> Manifest | None:
        """Find the document alone; whether an image may serve it is decided by `linked`."""

    async def linked(self, link: Link) -> bool: ...

    async def known_at(self, registry: Registry, digest: Digest) -> bool:
        """Whether any image of this registry, under any credential, has a link to the digest."""

    async def record(self, *facts: Fact) -> None:
        """Record all facts or none, in one transaction; a newer pointer replaces an older one.

        Raises SizeConflict for a blob that was recorded with another size.
        """

    async def forget(self, source: Source, image: RepositoryName, reference: Tag | Digest | None = None) -> None:
        """Delete a tag's pointer, or the image's link to a digest; for None, every pointer and link of the image."""

    async def holdings(self, source: Source, image: RepositoryName) -> Holdings:
        """Find what a refusal of the image would take away."""


class History(Protocol):
    """History of tags: every recorded pointer is a sighting. It grants no right to anything."""

    async def sightings(self, source: Source, image: RepositoryName, tag: Tag | None = None) -> list[Sighting]:
        """Sightings of a tag of the image, or of all its tags; revocation and eviction do not delete them."""

    async def ancestors(self, source: Source, image: RepositoryName, digest: Digest) -> list[Ancestor]:
        """The digest itself, and the cached manifests that lead to it and that the image has a link to, or has had
        under a tag; the cost does not depend on how many tags the image has."""


class Sizes(Protocol):
    """Sizes of blobs: a blob counts as cached only if its file has the recorded size."""

    async def find_size(self, digest: Digest) -> int | None:
        """Find the size in bytes of a blob that is, or was, cached; None if it is unknown."""

    async def recorded_size(self, digest: Digest) -> int | None:
        """Read the size of a blob that has a row now, whatever is in memory; None, also for the memory, without one."""

    async def drop(self, digest: Digest, unless: Callable[[], bool]) -> None:
        """Delete the row and links of a digest, unless `unless` returns True. It is called in a thread, at a moment at
        which no other process can record anything."""


class FullIndex(Index, Sizes, History, Protocol):
    """Index, sizes, history and lists together, as one file holds them."""

    @property
    def lists(self) -> Lists: ...


class UsageRecorder(Protocol):
    """Recorder of the time of last use; its data may be lost."""

    def touch(self, digest: Digest, now: datetime) -> None: ...
