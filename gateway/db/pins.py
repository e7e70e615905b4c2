"""Queries of pins: a group or project whose pulls by tag show its repositories as they were at a moment.

Of several pins above a project the nearest counts. What a pin shows is looked up in the history of tags once, when it
is set, and kept in rows of its own, which garbage collection takes for tags.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import Denied
from cache.prepared import prepared
from gateway.db import paths, reviews, schema, tag_events
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce, announce_all
from gateway.namespaces.errors import PinRefused
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.node import NodeKey, NodeKind, prefixes_of
from gateway.namespaces.paths import parent_path

_groups = schema.groups
_projects = schema.projects
_repositories = schema.repositories
_pinned = schema.pinned_tags

NAMED_AT_MOST = 20
"""Tags that a refusal names whose manifests are collected."""

_PIN_OF = prepared(
    select(_projects.c.path, _projects.c.pinned_at)
    .join(_repositories, _repositories.c.project_id == _projects.c.id)
    .where(_repositories.c.id == bindparam("repository"))
)


@dataclass(frozen=True, slots=True)
class _Pinnable:
    """A project, and the moment as of which it is pulled from now, and is to be."""

    id: int
    path: str
    present: datetime | None
    wanted: datetime | None


async def pin(connection: AsyncConnection, key: NodeKey, path: str, moment: datetime | None, now: datetime) -> None:
    """Let pulls by tag from a group's or project's repositories show them as of a moment; None: as they are.

    Raises PinRefused where something of that moment is collected.
    """
    table = _groups if key.kind is NodeKind.GROUP else _projects
    await connection.execute(update(table).where(table.c.id == key.id).values(as_of=moment))
    await announce(connection, Concern.GROUP if key.kind is NodeKind.GROUP else Concern.PROJECT, path)
    await apply(connection, path, now)


async def apply(connection: AsyncConnection, path: str, now: datetime) -> None:
    """Let each project at or below a path show what the nearest pin says, in a few statements however many projects and
    repositories these are: pushes wait meanwhile. Raises PinRefused."""
    changed = [project for project in await _find_projects(connection, path) if project.present != project.wanted]
    by_moment: dict[datetime | None, list[_Pinnable]] = {}
    for project in changed:
        by_moment.setdefault(project.wanted, []).append(project)
    repositories: list[str] = []
    for moment, projects in by_moment.items():
        for batch in batches(project.id for project in projects):
            await _set(connection, batch, moment, now)
            own = _repositories.c.project_id.in_(batch), _repositories.c.deleted_at.is_(None)
            repositories += await connection.scalars(select(_repositories.c.path).where(*own))
    await announce_all(connection, Concern.REPOSITORY, repositories)
    await announce_all(connection, Concern.PROJECT, [project.path for project in changed])


async def require_unpinned(connection: AsyncConnection, repository_id: int) -> None:
    """Check that no pin keeps a repository as it is. Raises Denied, which names the pin."""
    row = (await connection.execute(_PIN_OF, {"repository": repository_id})).first()
    if row is not None and row.pinned_at is not None:
        await refuse(connection, row.path, row.pinned_at)


async def refuse(connection: AsyncConnection, project: str, moment: datetime) -> None:
    """Raise Denied, which names the pin of a project."""
    above = select(_groups.c.path).where(_groups.c.path.in_(prefixes_of(project)), _groups.c.as_of == moment)
    own = await connection.scalar(select(_projects.c.as_of).where(_projects.c.path == project))
    group: str | None = await connection.scalar(above.order_by(_groups.c.path.desc()).limit(1))
    place = f"project {project}" if own is not None or group is None else f"group {group}"
    raise Denied(
        f"{place} is pinned: what is pulled there is that of {format_moment(moment)}, and nothing can be changed until "
        "an administrator lifts the pin"
    )


async def _find_projects(connection: AsyncConnection, path: str) -> list[_Pinnable]:
    at_or_below = or_(_projects.c.path == path, paths.is_below(_projects.c.path, path))
    rows = await connection.execute(select(_projects).where(at_or_below).order_by(_projects.c.path))
    related = or_(_groups.c.path.in_(prefixes_of(path)), paths.is_below(_groups.c.path, path))
    pinning = select(_groups.c.path, _groups.c.as_of).where(related, _groups.c.as_of.is_not(None))
    pins = {row.path: row.as_of for row in await connection.execute(pinning)}
    return [_Pinnable(row.id, row.path, row.pinned_at, _nearest(row, pins)) for row in rows]


def _nearest(project: Row[Any], pins: dict[str, datetime]) -> datetime | None:
    """The moment of the pin of a project itself, or of the nearest group above it that has one."""
    own: datetime | None = project.as_of
    above = [pins[path] for path in reversed(prefixes_of(parent_path(project.path))) if path in pins]
    return own if own is not None else next(iter(above), None)


async def _set(connection: AsyncConnection, projects: Collection[int], moment: datetime | None, now: datetime) -> None:
    """Let some projects, at most BATCH, show their repositories as of a moment. Raises PinRefused."""
    pinned = update(_projects).where(_projects.c.id.in_(projects))
    await connection.execute(pinned.values(pinned_at=moment))
    own = select(_repositories.c.id).where(
        _repositories.c.project_id.in_(projects), _repositories.c.deleted_at.is_(None)
    )
    await reviews.review_unpinned(connection, own, now)
    await connection.execute(delete(_pinned).where(_pinned.c.repository_id.in_(own)))
    if moment is not None:
        await _hold(connection, own, moment)


async def _hold(connection: AsyncConnection, own: Select[tuple[int]], moment: datetime) -> None:
    """Keep rows of what the tags of some repositories pointed to at a moment. Raises PinRefused."""
    former = tag_events.select_former(schema.tag_events.c.repository_id.in_(own), moment).subquery("former")
    lost = (
        select(_repositories.c.path, former.c.name)
        .join(former, former.c.repository_id == _repositories.c.id)
        .where(~former.c.is_kept)
        .order_by(_repositories.c.path, former.c.name)
        .limit(NAMED_AT_MOST)
    )
    if rows := (await connection.execute(lost)).all():
        names = [row.name for row in rows if row.path == rows[0].path]
        raise PinRefused(
            f"{rows[0].path} cannot be shown as of {format_moment(moment)}, since the images of some tags are "
            f"collected: {', '.join(names)}"
        )
    manifests = schema.manifests
    same = (manifests.c.repository_id == former.c.repository_id) & (manifests.c.digest == former.c.to_digest)
    held = select(former.c.repository_id, former.c.name, manifests.c.id).join(manifests, same)
    await connection.execute(insert(_pinned).from_select(["repository_id", "name", "manifest_id"], held))
