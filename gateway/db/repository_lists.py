"""Queries that list native repositories for whoever looks after them, part by part."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import paths, projects
from gateway.db.dialects import unindexed
from gateway.db.repositories import DELETED, DeletedRepository, StoredRepository, to_deleted
from gateway.db.schema import repositories, tags
from gateway.db.windows import ListWindow, count, cut, holds
from gateway.namespaces.reach import PullReach

_COLUMNS = (repositories.c.id, repositories.c.project_id, repositories.c.path, repositories.c.created_at)


class RepositoryOrder(StrEnum):
    """What a list of repositories is sorted by. Ids are given in the order in which repositories are made."""

    PATH = "path"
    ID = "id"


async def list_of_project(
    connection: AsyncConnection, project_id: int, order: RepositoryOrder, window: ListWindow
) -> list[StoredRepository]:
    """List some repositories of a project."""
    return await _list(connection, _of_project(project_id), order, window)


async def count_of_project(connection: AsyncConnection, project_id: int, search: str) -> int:
    """Count the repositories of a project, as `windows.count` does."""
    return await count(connection, _searched(_of_project(project_id), search))


async def list_deleted(connection: AsyncConnection, project_id: int, window: ListWindow) -> list[DeletedRepository]:
    """List some deleted repositories of a project that can be restored, in the order of their ids."""
    rows = await connection.execute(cut(_deleted_of(project_id, window.search), repositories.c.id, window))
    return [to_deleted(row) for row in rows]


async def count_deleted(connection: AsyncConnection, project_id: int, search: str) -> int:
    """Count the repositories that `list_deleted` lists, as `windows.count` does."""
    return await count(connection, _deleted_of(project_id, search).with_only_columns(repositories.c.id))


async def list_below(
    connection: AsyncConnection, group: str, reach: PullReach, order: RepositoryOrder, window: ListWindow
) -> list[StoredRepository]:
    """List some repositories of the projects below a group that `projects.select_viewable` selects."""
    return await _list(connection, await _below(connection, group, reach), order, window)


async def count_below(connection: AsyncConnection, group: str, reach: PullReach, search: str) -> int:
    """Count the repositories that `list_below` lists, as `windows.count` does."""
    return await count(connection, _searched(await _below(connection, group, reach), search))


async def list_tagged(
    connection: AsyncConnection, project_id: int, path: str, after: str, limit: int
) -> list[StoredRepository]:
    """List the first repositories of a project at and below a path that have a tag, in the order of their paths, after
    a path."""
    has_tag = exists().where(tags.c.repository_id == repositories.c.id)
    chosen = at_or_below(path), repositories.c.path > after, has_tag
    query = _searched(_of_project(project_id), "").where(*chosen).order_by(repositories.c.path).limit(limit)
    rows = await connection.execute(query)
    return [StoredRepository(row.id, row.project_id, row.path, row.created_at) for row in rows]


async def list_ids_below(connection: AsyncConnection, project_id: int, path: str) -> list[int]:
    """List the ids of the repositories of a project at and below a path."""
    here = _of_project(project_id), repositories.c.deleted_at.is_(None), at_or_below(path)
    return list(await connection.scalars(select(repositories.c.id).where(*here)))


def at_or_below(path: str) -> ColumnElement[bool]:
    """Whether a repository has a path, or one below it."""
    return or_(repositories.c.path == path, paths.is_below(repositories.c.path, path))


def _of_project(project_id: int) -> ColumnElement[bool]:
    return repositories.c.project_id == project_id


def _deleted_of(project_id: int, search: str) -> "Select[Any]":
    found = DELETED.where(_of_project(project_id), repositories.c.deleted_name.is_not(None))
    return found.where(holds(repositories.c.deleted_name, search)) if search else found


async def _below(connection: AsyncConnection, group: str, reach: PullReach) -> ColumnElement[bool]:
    """Whether a repository lies in a project of those. They are found by their projects: a search by the index of paths
    would take the longer, the more repositories of hidden projects lie between, and so tell of those."""
    return repositories.c.project_id.in_(await projects.select_viewable(connection, reach, group))


def _searched(which: ColumnElement[bool], search: str) -> "Select[Any]":
    found = select(*_COLUMNS).where(which, repositories.c.deleted_at.is_(None))
    return found.where(holds(repositories.c.path, search)) if search else found


async def _list(
    connection: AsyncConnection, which: ColumnElement[bool], order: RepositoryOrder, window: ListWindow
) -> list[StoredRepository]:
    column: Any = repositories.c.id if order is RepositoryOrder.ID else unindexed(repositories.c.path)
    rows: Sequence[Any] = (await connection.execute(cut(_searched(which, window.search), column, window))).all()
    return [StoredRepository(row.id, row.project_id, row.path, row.created_at) for row in rows]
