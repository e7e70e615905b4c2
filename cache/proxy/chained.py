"""ChainedRepository: an image that several upstreams may have, which are asked in their order.

A tag means what the first upstream says that has it. Only its own word that it has no such tag, or does not show it,
leads to the next one. While an upstream fails, nobody knows whether it has the tag: whoever publishes the name of an
image at a later upstream must not get to answer for an earlier one by an outage (dependency confusion). So then

- the request fails, if the failing upstream is known to have the image;
- later upstreams answer that are known to have the image, since that shows that the failing one did not have it when it
  was asked last;
- no other upstream is asked.

A digest means the same everywhere, so every upstream may answer for it, and those that are known to hold it go first.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, RegistryError
from cache.oci.names import Tag
from cache.policy.freshness import Freshness
from cache.proxy.repository import ProxiedRepository
from cache.repository import FoundBlob, FoundManifest, FoundReferrers, FoundSize, FoundTags, FoundTarget
from cache.values import BEGINNING, PageStart

T = TypeVar("T")
Call = Callable[[ProxiedRepository], Awaitable[T]]

_NOBODY = "no upstream has it, or shows it to this gateway"


class ChainedRepository:
    """One image of some upstreams in their order; implements Repository. Raises only RegistryError."""

    def __init__(self, repositories: Sequence[ProxiedRepository]) -> None:
        """`repositories`: the image at each upstream."""
        self._repositories = repositories
        self._serving: ProxiedRepository | None = None

    async def manifest(self, reference: Tag | Digest) -> FoundManifest:
        return await self._found(reference, lambda repository: repository.manifest(reference), ManifestUnknown)

    async def stat_manifest(self, reference: Tag | Digest) -> FoundTarget:
        return await self._found(reference, lambda repository: repository.stat_manifest(reference), ManifestUnknown)

    async def blob(self, digest: Digest) -> FoundBlob:
        return await self._found(digest, lambda repository: repository.blob(digest), BlobUnknown)

    async def stat_blob(self, digest: Digest) -> FoundSize:
        return await self._found(digest, lambda repository: repository.stat_blob(digest), BlobUnknown)

    async def tags(self, count: int | None, start: PageStart = BEGINNING) -> FoundTags:
        return await self._first(lambda repository: repository.tags(count, start), NameUnknown)

    async def referrers(self, digest: Digest, artifact_type: str | None) -> FoundReferrers:
        return await self._found(digest, lambda repository: repository.referrers(digest, artifact_type), NameUnknown)

    def prefetch(self, found: FoundManifest) -> None:
        """Begin to download what a client requests next that received a manifest of this repository."""
        if self._serving is not None:
            self._serving.blobs.prefetch(found)

    async def _found(self, reference: Tag | Digest, call: Call[T], unknown: type[RegistryError]) -> T:
        if isinstance(reference, Digest):
            return await self._any(reference, call, unknown)
        fresh = await self._fresh(reference)
        return await (self._served(fresh, call) if fresh is not None else self._first(call, unknown))

    async def _fresh(self, tag: Tag) -> ProxiedRepository | None:
        """The upstream that has answered for a tag, where its word still holds; None where one must be asked."""
        for repository in self._repositories:
            freshness = await repository.freshness(tag)
            if freshness is not Freshness.MISS:
                return repository if freshness is Freshness.FRESH else None
        return None

    async def _served(self, repository: ProxiedRepository, call: Call[T]) -> T:
        found = await call(repository)
        self._serving = repository
        return found

    async def _first(self, call: Call[T], unknown: type[RegistryError]) -> T:
        """The response of the first upstream that has what is wanted, as long as those before it say that they have
        not."""
        failure: RegistryError | None = None
        for repository in self._repositories:
            if failure is not None and not await repository.is_known():
                continue
            try:
                return await self._served(repository, call)
            except RegistryError as error:
                if error.is_absence:
                    continue
                if await repository.is_known():
                    raise
                failure = failure or error
        raise failure or unknown(_NOBODY)

    async def _any(self, digest: Digest, call: Call[T], unknown: type[RegistryError]) -> T:
        """The response of any upstream that has a digest."""
        holding = [repository for repository in self._repositories if await repository.holds(digest)]
        failure: RegistryError | None = None
        for repository in [*holding, *(other for other in self._repositories if other not in holding)]:
            try:
                return await self._served(repository, call)
            except RegistryError as error:
                if not error.is_absence:
                    failure = failure or error
        raise failure or unknown(_NOBODY)
