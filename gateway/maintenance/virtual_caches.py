"""VirtualCaches: what is cached of the upstreams of virtual registries, listed and deleted."""

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cache.index.admin import CacheAdmin
from cache.index.entries import CacheEntries, CacheEntry
from cache.index.happenings import HappeningLog
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName, Tag, parse_reference
from cache.store.filesystem import FilesystemStore
from cache.values import CredentialId, ImageKey
from gateway.data_folder import CacheFolder
from gateway.db.windows import COUNTED, ListPart, ListWindow
from gateway.maintenance.evict import evict_images, plan_evictions
from gateway.namespaces.virtual_registry import VirtualUpstream
from gateway.virtual.clients import source_of

_PATH = re.compile(r"(.+)/(?:manifests|blobs)/([^/]+)", re.DOTALL)
_REASON = "it was deleted from the cache of its upstream"


@dataclass(frozen=True, slots=True)
class EntryName:
    """What names a cache entry: the id of its upstream, and its path there."""

    upstream_id: int
    path: str

    @property
    def id(self) -> str:
        """The text by which clients name it: both in base64, as in GitLab."""
        return urlsafe_b64encode(f"{self.upstream_id} {self.path}".encode()).decode()

    @classmethod
    def parse(cls, text: str) -> "EntryName | None":
        """Read such a text; None for any other."""
        try:
            plain = urlsafe_b64decode(text.replace("+", "-").replace("/", "_")).decode()
        except (Error, ValueError):
            return None
        number, _, path = plain.partition(" ")
        return cls(int(number), path) if number.isascii() and number.isdigit() and len(number) < 11 else None


class VirtualCaches:
    """Caches of upstreams in one folder. Raises DatabaseUnusable."""

    def __init__(self, folder: CacheFolder, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock

    async def list_part(self, upstream: VirtualUpstream, window: ListWindow) -> ListPart[CacheEntry]:
        """A part of what is cached of an upstream, in the order of its paths."""
        credential = source_of(upstream).credential

        def read() -> tuple[list[CacheEntry], int]:
            entries = CacheEntries(self._folder.index)
            return entries.part(credential, window.search, window.offset, window.limit + 1, COUNTED + 1)

        found, total = await asyncio.to_thread(read)
        known = total if total <= COUNTED else None
        return ListPart(found[: window.limit], len(found) > window.limit, known)

    async def delete_entry(self, upstream: VirtualUpstream, path: str) -> bool:
        """Delete one entry, with what nothing else needs of its image; whether there was one."""
        wanted = _image_of(upstream, path)
        return wanted is not None and await asyncio.to_thread(self._evict, [wanted])

    async def delete_all(self, upstream: VirtualUpstream) -> None:
        """Delete the files of what is cached of an upstream; nobody is served from them any more once its cache key is
        another one."""
        credential = source_of(upstream).credential

        def delete() -> None:
            self._evict(_images(self._folder, credential))

        await asyncio.to_thread(delete)

    def _evict(self, images: list[ImageKey]) -> bool:
        """Evict images; whether anything was there. Blocks."""
        admin = CacheAdmin(self._folder.index)
        planned = plan_evictions(images, admin)
        is_any = any(eviction.tags or eviction.digests for eviction in planned)
        happenings, store = HappeningLog(self._folder.usage), FilesystemStore(self._folder.blobs)
        evict_images(planned, admin, store, happenings, _REASON, self._clock())
        return is_any


def _images(folder: CacheFolder, credential: CredentialId) -> list[ImageKey]:
    return CacheEntries(folder.index).images(credential)


def _image_of(upstream: VirtualUpstream, path: str) -> ImageKey | None:
    """The image and the reference that the path of an entry names; None for what is no such path."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    try:
        reference: Tag | Digest = parse_reference(match[2])
        return ImageKey(source_of(upstream), RepositoryName.parse(match[1]), reference)
    except RegistryError:
        return None
