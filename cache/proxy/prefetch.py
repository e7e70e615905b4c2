"""Prefetcher: a client that was given a new image's manifest requests config and layers next, so they start at once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cache.download.follower import Follower
from cache.download.limits import DEFAULT_LIMITS
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.manifest import Manifest
from cache.oci.media_types import is_index
from cache.runtime.tasks import Tasks
from cache.upstream.errors import UpstreamError
from cache.values import Source

BLOBS = 4
"""Blobs of one image: config and three layers, which docker and containerd request at once. More would start before
any client wants them, and end as unwanted before they are requested."""

PER_SOURCE = 8

Download = Callable[[Digest], Awaitable[Follower | None]]


def chosen(manifest: Manifest) -> list[Digest]:
    """Choose the blobs that a client requests next; none for an index, of which a client takes one child.

    Large blobs are left until they are requested: they lose only milliseconds, several at once would make the upstream
    seem slow to a fill, and one that is never requested would be abandoned, and later fetched again. So are those whose
    size is not known.
    """
    first: dict[Descriptor, None] = {}
    for entry in manifest.references() if not is_index(manifest.descriptor.media_type) else ():
        if len(first) < BLOBS and not entry.is_manifest:
            first[entry] = None
    return [entry.digest for entry in first if 0 < entry.size <= DEFAULT_LIMITS.keep_size and entry.is_distributable]


class Prefetcher:
    """Downloads ahead, bounded per source.

    `spare`: whether a source's quota leaves something for content that no client has requested yet. `hold_seconds`:
    for how long a download waits for its client, before it counts as one without readers.
    """

    def __init__(
        self, tasks: Tasks, spare: Callable[[Source], bool] = lambda source: True, hold_seconds: float = 5.0
    ) -> None:
        self._tasks = tasks
        self._spare = spare
        self._hold_seconds = hold_seconds
        self._running: dict[tuple[Source, Digest], bool] = {}

    def begin(self, source: Source, manifest: Manifest, download: Download) -> None:
        """Start what a client with this manifest requests next. `download` joins or begins the download of a blob; it
        returns None where none is needed."""
        if not self._spare(source):
            return
        busy = sum(1 for running, _ in self._running if running == source)
        for digest in chosen(manifest)[: max(0, PER_SOURCE - busy)]:
            if (source, digest) not in self._running:
                self._running[source, digest] = False
                self._tasks.start(self._hold(source, digest, download), f"prefetch {digest}")

    def is_first_reader(self, source: Source, digest: Digest) -> bool:
        """Whether this prefetcher began the download and the caller is its first reader; later callers are not."""
        if self._running.get((source, digest)) is not False:
            return False
        self._running[source, digest] = True
        return True

    async def _hold(self, source: Source, digest: Digest, download: Download) -> None:
        try:
            with suppress(RegistryError, UpstreamError, TimeoutError):
                follower = await download(digest)
                if follower is not None:
                    try:
                        async with asyncio.timeout(self._hold_seconds):
                            await follower.verified()
                    finally:
                        follower.close()
        finally:
            del self._running[source, digest]
