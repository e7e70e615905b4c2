"""Figures of native repositories: how many tags and manifests they have, and how many bytes these need."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.batches import batches
from gateway.db.schema import blob_links, blobs, manifests, repositories, tags


@dataclass(frozen=True, slots=True)
class RepositoryFigures:
    """`bytes`: of the blobs that are linked to the repository, which others may share, and of its manifests."""

    tags: int = 0
    manifests: int = 0
    bytes: int = 0


async def tag_counts_of(connection: AsyncConnection, ids: Collection[int]) -> dict[int, int]:
    """Count the tags of each of some repositories, by their ids."""
    found = dict.fromkeys(ids, 0)
    for batch in batches(sorted(ids)):
        of_tags = select(tags.c.repository_id, func.count()).where(tags.c.repository_id.in_(batch))
        found |= {id: counts[0] for id, counts in (await _grouped(connection, of_tags, tags.c.repository_id)).items()}
    return found


async def figures_of(connection: AsyncConnection, ids: Collection[int]) -> dict[int, RepositoryFigures]:
    """Count what each of some repositories holds, by their ids."""
    found: dict[int, RepositoryFigures] = {}
    for batch in batches(sorted(ids)):
        found |= await _figures_of(connection, batch)
    return found


async def bytes_of_all(connection: AsyncConnection, ids: Collection[int]) -> int:
    """Sum the bytes of the blobs of some repositories, each counted once, and of their manifests."""
    sizes: dict[str, int] = {}
    total = 0
    for batch in batches(sorted(ids)):
        of_blobs = select(blobs.c.digest, blobs.c.size).join(blob_links, blobs.c.digest == blob_links.c.digest)
        sizes |= {
            row.digest: row.size
            for row in await connection.execute(of_blobs.where(blob_links.c.repository_id.in_(batch)))
        }
        of_manifests = select(func.sum(func.length(manifests.c.raw))).where(manifests.c.repository_id.in_(batch))
        total += int(await connection.scalar(of_manifests) or 0)
    return total + sum(sizes.values())


async def last_published(connection: AsyncConnection, ids: Collection[int]) -> dict[int, datetime]:
    """When a tag of each of some repositories moved last, by their ids; those without tags are left out."""
    found: dict[int, datetime] = {}
    latest = select(func.max(tags.c.moved_at)).where(tags.c.repository_id == repositories.c.id).scalar_subquery()
    for batch in batches(sorted(ids)):
        rows = await connection.execute(
            select(repositories.c.id, latest.label("at")).where(repositories.c.id.in_(batch))
        )
        found |= {row.id: row.at for row in rows if row.at is not None}
    return found


async def _figures_of(connection: AsyncConnection, ids: list[int]) -> dict[int, RepositoryFigures]:
    of_tags = select(tags.c.repository_id, func.count()).where(tags.c.repository_id.in_(ids))
    of_manifests = select(manifests.c.repository_id, func.count(), func.sum(func.length(manifests.c.raw)))
    of_blobs = select(blob_links.c.repository_id, func.sum(blobs.c.size))
    of_blobs = of_blobs.join(blobs, blobs.c.digest == blob_links.c.digest)
    tag_rows = await _grouped(connection, of_tags, tags.c.repository_id)
    manifest_rows = await _grouped(
        connection, of_manifests.where(manifests.c.repository_id.in_(ids)), manifests.c.repository_id
    )
    blob_rows = await _grouped(
        connection, of_blobs.where(blob_links.c.repository_id.in_(ids)), blob_links.c.repository_id
    )
    nothing = (0, 0)
    return {
        id: RepositoryFigures(
            tags=tag_rows.get(id, nothing)[0],
            manifests=manifest_rows.get(id, nothing)[0],
            bytes=manifest_rows.get(id, nothing)[1] + blob_rows.get(id, nothing)[0],
        )
        for id in ids
    }


async def _grouped(connection: AsyncConnection, query: Select[Any], column: Any) -> dict[int, tuple[int, ...]]:
    """Read the numbers of a query, grouped by a column, which is its first one."""
    rows = await connection.execute(query.group_by(column))
    return {id: tuple(int(number) for number in numbers) for id, *numbers in rows}
