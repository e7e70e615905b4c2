"""PurgeRequests: purges of the caches of groups as owners request them, and see how far they have come."""

from dataclasses import dataclass
from functools import partial

from gateway.db import cache_purges
from gateway.db.cache_purges import CachePurge
from gateway.db.engine import Database
from gateway.services import Services


@dataclass(frozen=True, slots=True)
class PurgeRequests:
    """Requests, which are rows of the database: a GroupPurger does what they say. Raises DatabaseUnusable."""

    database: Database

    @classmethod
    def of(cls, services: Services) -> "PurgeRequests":
        return cls(services.native.uploads.native.database)

    async def request(self, purge: CachePurge) -> bool:
        """Store a request; return whether it is taken: none is within an hour of the last one."""
        return await self.database.transact(partial(cache_purges.request, wanted=purge))

    async def find(self, group_id: int) -> CachePurge | None:
        """Find the last purge of a group."""
        return await self.database.query(partial(cache_purges.find, group_id=group_id))


__all__ = ["CachePurge", "PurgeRequests"]
