"""Manifests of a repository as they are stored, read a few at a time for lists of many."""

from collections.abc import AsyncIterator, Iterable
from functools import partial

from cache.oci.digest import Digest
from gateway.db import manifests
from gateway.db.engine import Database
from gateway.db.manifests import StoredManifest

_AT_ONCE = 16
"""Manifests that are in memory at once, each of at most 4 MiB."""


async def read_in_parts(
    database: Database, repository_id: int, digests: Iterable[Digest]
) -> AsyncIterator[list[StoredManifest]]:
    """Read those of the digests of which a repository has manifests, each once. Raises DatabaseUnusable."""
    wanted = list(dict.fromkeys(digests))
    for first in range(0, len(wanted), _AT_ONCE):
        part = wanted[first : first + _AT_ONCE]
        stored = await database.query(partial(manifests.read_some, repository_id=repository_id, digests=part))
        yield list(stored.values())
