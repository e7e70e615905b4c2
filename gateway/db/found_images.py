"""Queries that find tags, images and repositories in all projects of a reach: by names, by digests, by their dates.

Each goes by the repositories of those projects, so that how long it takes tells nothing of what lies in others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import projects
from gateway.db.schema import Moment, manifests, repositories, tags
from gateway.namespaces.reach import PullReach

_LAST = "\x7f"
"""A character after all those of which names of tags are made."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that was found, in its repository. `tag`: its name; None for a digest to which no tag points.
    `published_at`: when that moved last."""

    repository_id: int
    project_id: int
    path: str
    tag: str | None
    published_at: datetime | None


async def with_tags(connection: AsyncConnection, reach: PullReach, prefix: str, limit: int) -> list[FoundImage]:
    """Find repositories with tags whose names begin with a text, each with the first of them, by path."""
    named = tags.c.name >= prefix, tags.c.name < f"{prefix}{_LAST}"
    of_this = tags.c.repository_id == repositories.c.id
    first = select(tags.c.name).where(of_this, *named).order_by(tags.c.name).limit(1).scalar_subquery()
    within = await _within(connection, reach)
    found = _selected(first, literal(None, Moment)).where(within).subquery()
    query = select(found).where(found.c.tag.is_not(None)).order_by(found.c.path)
    return await _found(connection, query, limit)


async def with_digest(connection: AsyncConnection, reach: PullReach, digest: str, limit: int) -> list[FoundImage]:
    """Find the image of a digest, in each repository that has it, with the first of the tags that point to it."""
    query = (
        _selected(func.min(tags.c.name), func.max(tags.c.moved_at))
        .join(manifests, manifests.c.repository_id == repositories.c.id)
        .outerjoin(tags, tags.c.manifest_id == manifests.c.id)
        .where(await _within(connection, reach), manifests.c.digest == digest)
        .group_by(repositories.c.id, repositories.c.project_id, repositories.c.path)
        .order_by(repositories.c.path)
    )
    return await _found(connection, query, limit)


async def published_last(connection: AsyncConnection, reach: PullReach, limit: int) -> list[FoundImage]:
    """Find the repositories in which a tag moved last, each with that tag, the latest first."""
    moved = select(func.max(tags.c.moved_at)).where(tags.c.repository_id == repositories.c.id).scalar_subquery()
    latest = _selected(literal(None, String), moved).where(await _within(connection, reach))
    top = latest.order_by(moved.desc().nulls_last(), repositories.c.path).limit(limit).subquery()
    of_this = tags.c.repository_id == top.c.id, tags.c.moved_at == top.c.published_at
    name = select(func.max(tags.c.name)).where(*of_this).scalar_subquery()
    chosen = select(top.c.id, top.c.project_id, top.c.path, name.label("tag"), top.c.published_at)
    query = chosen.where(top.c.published_at.is_not(None)).order_by(top.c.published_at.desc(), top.c.path)
    return await _found(connection, query, limit)


async def _within(connection: AsyncConnection, reach: PullReach) -> ColumnElement[bool]:
    viewable = await projects.select_viewable(connection, reach, "")
    return repositories.c.project_id.in_(viewable) & repositories.c.deleted_at.is_(None)


def _selected(name: Any, published_at: Any) -> "Select[Any]":
    own = repositories.c.id, repositories.c.project_id, repositories.c.path
    return select(*own, name.label("tag"), published_at.label("published_at"))


async def _found(connection: AsyncConnection, query: "Select[Any]", limit: int) -> list[FoundImage]:
    rows: Sequence[Any] = (await connection.execute(query.limit(limit))).all()
    return [FoundImage(row.id, row.project_id, row.path, row.tag, row.published_at) for row in rows]
