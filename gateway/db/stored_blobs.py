"""Queries of all native blobs, for those who look after the files: backup, verification, scrub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, create_engine, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from cache import sqlite
from cache.oci.digest import Digest
from gateway.db import schema

_blobs = schema.blobs
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RecordedBlob:
    """A native blob as it is recorded: the file of this digest has this size, in bytes."""

    digest: Digest
    size: int


async def list_page(connection: AsyncConnection, after: str, limit: int) -> list[RecordedBlob]:
    """List the first `limit` blobs after the text of a digest, in the order of their digests."""
    return [_blob(row) for row in await connection.execute(_after(after, limit))]


def read_copy(path: Path) -> Iterator[RecordedBlob]:
    """Read every blob from a copy of an SQLite file that nobody changes, in the order of their digests.

    A copy of a revision without native blobs has none. Raises DatabaseUnusable.
    """
    engine = create_engine(sqlite.url("sqlite", path), poolclass=NullPool)
    sqlite.listen(engine)
    with sqlite.reading(engine, path) as connection:
        if not inspect(connection).has_table(_blobs.name):
            return
        after = ""
        while page := [_blob(row) for row in connection.execute(_after(after, _PAGE))]:
            yield from page
            after = str(page[-1].digest)


def _after(after: str, limit: int) -> Select[Any]:
    later = select(_blobs.c.digest, _blobs.c.size).where(_blobs.c.digest > after)
    return later.order_by(_blobs.c.digest).limit(limit)


def _blob(row: Row[Any]) -> RecordedBlob:
    return RecordedBlob(Digest.parse(row.digest), row.size)
