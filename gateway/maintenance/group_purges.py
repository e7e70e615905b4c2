"""GroupPurger: purges the caches of groups as owners have requested, and as the policies of groups say.

What is to be done are rows of the database. Images are evicted one by one, and how far a purge has come is stored at
intervals; who is interrupted leaves the row, and whoever goes on finds only what is left. Nothing that a group pulls
after a purge was requested is purged by it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from gateway.db import cache_purges, groups, image_ttl_policies
from gateway.db.cache_purges import CachePurge
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.maintenance.group_cache import PURGED, EvictedImage, ExpiredImage, GroupCache
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy

log = structlog.get_logger()

STORE_SECONDS = 1.0
"""Seconds between two moments at which the progress of a purge is stored."""

POLICY_INTERVAL = timedelta(days=1)
"""How often a policy is applied (GitLab, "Cleanup policies")."""

Expired = Callable[[Group, ExpiredImage, EvictedImage], None]
"""Called with a group, what of an image had expired for it, and what became of that."""


class GroupPurger:
    """Does what is due. For one task of one process of a host at a time. Raises DatabaseUnusable."""

    def __init__(self, database: Database, cache: GroupCache, clock: Callable[[], datetime], expired: Expired) -> None:
        self._database = database
        self._cache = cache
        self._clock = clock
        self._expired = expired

    async def purge(self) -> None:
        """Bring all purges to their ends that were requested."""
        for purge in await self._database.query(cache_purges.list_open):
            await self._purge(purge)

    async def apply_policies(self) -> None:
        """Apply the policies that were not applied for a day."""
        due = partial(image_ttl_policies.list_due, before=self._clock() - POLICY_INTERVAL)
        for policy in await self._database.query(due):
            await self._apply(policy)

    async def tidy(self) -> None:
        """Forget pulls of images of which nothing is cached any more, and those of groups that are no more."""
        known = await asyncio.to_thread(self._cache.usage.tenants)
        gone = [id for id in known if await self._find_group(id) is None]
        await asyncio.to_thread(self._cache.tidy, gone)

    async def _purge(self, purge: CachePurge) -> None:
        images = await asyncio.to_thread(self._cache.images_of, purge.group_id, purge.requested_at)
        total = len(images) if purge.images is None else max(purge.images, len(images))
        purge = replace(purge, images=total, purged=total - len(images))
        await self._store(purge)
        stored_at = time.monotonic()
        for image in images:
            evicted = await asyncio.to_thread(self._cache.evict, purge.group_id, image, PURGED)
            purge = replace(
                purge,
                purged=purge.purged + 1,
                shared=purge.shared + evicted.shared,
                freed_bytes=purge.freed_bytes + evicted.bytes,
            )
            if time.monotonic() - stored_at >= STORE_SECONDS:
                await self._store(purge)
                stored_at = time.monotonic()
        await self._store(replace(purge, completed_at=self._clock()))
        counts = {"images": purge.purged, "shared": purge.shared, "freed_bytes": purge.freed_bytes}
        log.info("cache_purged", group_id=purge.group_id, who=purge.who, request_id=purge.request_id, **counts)

    async def _apply(self, policy: ImageTtlPolicy) -> None:
        group, before = await self._find_group(policy.group_id), policy.expired_before(self._clock())
        images = await asyncio.to_thread(self._cache.expired, policy.group_id, before)
        reason = f"no pull of it for {policy.ttl} days, after which the policy of its group purges"
        for image in images if group is not None else ():
            evicted = await asyncio.to_thread(self._cache.evict_expired, policy.group_id, image, reason)
            if group is not None:
                self._expired(group, image, evicted)
        note = partial(image_ttl_policies.note_applied, group_id=policy.group_id, now=self._clock())
        await self._database.transact(note, durable=False)

    async def _find_group(self, id: int) -> Group | None:
        async def find(connection: Connection) -> Group | None:
            return await groups.find_by_id(connection, id)

        return await self._database.query(find)

    async def _store(self, purge: CachePurge) -> None:
        """Store how far a purge has come; a power failure may undo that, and the purge then goes on from before."""
        await self._database.transact(partial(cache_purges.note_progress, purge=purge), durable=False)
