"""NativeParts: what all native repositories of one process share."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cache.oci.errors import Busy
from cache.runtime.fair_queue import Requester
from cache.runtime.turns import NoTurn, Turns
from gateway.db.engine import Database
from gateway.registry.blob_files import BlobFiles
from gateway.registry.memory import NativeMemory
from gateway.registry.stored_sources import StoredSources
from gateway.registry.uploads import Uploads

LISTS_AT_ONCE, SPARE_LISTS = 2, 2
"""Lists of tags that a process reads at a time, of up to 10,000 names in 5 ms, and further ones of whoever has none."""
LIST_WAIT = 10.0
"""Seconds that a reader waits for its turn."""


@dataclass(frozen=True, slots=True)
class NativeParts:
    """Rows, files and uploads of native content, and what this process remembers of them. `kept`: how long content
    stays at least that nothing needs."""

    database: Database
    uploads: Uploads
    files: BlobFiles
    sources: StoredSources
    memory: NativeMemory
    clock: Callable[[], datetime]
    kept: timedelta
    _listing: Turns = field(init=False, default_factory=lambda: Turns(LISTS_AT_ONCE, SPARE_LISTS, LIST_WAIT))

    @asynccontextmanager
    async def listing(self, who: Requester) -> AsyncIterator[None]:
        """Hold a turn for reading a list of tags within the block. Raises Busy."""
        try:
            async with self._listing.turn(who):
                yield
        except NoTurn as error:
            raise Busy("too many lists of tags are read at once: try again") from error
