"""DigestTurns: those who want the lease of one digest, in the order in which they came.

A lease tells nobody that it is free, so whoever wants it looks again and again. Within a process one at a time does so
for each digest: a thousand pushes of one base layer would otherwise spend its time looking, and which of them goes next
would be left to chance.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cache.oci.digest import Digest


class DigestTurns:
    """One turn for each digest; for one event loop."""

    def __init__(self) -> None:
        self._queues: dict[Digest, _Queue] = {}

    @asynccontextmanager
    async def turn(self, digest: Digest) -> AsyncIterator[None]:
        """Wait for the turn of a digest, and have it within the block."""
        queue = self._queues.setdefault(digest, _Queue())
        queue.length += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[digest]


class _Queue:
    """The line for one digest: asyncio.Lock serves it in order, and `length` counts whoever waits or has the turn."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.length = 0
