"""Queries that list groups and projects for whoever may know of them, part by part."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, false, func, or_, select, true, union
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import groups, paths, projects, schema
from gateway.db.dialects import unindexed
from gateway.db.windows import ListWindow, count, cut, holds
from gateway.namespaces.group import Group
from gateway.namespaces.node import NodeKind, Visibility, prefixes_of
from gateway.namespaces.project import Project
from gateway.namespaces.reach import Knowledge

_RANGES_AT_ONCE = 50
"""Ranges of paths in one condition: SQLite limits the depth of expressions."""


class TreeOrder(StrEnum):
    """What a list is sorted by. Ids are given in the order in which nodes are made."""

    PATH = "path"
    ID = "id"


@dataclass(frozen=True, slots=True)
class TreeFilter:
    """Which of the known groups or projects are listed.

    `below`: path of the node below which they lie, at whatever depth; empty for all. `direct`: only those that lie
    directly there; without `below`, those at the top. `visibility`: None for any.
    """

    below: str = ""
    direct: bool = False
    visibility: Visibility | None = None


async def list_groups(
    connection: AsyncConnection, known: Knowledge, which: TreeFilter, order: TreeOrder, window: ListWindow
) -> list[Group]:
    """List some groups."""
    listed = select(schema.groups).where(await _listed(connection, schema.groups, known, which, window.search))
    return groups.read_rows(await connection.execute(cut(listed, _column(schema.groups, order), window)))


async def count_groups(connection: AsyncConnection, known: Knowledge, which: TreeFilter, search: str) -> int:
    """Count the groups that `list_groups` lists, as `windows.count` does."""
    return await count(
        connection, select(schema.groups.c.id).where(await _listed(connection, schema.groups, known, which, search))
    )


async def list_projects(
    connection: AsyncConnection, known: Knowledge, which: TreeFilter, order: TreeOrder, window: ListWindow
) -> list[Project]:
    """List some projects."""
    listed = select(schema.projects).where(await _listed(connection, schema.projects, known, which, window.search))
    return projects.read_rows(await connection.execute(cut(listed, _column(schema.projects, order), window)))


async def count_projects(connection: AsyncConnection, known: Knowledge, which: TreeFilter, search: str) -> int:
    """Count the projects that `list_projects` lists, as `windows.count` does."""
    listed = select(schema.projects.c.id).where(await _listed(connection, schema.projects, known, which, search))
    return await count(connection, listed)


async def _listed(
    connection: AsyncConnection, table: Table, known: Knowledge, which: TreeFilter, search: str
) -> ColumnElement[bool]:
    return and_(_filter(table, which, search), await _known(connection, table, known))


def _filter(table: Table, which: TreeFilter, search: str) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if which.below:
        conditions.append(paths.is_below(table.c.path, which.below))
    if which.direct:
        slashes = func.length(table.c.path) - func.length(func.replace(table.c.path, "/", ""))
        conditions.append(slashes == (which.below.count("/") + 1 if which.below else 0))
    if which.visibility is not None:
        conditions.append(table.c.visibility == which.visibility)
    if search:
        conditions.append(holds(table.c.path, search))
    return and_(true(), *conditions)


async def _known(connection: AsyncConnection, table: Table, known: Knowledge) -> ColumnElement[bool]:
    """Whether somebody may know of a row: the queries of its parts are joined, since one condition may be too deep."""
    if known.everything:
        return true()
    entries = await paths.find_of(connection, known.nodes)
    own = [entry.path for entry in entries]
    parts: list[ColumnElement[bool]] = [table.c.visibility.in_(sorted(known.audiences))]
    if table is schema.groups:
        in_groups = (entry.path for entry in entries if entry.key.kind is not NodeKind.USER)
        ordered = sorted({prefix for path in in_groups for prefix in prefixes_of(path)})
        batches = [ordered[first : first + _RANGES_AT_ONCE] for first in range(0, len(ordered), _RANGES_AT_ONCE)]
        parts += [table.c.path.in_(batch) for batch in batches]
    for first in range(0, len(own), _RANGES_AT_ONCE):
        batch = own[first : first + _RANGES_AT_ONCE]
        parts.append(or_(false(), *(or_(table.c.path == path, paths.is_below(table.c.path, path)) for path in batch)))
    chosen: list[Select[Any]] = [select(table.c.id).where(part) for part in parts]
    return table.c.id.in_(union(*chosen) if len(chosen) > 1 else chosen[0])


def _column(table: Table, order: TreeOrder) -> Any:
    """The column of an order. Paths are sorted without their index: a search by it would take the longer, the more
    hidden rows lie between two others, and so tell of them."""
    return table.c.id if order is TreeOrder.ID else unindexed(table.c.path)
