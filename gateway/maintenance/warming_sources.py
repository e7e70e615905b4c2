"""Warming sources: warm an image through the running server, or in this process if no server runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cache.download.flight import Flights
from cache.download.progress import FlightState
from cache.index.admin import CacheAdmin
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.proxy.warming import WarmingSource
from cache.repository import Repository
from cache.store.base import BlobStore, is_stored
from cache.store.filesystem import FilesystemStore
from cache.upstream.egress import Egress
from cache.upstream.lists import page_query
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import ImageKey, PageStart, Source, TagPage
from gateway.data_folder import CacheFolder, announced_server, server_lock
from gateway.namespaces.paths import proxied_name
from gateway.repositories import check_upstream_allows, find_image, image_key, open_repository
from gateway.services import Services

_CHUNK = 1024 * 1024
_COMMIT_SECONDS = 60.0
_RESPONSE_SECONDS = 60.0
"""A server that waits for an upstream itself is given longer than an upstream is."""


class _CacheState:
    """The cached blobs of one image, and what its upstream's quota allows."""

    def __init__(
        self, image: ImageKey, admin: CacheAdmin, store: BlobStore, has_spare_quota: Callable[[Source], bool]
    ) -> None:
        self.source = image.source
        self._sizes = admin.sizes(admin.linked(image.source, image.name))
        self._store = store
        self._has_spare_quota = has_spare_quota

    def holds(self, digest: Digest) -> bool:
        return is_stored(self._store, digest, self._sizes.get(digest))

    def has_quota(self) -> bool:
        return self._has_spare_quota(self.source)


class LocalWarmingSource:
    """Warms an image by downloads of this process."""

    def __init__(self, state: _CacheState, repository: Repository, flights: Flights) -> None:
        self.holds = state.holds
        self.has_quota = state.has_quota
        self._source = state.source
        self._repository = repository
        self._flights = flights

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        return (await self._repository.manifest(reference)).manifest

    async def fetch(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        blob = (await self._repository.blob(digest)).blob
        try:
            await self._watched(digest, arrived)
            await blob.verified()
            await self._committed(digest)
        finally:
            blob.close()

    async def _watched(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        """Tell what arrives of a download until its outcome is known."""
        flight, told = self._flights.find(self._source, digest), 0
        while flight is not None and flight.state in (FlightState.WAITING, FlightState.STREAMING):
            await flight.changed()
            arrived(flight.written - told)
            told = flight.written

    async def _committed(self, digest: Digest) -> None:
        """Wait until a verified blob is stored, since this process may exit next."""
        flight = self._flights.find(self._source, digest)
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMMIT_SECONDS):
                while flight is not None and flight.state is FlightState.VERIFIED:
                    await flight.changed()

    async def tags(self, count: int, start: PageStart) -> TagPage:
        return (await self._repository.tags(count, start)).page


class ServerWarmingSource:
    """Warms an image by pulls from the running server, so its rules and shared downloads apply."""

    def __init__(self, state: _CacheState, client: RegistryClient, name: RepositoryName) -> None:
        self.holds = state.holds
        self.has_quota = state.has_quota
        self._client = client
        self._name = name

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        return await self._client.get_manifest(self._name, reference)

    async def fetch(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        await asyncio.to_thread(self._drain, digest, arrived)

    async def tags(self, count: int, start: PageStart) -> TagPage:
        return await self._client.tags(self._name, page_query(count, start))

    def _drain(self, digest: Digest, arrived: Callable[[int], None]) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with self._client.open_blob(self._name, digest) as stream:
            while received := stream.receive_into(buffer):
                arrived(received)


class WarmingSources:
    """Opens the warming source of an image; looks for a server each time, since one may start or stop meanwhile."""

    def __init__(self, services: Services, data: Path) -> None:
        folder = CacheFolder(data)
        self._services = services
        self._data = data
        self._admin = CacheAdmin(folder.index)
        self._store = FilesystemStore(folder.blobs)

    @asynccontextmanager
    async def open(self, name: str, group: str) -> AsyncIterator[WarmingSource]:
        """Open the source of `[UPSTREAM/]NAME` below a group. Raises RegistryError."""
        services = self._services
        location = await find_image(name, group, services)
        check_upstream_allows(location, services.upstreams)
        image = image_key(location, None, services.upstreams)
        state = _CacheState(image, self._admin, self._store, services.upstreams.has_spare_quota)
        url = running_server_url(self._data)
        if url is None:
            opened = open_repository(location, services)
            yield LocalWarmingSource(state, opened.repository, services.pull_through.flights)
            return
        egress = Egress(Reach(private_addresses=True, timings=UpstreamTimings(read=_RESPONSE_SECONDS)))
        try:
            server = Source(origin_of(url))
            client = RegistryClient(server, url, egress, Tokens(server.origin, frozenset(), lambda: None))
            path = proxied_name(location.group.path, f"{location.upstream}/{location.image}")
            yield ServerWarmingSource(state, client, RepositoryName.parse(path))
        finally:
            await egress.close()


def running_server_url(data: Path) -> str | None:
    """The URL of the server that holds the data folder's lock; None if none does, or if it is starting or stopping."""
    try:
        with server_lock(data, shared=True) as free:
            if free:
                return None
    except OSError:
        return None
    server = announced_server(data)
    return server.urls[0] if server and server.urls else None
