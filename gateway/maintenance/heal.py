"""Healer: fetches again what was found damaged, as one of the images that had a right to it."""

import structlog

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName
from cache.proxy.repository import ProxiedRepository
from cache.proxy.shared import PullThrough
from cache.upstream.client import UpstreamClient
from cache.values import Link, Source
from gateway.directory.directory import Directory
from gateway.namespaces.group import Group
from gateway.upstreams import Upstreams

log = structlog.get_logger()


class Healer:
    def __init__(self, directory: Directory, upstreams: Upstreams, shared: PullThrough) -> None:
        self._directory = directory
        self._upstreams = upstreams
        self._shared = shared

    async def heal(self, digest: Digest, images: list[tuple[Source, RepositoryName]], *, document: bool) -> bool:
        """Whether an upstream gave it again. `document`: it is a manifest. Raises DatabaseUnusable."""
        groups = await self._directory.list_groups()
        for source, image in images:
            client = self._client(source, image, groups)
            if client is None:
                continue
            try:
                await self._fetch(ProxiedRepository(self._shared, client, image), Link(source, image, digest), document)
            except RegistryError as error:
                log.warning("not_healed", digest=str(digest), image=str(image), reason=str(error))
            else:
                log.info("healed", digest=str(digest), image=str(image))
                return True
        log.warning("left_unhealed", digest=str(digest), images=len(images))
        return False

    async def _fetch(self, repository: ProxiedRepository, link: Link, document: bool) -> None:
        """Raises RegistryError. What came is recorded by then or soon after, even if nobody waits."""
        if document:
            found = await repository.manifest(link.digest)
            await self._shared.index.record(found.manifest, link)  # it may have been in memory
            return
        blob = (await repository.blob(link.digest)).blob
        try:
            await blob.verified()
        finally:
            blob.close()

    def _client(self, source: Source, image: RepositoryName, groups: list[Group]) -> UpstreamClient | None:
        """None where no group and upstream lead there any more, or the settings do not allow it now."""
        for name in self._upstreams.names:
            if not self._upstreams.get(name).permits(image):
                continue
            for group in groups:
                if group.proxy_enabled and self._upstreams.source(group, name) == source:
                    return self._upstreams.client(group, name)
        return None
