"""Heal: fetches damaged content again, with the rights of one of the images that have a link to it."""

import structlog

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName
from cache.proxy.pull_through import PullThrough
from cache.proxy.repository import ProxiedRepository
from cache.upstream.client import UpstreamClient
from cache.values import Link, Source
from gateway.directory.directory import Directory
from gateway.namespaces.group import Group
from gateway.upstreams import Upstreams

log = structlog.get_logger()


class Healer:
    """Fetches content again through any group and upstream whose image has a link to it."""

    def __init__(self, directory: Directory, upstreams: Upstreams, shared: PullThrough) -> None:
        self._directory = directory
        self._upstreams = upstreams
        self._shared = shared

    async def heal(self, digest: Digest, images: list[tuple[Source, RepositoryName]], *, is_manifest: bool) -> bool:
        """Fetch a digest again; False if no upstream served it. `is_manifest`: whether it is a manifest.

        Raises DatabaseUnusable.
        """
        groups = await self._directory.list_groups()
        for source, image in images:
            client = self._find_client(source, image, groups)
            if client is None:
                continue
            try:
                await self._fetch(
                    ProxiedRepository(self._shared, client, image), Link(source, image, digest), is_manifest
                )
            except RegistryError as error:
                log.warning("not_healed", digest=str(digest), image=str(image), reason=str(error))
            else:
                log.info("healed", digest=str(digest), image=str(image))
                return True
        log.warning("left_unhealed", digest=str(digest), images=len(images))
        return False

    async def _fetch(self, repository: ProxiedRepository, link: Link, is_manifest: bool) -> None:
        """Fetch the content of one image. It is recorded before this returns or soon after. Raises RegistryError."""
        if is_manifest:
            found = await repository.manifest(link.digest)
            await self._shared.index.record(found.manifest, link)  # it may have come from memory
            return
        blob = (await repository.blob(link.digest)).blob
        try:
            await blob.verified()
        finally:
            blob.close()

    def _find_client(self, source: Source, image: RepositoryName, groups: list[Group]) -> UpstreamClient | None:
        """Find a client with the source's credential; None if no group and upstream use it, or settings forbid it."""
        for name in self._upstreams.names:
            if not self._upstreams.get(name).permits(image):
                continue
            for group in groups:
                if group.proxy_enabled and self._upstreams.source(group, name) == source:
                    return self._upstreams.client(group, name)
        return None
