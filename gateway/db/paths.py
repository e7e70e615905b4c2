"""Queries of the paths of the tree, which users, groups and projects share."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import schema
from gateway.db.batches import batches
from gateway.db.dialects import insert_unless_taken
from gateway.namespaces.errors import NodeUnknown, PathTaken
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry

_paths = schema.paths
_AFTER_SLASH = "0"
"""The character after the slash in the order of code points."""


async def take(connection: AsyncConnection, path: str, key: NodeKey) -> None:
    """Give a path to a node. Raises PathTaken where another node has it."""
    row = insert_unless_taken(connection.dialect.name, _paths).values(path=path, kind=key.kind, node_id=key.id)
    if (await connection.execute(row.returning(_paths.c.path))).first() is None:
        holder = await find(connection, path)
        raise PathTaken(path, holder.key.kind if holder else key.kind)


async def release(connection: AsyncConnection, key: NodeKey) -> None:
    """Take the path of a node away."""
    await connection.execute(delete(_paths).where(_paths.c.kind == key.kind, _paths.c.node_id == key.id))


async def find(connection: AsyncConnection, path: str) -> PathEntry | None:
    found = await find_all(connection, [path])
    return found[0] if found else None


async def get(connection: AsyncConnection, path: str) -> PathEntry:
    """Get the node that has a path. Raises NodeUnknown."""
    found = await find(connection, path)
    if found is None:
        raise NodeUnknown(f"there is no group, project or user {path!r}")
    return found


async def find_all(connection: AsyncConnection, paths: Iterable[str]) -> list[PathEntry]:
    """Find those of the paths that nodes have, the shortest first."""
    found: list[PathEntry] = []
    for batch in batches(paths):
        found += [_entry(row) for row in await connection.execute(select(_paths).where(_paths.c.path.in_(batch)))]
    return sorted(found, key=lambda entry: len(entry.path))


async def get_of(connection: AsyncConnection, key: NodeKey) -> PathEntry:
    """Get the place of a node. Raises NodeUnknown."""
    found = await find_of(connection, [key])
    if not found:
        raise NodeUnknown(f"there is no {key.kind} with the id {key.id}")
    return found[0]


async def find_of(connection: AsyncConnection, keys: Iterable[NodeKey]) -> list[PathEntry]:
    """Find the places of those of the nodes that exist, in the order of their paths."""
    found: list[PathEntry] = []
    for batch in batches(keys):
        ids: dict[NodeKind, list[int]] = {}
        for key in batch:
            ids.setdefault(key.kind, []).append(key.id)
        which = [and_(_paths.c.kind == kind, _paths.c.node_id.in_(of_kind)) for kind, of_kind in ids.items()]
        found += [_entry(row) for row in await connection.execute(select(_paths).where(or_(*which)))]
    return sorted(found, key=lambda entry: entry.path)


async def find_inside(connection: AsyncConnection, path: str, limit: int) -> list[PathEntry]:
    """Find nodes below a path in the order of their paths, at most `limit`."""
    inside = select(_paths).where(is_below(_paths.c.path, path)).order_by(_paths.c.path).limit(limit)
    return [_entry(row) for row in await connection.execute(inside)]


def is_below(column: ColumnElement[str], path: str) -> ColumnElement[bool]:
    """Whether the path in a column is below another; a range, which the index of a path serves. Every path is below the
    empty one."""
    if not path:
        return true()
    return and_(column > f"{path}/", column < f"{path}{_AFTER_SLASH}")


def _entry(row: Row[Any]) -> PathEntry:
    return PathEntry(row.path, NodeKey(NodeKind(row.kind), row.node_id))
