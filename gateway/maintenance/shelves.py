"""Who carries what `cache warm` brings: the running server, as its client, or this process where none runs."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cache.download.flight import Flights
from cache.download.progress import State
from cache.index.admin import CacheAdmin
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.names import RepositoryName, Tag
from cache.proxy.warming import WarmingSource
from cache.repository import Repository
from cache.runtime.locks import try_lock
from cache.store.base import BlobStore
from cache.store.filesystem import FilesystemStore
from cache.upstream.egress import Egress, Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of
from cache.values import Source, TagPage
from gateway.cli.image import locate_image
from gateway.data_folder import CacheFolder
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.repositories import open_proxied
from gateway.services import Services

Spare = Callable[[Source], bool]
_About = tuple[CacheAdmin, BlobStore, Source, RepositoryName, Spare]
_PIECE = 1024 * 1024
_COMMIT_WITHIN = 60.0
_ANSWER_WITHIN = 60.0
"""Seconds; a server that waits for an upstream itself is given longer than an upstream is."""


class _Held:
    """What is here for an image, by the data folder itself."""

    def __init__(self, inventory: CacheAdmin, store: BlobStore, source: Source, image: RepositoryName, spare: Spare):
        self._linked = inventory.linked(source, image)
        self._store = store
        self._source = source
        self._spare = spare

    def holds(self, digest: Digest) -> bool:
        return digest in self._linked and self._store.stat(digest) is not None

    def has_quota(self) -> bool:
        return self._spare(self._source)


class OwnShelf(_Held):
    """In this process."""

    def __init__(self, held: _About, repository: Repository, flights: Flights) -> None:
        super().__init__(*held)
        self._repository = repository
        self._flights = flights

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        return (await self._repository.manifest(reference)).manifest

    async def fetch(self, digest: Digest) -> None:
        blob = (await self._repository.blob(digest)).blob
        try:
            await blob.verified()
            await self._rested(digest)
        finally:
            blob.close()

    async def _rested(self, digest: Digest) -> None:
        """This process may end next: not before what is right has come to rest."""
        flight = self._flights.find(self._source, digest)
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMMIT_WITHIN):
                while flight is not None and flight.state is State.VERIFIED:
                    await flight.changed()

    async def tags(self, count: int, last: str | None) -> TagPage:
        return await self._repository.tags(count, last)


class ServerShelf(_Held):
    """Through the running server, whose downloads and rules count."""

    def __init__(
        self,
        held: _About,
        client: RegistryClient,
        name: RepositoryName,
    ) -> None:
        super().__init__(*held)
        self._client = client
        self._name = name

    async def manifest(self, reference: Tag | Digest) -> Manifest:
        return await self._client.get_manifest(self._name, reference)

    async def fetch(self, digest: Digest) -> None:
        await asyncio.to_thread(self._drain, digest)

    async def tags(self, count: int, last: str | None) -> TagPage:
        return await self._client.tags(self._name, count, last)

    def _drain(self, digest: Digest) -> None:
        buffer = memoryview(bytearray(_PIECE))
        with self._client.open_blob(self._name, digest) as stream:
            while stream.receive_into(buffer):
                pass


class Shelves:
    """Opens the shelf of an image; looks anew for a server each time, since one may start or stop meanwhile."""

    def __init__(self, services: Services, inventory: CacheAdmin, data: Path, spare: Spare) -> None:
        self._services = services
        self._inventory = inventory
        self._data = data
        self._store = FilesystemStore(CacheFolder(data).blobs)
        self._spare = spare

    @asynccontextmanager
    async def open(self, name: str, group: str) -> AsyncIterator[WarmingSource]:
        """Raises RegistryError, Refused."""
        location = await locate_image(self._services, name, group)
        source = self._services.upstreams.source(location.group, location.upstream)
        held = (self._inventory, self._store, source, location.image, self._spare)
        url = running_server(self._data)
        if url is None:
            yield OwnShelf(held, open_proxied(location, self._services).repository, self._services.pull_through.flights)
            return
        egress = Egress(Reach(private_addresses=True, read_timeout=_ANSWER_WITHIN))
        try:
            server = Source(origin_of(url))
            client = RegistryClient(server, url, egress, Tokens(server.origin, frozenset(), lambda: None))
            path = f"{location.group.path}{PROXY_SEPARATOR}{location.upstream}/{location.image}"
            yield ServerShelf(held, client, RepositoryName.parse(path))
        finally:
            await egress.close()


def running_server(data: Path) -> str | None:
    """The URL of the server that uses the data folder; None if none does."""
    try:
        lock = os.open(data / "server.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if try_lock(lock, shared=True) else _announced_url(data)
    finally:
        os.close(lock)


def _announced_url(data: Path) -> str | None:
    try:
        addresses = json.loads((data / "run.json").read_text())["addresses"]
    except (OSError, ValueError, KeyError):
        return None  # it is only starting, or about to end
    return str(addresses[0])
