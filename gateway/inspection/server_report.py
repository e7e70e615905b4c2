"""Report of a server for whoever looks after it: its disk, cache, garbage collection, purges and keys."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cache.index.admin import CacheAdmin, CacheTotals
from cache.runtime.disk import DiskSpace, disk_space
from gateway.db import cache_purges, collection_state
from gateway.db.cache_purges import CachePurge
from gateway.db.collection_state import CollectionState, Waiting
from gateway.keys.sealing import KEYS_DIRECTORY
from gateway.keys.signing import SigningKey, SigningKeys, SigningKeysUnusable
from gateway.services import Services
from gateway.upstreams import UpstreamState


@dataclass(frozen=True, slots=True)
class ServerReport:
    """A server at one moment. `upstreams`: as the process that reports knows them. `purges`: those of groups' caches
    that are not done. `keys`: the newest first; None where their file cannot be used."""

    disk: DiskSpace
    cache: CacheTotals
    upstreams: Sequence[UpstreamState]
    collection: CollectionState
    waiting: Waiting
    purges: Sequence[CachePurge]
    keys: Sequence[SigningKey] | None


async def report_server(services: Services) -> ServerReport:
    """Report a server. Nothing is requested of an upstream. Raises DatabaseUnusable."""
    database = services.native.uploads.native.database
    disk, cache, keys = await asyncio.to_thread(_read_files, services)
    async with database.read() as connection:
        collection = await collection_state.read(connection)
        waiting = await collection_state.waiting(connection)
        purges = await cache_purges.list_open(connection)
    upstreams = services.upstreams.states(services.pull_through.waiting_misses())
    return ServerReport(disk, cache, upstreams, collection, waiting, purges, keys)


def _read_files(services: Services) -> tuple[DiskSpace, CacheTotals, Sequence[SigningKey] | None]:
    folder, now = services.folder, services.clock()
    return disk_space(folder.data), CacheAdmin(folder.index).totals(), _keys(services, now)


def _keys(services: Services, now: datetime) -> Sequence[SigningKey] | None:
    try:
        return SigningKeys(services.folder.data / KEYS_DIRECTORY).published(now)[::-1]
    except SigningKeysUnusable:
        return None
