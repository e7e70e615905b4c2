"""Moves of groups, projects and repositories: each changes paths in one transaction, and copies no content.

What lies below a node moves with it, in a few statements however much that is. Memberships, tokens, quotas and content
belong to ids, which stay; what follows from the place in the tree, such as inherited roles, is that of the new place.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cache.oci.errors import NameUnknown
from cache.oci.names import NAME_LIMIT, RepositoryName
from gateway.db import groups, old_paths, paths, pins, projects, quotas, repositories, schema
from gateway.db.changes import Concern, announce
from gateway.namespaces.errors import MoveRefused, ParentUnknown
from gateway.namespaces.group import check_creation
from gateway.namespaces.locate import native_location
from gateway.namespaces.node import NodeKind, PathEntry, check_visibility, prefixes_of
from gateway.namespaces.old_path import MovedKind, check_move, reserved
from gateway.namespaces.paths import NESTING_LIMIT, parent_path, parse_group_path, parse_project_path
from gateway.namespaces.project import check_place

_groups = schema.groups
_projects = schema.projects
_repositories = schema.repositories


@dataclass(frozen=True, slots=True)
class Moved:
    """A move that was done. `until`: when the old path ends; None where it has ended at once. `projects`,
    `repositories`: how many have moved, at whatever depth, itself included."""

    kind: MovedKind
    id: int
    old: str
    new: str
    until: datetime | None
    projects: int
    repositories: int


async def move_group(connection: AsyncConnection, old: str, new: str, now: datetime, kept: timedelta) -> Moved:
    """Move a group with all that it holds. `kept`: how long its old path leads to it, and stays reserved.

    Where another pin is the nearest at the new place, its projects show what that says. Raises GroupUnknown,
    PathInvalid, MoveRefused, PathReserved, ParentUnknown, VisibilityRefused, PinRefused, Denied.
    """
    group = await groups.get(connection, old)
    above = await _check(connection, MovedKind.GROUP, group.id, old, parse_group_path(new), now)
    check_creation(replace(group, path=new), above)
    await _check_projects(connection, old, new, now)
    if above is not None:
        parent = await groups.get(connection, above.path)
        check_visibility(f"group {new!r}", group.visibility, parent.path, parent.visibility)
    return await _move_node(connection, MovedKind.GROUP, group.id, old, new, now, kept)


async def move_project(connection: AsyncConnection, old: str, new: str, now: datetime, kept: timedelta) -> Moved:
    """Move a project with its repositories; otherwise as `move_group`. Raises ProjectUnknown, and what that raises."""
    project = await projects.get(connection, old)
    above = await _check(connection, MovedKind.PROJECT, project.id, old, parse_project_path(new), now)
    check_place(replace(project, path=new), above)
    await old_paths.check_holds_none(connection, new, now)
    if above is not None and above.key.kind is NodeKind.GROUP:
        parent = await groups.get(connection, above.path)
        check_visibility(f"project {new!r}", project.visibility, parent.path, parent.visibility)
    return await _move_node(connection, MovedKind.PROJECT, project.id, old, new, now, kept)


async def move_repository(connection: AsyncConnection, old: str, new: str, now: datetime, kept: timedelta) -> Moved:
    """Move a repository within its project or to another one, that of the longest path.

    `kept`: as for `move_group`. Raises NameInvalid, NameUnknown, MoveRefused, PathReserved, ParentUnknown, Denied.
    """
    repository = await repositories.find(connection, RepositoryName.parse(old))
    if repository is None:
        raise NameUnknown(f"there is no repository {old!r}")
    name, kind = RepositoryName.parse(new), MovedKind.REPOSITORY
    taken = await repositories.find(connection, name)
    check_move(kind, old, new, None if taken is None else kind.value)
    found = await projects.find_all(connection, prefixes_of(new))
    if not found:
        raise ParentUnknown(f"repository {new!r} lies in no project: create that first, or choose another path")
    project = max(found, key=lambda one: len(one.path))
    native_location(name, project.path)
    await old_paths.check_free(connection, new, kind, now, repository.id)
    await pins.require_unpinned(connection, repository.id)
    if project.pinned_at is not None:
        await pins.refuse(connection, project.path, project.pinned_at)
    if project.id != repository.project_id:
        await quotas.transfer_repository(connection, repository.id, project.id, now)
    where = _repositories.c.id == repository.id
    await connection.execute(update(_repositories).where(where).values(path=new))
    return await _done(connection, kind, repository.id, old, new, now, kept, 0, 1)


async def _check(
    connection: AsyncConnection, kind: MovedKind, id: int, old: str, new: str, now: datetime
) -> PathEntry | None:
    """Check that a node may have a path, and all below it theirs; return the node above that path."""
    taken = await paths.find(connection, new)
    check_move(kind, old, new, None if taken is None else taken.key.kind.value)
    await old_paths.check_free(connection, new, kind, now, id)
    longest = [await _most(connection, table, func.length(table.c.path), old) for table in _TABLES]
    if (length := max(longest) - len(old) + len(new)) > NAME_LIMIT:
        raise MoveRefused(
            f"{kind} {old!r} cannot move to {new!r}: a path below it would have {length} characters, of which there "
            f"are at most {NAME_LIMIT}"
        )
    deeper = new.count("/") - old.count("/")
    for table, most in ((_groups, NESTING_LIMIT), (_projects, NESTING_LIMIT + 1)):
        slashes = func.length(table.c.path) - func.length(func.replace(table.c.path, "/", ""))
        if deeper > 0 and (levels := await _most(connection, table, slashes, old) + 1 + deeper) > most:
            raise MoveRefused(f"{kind} {old!r} cannot move to {new!r}: what it holds would lie {levels} levels deep")
    return await paths.find(connection, parent_path(new))


async def _check_projects(connection: AsyncConnection, old: str, new: str, now: datetime) -> None:
    """Check that no project of a group would come to lie above the old path of something. Raises PathReserved."""
    for reservation in await old_paths.find_nodes_below(connection, new, now):
        way = [prefix for prefix in prefixes_of(reservation.path) if len(prefix) > len(new)]
        for entry in await paths.find_all(connection, [f"{old}{prefix[len(new) :]}" for prefix in way]):
            if entry.key.kind is NodeKind.PROJECT:
                raise reserved(MovedKind.PROJECT, f"{new}{entry.path[len(old) :]}", reservation)


async def _move_node(
    connection: AsyncConnection, kind: MovedKind, id: int, old: str, new: str, now: datetime, kept: timedelta
) -> Moved:
    await quotas.transfer(connection, old, new, now)
    moved = [await _rewrite(connection, table, old, new) for table in (schema.paths, *_TABLES)]
    await pins.apply(connection, new, now)
    return await _done(connection, kind, id, old, new, now, kept, moved[2], moved[3])


async def _done(
    connection: AsyncConnection,
    kind: MovedKind,
    id: int,
    old: str,
    new: str,
    now: datetime,
    kept: timedelta,
    moved_projects: int,
    moved_repositories: int,
) -> Moved:
    await old_paths.move(connection, kind, id, old, new, now, now + kept)
    await announce(connection, Concern.MOVE, new)
    return Moved(kind, id, old, new, now + kept if kept else None, moved_projects, moved_repositories)


async def _rewrite(connection: AsyncConnection, table: Table, old: str, new: str) -> int:
    """Change the beginning of all paths at and below one; return how many there were."""
    path: Column[str] = table.c.path
    changed = literal(new).concat(func.substr(path, len(old) + 1))
    return (await connection.execute(update(table).where(_within(table, old)).values(path=changed))).rowcount


async def _most(connection: AsyncConnection, table: Table, figure: ColumnElement[int], path: str) -> int:
    found: Any = await connection.scalar(select(func.max(figure)).where(_within(table, path)))
    return int(found or 0)


def _within(table: Table, path: str) -> ColumnElement[bool]:
    return or_(table.c.path == path, paths.is_below(table.c.path, path))


_TABLES = (_groups, _projects, _repositories)
