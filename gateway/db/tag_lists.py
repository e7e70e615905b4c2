"""Queries that list tags with what they point to, from either end of a page, and the referrers of many images."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.db.batches import batches
from gateway.db.schema import Moment, manifests, tags
from gateway.db.storable import SOUGHT_TEXT
from gateway.db.tags import StoredTag
from gateway.db.windows import holds


class TagOrder(StrEnum):
    """What a list is sorted by; `published_at` is when a tag last moved to another image."""

    NAME = "name"
    PUBLISHED_AT = "published_at"


@dataclass(frozen=True, slots=True)
class TagPlace:
    """The place of a tag in a list; `moved_at` counts in one by time alone."""

    name: str
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class TagSelection:
    """A part of a list of tags: `limit` of them, after `marker` or, `backwards`, right before it; None: from the
    beginning. `search`: a text that names hold, in capitals or not; `exact`: the one name. None or empty for all."""

    order: TagOrder
    descending: bool
    limit: int
    marker: TagPlace | None = None
    backwards: bool = False
    search: str = ""
    exact: str | None = None


async def list_selected(connection: AsyncConnection, repository_id: int, wanted: TagSelection) -> list[StoredTag]:
    """List the tags of a selection in its order, and one more where there are more in the direction of its reading: at
    the end or, of one that is read backwards, at the beginning."""
    rows = (await connection.execute(_selected(repository_id, wanted).limit(wanted.limit + 1))).all()
    found = [StoredTag(Tag(row.name), Digest.parse(row.digest), row.created_at, row.moved_at) for row in rows]
    return found[::-1] if wanted.backwards else found


async def referrers_of(
    connection: AsyncConnection,
    repository_id: int,
    subjects: Collection[Digest],
    types: Collection[str] | None,
    limit: int,
) -> dict[Digest, list[tuple[str | None, Digest]]]:
    """The artifact types and digests of what refers to some images, by their digests, in the order of pushes; at most
    `limit` in all. `types`: only those of these artifact types; None for all."""
    found: dict[Digest, list[tuple[str | None, Digest]]] = {}
    for batch in batches(sorted({str(subject) for subject in subjects})):
        of_these = manifests.c.repository_id == repository_id, manifests.c.subject.in_(batch)
        query = select(manifests.c.subject, manifests.c.artifact_type, manifests.c.digest).where(*of_these)
        if types is not None:
            query = query.where(manifests.c.artifact_type.in_(sorted(types)))
        for row in await connection.execute(query.order_by(manifests.c.id).limit(limit)):
            found.setdefault(Digest.parse(row.subject), []).append((row.artifact_type, Digest.parse(row.digest)))
            limit -= 1
        if limit <= 0:
            break
    return found


def _selected(repository_id: int, wanted: TagSelection) -> "Select[Any]":
    columns = tags.c.name, manifests.c.digest, tags.c.created_at, tags.c.moved_at
    query = select(*columns).join_from(tags, manifests, tags.c.manifest_id == manifests.c.id)
    query = query.where(tags.c.repository_id == repository_id)
    if wanted.search:
        query = query.where(holds(tags.c.name, wanted.search))
    if wanted.exact is not None:
        query = query.where(tags.c.name == wanted.exact)
    falling = wanted.descending != wanted.backwards
    by_name = wanted.order is TagOrder.NAME
    if wanted.marker is not None:
        name = literal(wanted.marker.name, SOUGHT_TEXT)
        here: Any = tags.c.name if by_name else tuple_(tags.c.moved_at, tags.c.name)
        there: Any = name if by_name else tuple_(literal(wanted.marker.moved_at, Moment), name)
        query = query.where(here < there if falling else here > there)
    ordered: list[Any] = [tags.c.name] if by_name else [tags.c.moved_at, tags.c.name]
    return query.order_by(*(column.desc() if falling else column for column in ordered))
