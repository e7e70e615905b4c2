"""Prefetching: who was given a new image's manifest asks for its config and layers next, so they may start at once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from cache.download.flight import KEEP_SIZE, Follower
from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.manifest import Manifest
from cache.runtime.tasks import Tasks
from cache.upstream.errors import UpstreamError
from cache.values import Source

BLOBS = 4
"""Of one image: config and three layers, which is what docker and containerd ask for at once. More would start before
anybody wants them, and end as unwanted before they are asked for."""

PER_SOURCE = 8
HELD = 5.0
"""Seconds for which a download waits for its client, before it counts as one that nobody reads."""

Bring = Callable[[Digest], Awaitable[Follower | None]]


def chosen(manifest: Manifest) -> list[Digest]:
    """What is asked for next; nothing of an index, of which a client takes one child.

    Large blobs wait until they are asked for: some milliseconds are nothing to them, several at once look to a fill
    like a slow upstream, and what nobody asks for would be given up, and later be fetched again.
    """
    blobs = [entry for entry in manifest.references() if not entry.is_manifest] if manifest.config else []
    first = list(dict.fromkeys(blobs))[:BLOBS]
    return [entry.digest for entry in first if entry.size <= KEEP_SIZE and _is_distributable(entry)]


def _is_distributable(entry: Descriptor) -> bool:
    """Others are fetched from elsewhere (image-spec, "Non-Distributable Layers")."""
    return "nondistributable" not in entry.media_type and ".foreign." not in entry.media_type


class Prefetching:
    """Bounded per source; `spare` tells whether a source's quota leaves something for what nobody asked for yet."""

    def __init__(self, tasks: Tasks, spare: Callable[[Source], bool] = lambda source: True) -> None:
        self._tasks = tasks
        self._spare = spare
        self._running: dict[tuple[Source, Digest], bool] = {}

    def begin(self, source: Source, manifest: Manifest, bring: Bring) -> None:
        """`bring` joins or begins a download; None where there is nothing to do."""
        if not self._spare(source):
            return
        busy = sum(1 for running, _ in self._running if running == source)
        for digest in chosen(manifest)[: max(0, PER_SOURCE - busy)]:
            if (source, digest) not in self._running:
                self._running[source, digest] = False
                self._tasks.start(self._hold(source, digest, bring), f"prefetch {digest}")

    def claim(self, source: Source, digest: Digest) -> bool:
        """Whether this download began for the caller, who is the first to ask for it."""
        if self._running.get((source, digest)) is not False:
            return False
        self._running[source, digest] = True
        return True

    async def _hold(self, source: Source, digest: Digest, bring: Bring) -> None:
        try:
            with suppress(RegistryError, UpstreamError, TimeoutError):
                follower = await bring(digest)
                if follower is not None:
                    try:
                        async with asyncio.timeout(HELD):
                            await follower.verified()
                    finally:
                        follower.close()
        finally:
            del self._running[source, digest]
