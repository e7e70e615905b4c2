"""Queries of projects; the rules that a change must keep are called inside its transaction, and written elsewhere."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Row, Select, and_, exists, or_, select, true, union
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import bots, cascades, groups, old_paths, paths, pins, quotas, reviews, schema
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce
from gateway.db.dialects import unindexed
from gateway.namespaces.errors import PathTaken
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility
from gateway.namespaces.old_path import MovedKind
from gateway.namespaces.paths import parent_path
from gateway.namespaces.project import (
    Project,
    RegistryAccess,
    check_allowance,
    check_allowances,
    check_audience,
    check_place,
    new_project,
    unknown_project,
)
from gateway.namespaces.reach import PullReach

RANGES_AT_ONCE = 50
"""Groups, namespaces and projects of one condition, each a range of paths: SQLite limits the depth of expressions."""

_projects = schema.projects
_allowances = schema.job_allowances
_links = schema.blob_links
_repositories = schema.repositories


async def create(
    connection: AsyncConnection,
    path: str,
    now: datetime,
    *,
    visibility: Visibility = Visibility.PRIVATE,
    created_by: int | None = None,
) -> Project:
    """Store a project below a group or a user's namespace, with its registry enabled; `update` changes it further.

    Raises PathInvalid, PathTaken, PathReserved, ParentUnknown, VisibilityRefused.
    """
    project = new_project(path, now, visibility, created_by)
    above = await paths.find(connection, parent_path(path))
    check_place(project, above)
    if taken := await paths.find(connection, path):
        raise PathTaken(path, taken.key.kind)
    await old_paths.check_free(connection, path, MovedKind.PROJECT, now)
    await old_paths.check_holds_none(connection, path, now)
    await _check_audience(connection, project, above)
    values = {**_columns(project), "path": path, "created_at": now, "created_by": created_by}
    row = (await connection.execute(insert_into(_projects).values(values).returning(_projects))).one()
    stored = _project(row)
    await paths.take(connection, path, stored.key)
    await announce(connection, Concern.PROJECT, path)
    await pins.apply(connection, path, now)
    return stored


async def find(connection: AsyncConnection, path: str) -> Project | None:
    row = (await connection.execute(select(_projects).where(_projects.c.path == path))).first()
    return _project(row) if row else None


async def find_by_id(connection: AsyncConnection, id: int) -> Project | None:
    row = (await connection.execute(select(_projects).where(_projects.c.id == id))).first()
    return _project(row) if row else None


async def find_all(connection: AsyncConnection, paths: Iterable[str]) -> list[Project]:
    """Find those of the paths that projects have."""
    found: list[Project] = []
    for batch in batches(paths):
        rows = await connection.execute(select(_projects).where(_projects.c.path.in_(batch)))
        found += [_project(row) for row in rows]
    return found


def read_rows(rows: Iterable[Row[Any]]) -> list[Project]:
    """The projects of rows with all columns."""
    return [_project(row) for row in rows]


async def get(connection: AsyncConnection, path: str) -> Project:
    """Get the project of a path. Raises ProjectUnknown."""
    project = await find(connection, path)
    if project is None:
        raise unknown_project(path, await old_paths.find_present(connection, path))
    return project


async def list_all(
    connection: AsyncConnection, below: str | None = None, *, after: str = "", limit: int | None = None
) -> list[Project]:
    """List projects in the order of their paths: all, or the first ones `after` a path.

    `below`: path of the group or user's namespace that holds them, at whatever depth.
    """
    listed = select(_projects)
    if below is not None:
        listed = listed.where(paths.is_below(_projects.c.path, below))
    if below is None or after > f"{below}/":  # of two lower bounds SQLite searches from the first: 100,000 rows, 30 ms
        listed = listed.where(_projects.c.path > after)
    rows = await connection.execute(listed.order_by(_projects.c.path).limit(limit))
    return [_project(row) for row in rows]


async def list_reached(
    connection: AsyncConnection, reach: PullReach, after: str, limit: int, also: Collection[str] = ()
) -> list[tuple[int, str]]:
    """List the ids and paths of the first projects in reach that hold repositories, in the byte order of their paths.

    They are those after a path, and `also` those of these paths. Every call looks at all projects: a search by the
    index of paths would take the longer, the more hidden ones lie between two others, and so tell where those are.
    """
    path = unindexed(_projects.c.path)
    holds = exists().where(_repositories.c.project_id == _projects.c.id, _repositories.c.deleted_at.is_(None))
    listed = select(_projects.c.id, _projects.c.path).where(or_(path > after, path.in_(also)), holds)
    found: dict[int, str] = {}
    for which in await _reached(connection, reach):
        rows = await connection.execute(listed.where(which).order_by(path).limit(limit))
        found.update((row.id, row.path) for row in rows)
    return sorted(found.items(), key=lambda project: project[1])[:limit]


async def select_viewable(
    connection: AsyncConnection, reach: PullReach, below: str
) -> "Select[Any] | CompoundSelect[Any]":
    """Make the query of the ids of those projects below a path that are in reach, and whose registry is not disabled.

    Where the reach is that of a person, these are exactly the projects from which that may pull.
    """
    within = paths.is_below(_projects.c.path, below), _projects.c.registry != RegistryAccess.DISABLED
    chosen = [select(_projects.c.id).where(*within, which) for which in await _reached(connection, reach)]
    return union(*chosen) if len(chosen) > 1 else chosen[0]


async def is_any_viewable(connection: AsyncConnection, reach: PullReach, below: str) -> bool:
    """Whether `select_viewable` finds a project."""
    some = (await select_viewable(connection, reach, below)).limit(1)
    return (await connection.execute(some)).first() is not None


async def _reached(connection: AsyncConnection, reach: PullReach) -> list[ColumnElement[bool]]:
    """The conditions of which a project in reach meets at least one."""
    if reach.everything:
        return [true()]
    visible = _projects.c.visibility.in_(sorted(reach.audiences))
    conditions = [and_(visible, _projects.c.registry == RegistryAccess.ENABLED)]
    if reach.jobs_of:
        of_projects, of_groups = (
            [node.id for node in reach.jobs_of if node.kind is kind] for kind in (NodeKind.PROJECT, NodeKind.GROUP)
        )
        allowed = or_(_allowances.c.allowed_project_id.in_(of_projects), _allowances.c.allowed_group_id.in_(of_groups))
        conditions.append(_projects.c.id.in_(select(_allowances.c.project_id).where(allowed)))
        conditions.append(_projects.c.limits_jobs.is_(False))
    above = [entry.path for entry in await paths.find_of(connection, reach.nodes)]
    for first in range(0, len(above), RANGES_AT_ONCE):
        ranges = (
            or_(_projects.c.path == path, paths.is_below(_projects.c.path, path))
            for path in above[first : first + RANGES_AT_ONCE]
        )
        conditions.append(or_(*ranges))
    return conditions


async def update(connection: AsyncConnection, project: Project) -> None:
    """Store a changed project; its path stays. Raises ProjectUnknown, VisibilityRefused."""
    stored = await get(connection, project.path)
    if project.visibility is not stored.visibility:
        await _check_audience(connection, project, await paths.find(connection, parent_path(project.path)))
    await connection.execute(update_of(_projects).where(_projects.c.id == stored.id).values(_columns(project)))
    await announce(connection, Concern.PROJECT, project.path)


async def delete(connection: AsyncConnection, path: str, now: datetime) -> Project:
    """Delete a project with its repositories, memberships, tokens, jobs and allowances, and return it.

    Raises ProjectUnknown.
    """
    project = await get(connection, path)
    await cascades.announce_all(connection, project.key)
    await bots.delete_of(connection, project.key)
    await quotas.release_project(connection, project)
    await reviews.review_linked_blobs(connection, _is_link_of(project.id), now)
    await connection.execute(delete_from(_projects).where(_projects.c.id == project.id))
    await paths.release(connection, project.key)
    await announce(connection, Concern.PROJECT, path)
    return project


async def allowed_jobs(connection: AsyncConnection, project_id: int) -> list[NodeKey]:
    """List the other projects, and the groups with everything below them, whose jobs may pull from a project."""
    return sorted((await all_allowed_jobs(connection, [project_id])).get(project_id, ()))


async def all_allowed_jobs(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, set[NodeKey]]:
    """Find what `allowed_jobs` lists for each of some projects, by their ids; one that allows none is left out."""
    found: dict[int, set[NodeKey]] = {}
    for batch in batches(ids):
        rows = await connection.execute(select(_allowances).where(_allowances.c.project_id.in_(batch)))
        for row in rows:
            allowed = (
                NodeKey(NodeKind.GROUP, row.allowed_group_id)
                if row.allowed_project_id is None
                else NodeKey(NodeKind.PROJECT, row.allowed_project_id)
            )
            found.setdefault(row.project_id, set()).add(allowed)
    return found


async def set_allowed_jobs(connection: AsyncConnection, project: Project, allowed: Iterable[NodeKey]) -> None:
    """Replace the projects and groups whose jobs may pull from a project."""
    await connection.execute(delete_from(_allowances).where(_allowances.c.project_id == project.id))
    rows = [
        {
            "project_id": project.id,
            "allowed_project_id": key.id if key.kind is NodeKind.PROJECT else None,
            "allowed_group_id": key.id if key.kind is NodeKind.GROUP else None,
        }
        for key in sorted(set(allowed))
    ]
    if rows:
        await connection.execute(insert_into(_allowances), rows)
    await announce(connection, Concern.PROJECT, project.path)


async def allow_job_of(connection: AsyncConnection, project: Project, allowed: NodeKey) -> bool:
    """Add a project or group to those whose jobs may pull from a project; return whether it was not there yet.

    Raises AllowanceRefused.
    """
    known = await allowed_jobs(connection, project.id)
    if allowed in known:
        return False
    check_allowance(project, await paths.get_of(connection, allowed))
    check_allowances(project, len(known) + 1)
    await set_allowed_jobs(connection, project, [*known, allowed])
    return True


async def disallow_job_of(connection: AsyncConnection, project: Project, allowed: NodeKey) -> bool:
    """Take a project or group from those whose jobs may pull from a project; return whether it was there."""
    known = await allowed_jobs(connection, project.id)
    if allowed not in known:
        return False
    await set_allowed_jobs(connection, project, [key for key in known if key != allowed])
    return True


async def allowed_paths(connection: AsyncConnection, project_id: int) -> list[str]:
    """List the paths of `allowed_jobs`, in their order."""
    allowed = await allowed_jobs(connection, project_id)
    return [place.path for place in await paths.find_of(connection, allowed)]


async def allow_jobs_of(connection: AsyncConnection, project: Project, allowed: Iterable[str]) -> None:
    """Replace the projects and groups whose jobs may pull from a project, by their paths; empty texts are left out.

    Raises NodeUnknown, AllowanceRefused.
    """
    places = [await paths.get(connection, path) for path in allowed if path]
    for place in places:
        check_allowance(project, place)
    await set_allowed_jobs(connection, project, [place.key for place in places])


def _is_link_of(project_id: int) -> ColumnElement[bool]:
    """Whether a link of a blob is that of a repository of the project."""
    return _links.c.repository_id.in_(select(_repositories.c.id).where(_repositories.c.project_id == project_id))


async def _check_audience(connection: AsyncConnection, project: Project, above: PathEntry | None) -> None:
    group = None
    if above is not None and above.key.kind is NodeKind.GROUP:
        group = await groups.get(connection, above.path)
    if group is not None:
        check_audience(project, group.path, group.visibility)


def _columns(project: Project) -> dict[str, object]:
    """The columns that an update may change."""
    return {
        "visibility": project.visibility,
        "registry": project.registry,
        "quota": project.quota,
        "limits_jobs": project.limits_jobs,
    }


def _project(row: Row[Any]) -> Project:
    values = dict(row._mapping)
    del values["stored_bytes"]  # it changes with each push, unannounced
    known = {"visibility": Visibility(values["visibility"]), "registry": RegistryAccess(values["registry"])}
    return Project(**values | known)
