"""Queries of old paths: what groups, projects and repositories had for paths before they moved.

A row is in effect until its time, as long as what had the path exists. Nobody makes anything at such a path but by
`check_free`, which also deletes what is not in effect any more; so no node lies at or below an old path of another.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, delete, func, insert, literal, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import paths, schema
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, prefixes_of
from gateway.namespaces.old_path import Former, MovedKind, OldPath, check_reservation, follow, reserved

_old = schema.old_paths
_paths = schema.paths
_repositories = schema.repositories

_PRESENT = func.coalesce(_paths.c.path, _repositories.c.path).label("present")
_GONE = "!"
"""The first character of the path of a deleted repository."""


async def find_all(connection: AsyncConnection, wanted: Iterable[str], now: datetime | None = None) -> list[OldPath]:
    """Find those of the paths that are old ones, of what exists. `now`: only those that have not ended then."""
    found: list[OldPath] = []
    for batch in batches(wanted):
        found += [
            old for row in await connection.execute(_select().where(_old.c.path.in_(batch))) if (old := _read(row))
        ]
    return found if now is None else [old for old in found if old.until > now]


async def read_ways(connection: AsyncConnection, wanted: Iterable[str]) -> tuple[list[PathEntry], list[OldPath]]:
    """Read which nodes have some paths, and which of the paths are old ones, in one statement for a batch of them."""
    entries, known = list[PathEntry](), list[OldPath]()
    for batch in batches(wanted) if wanted else [[""]]:
        never = literal(None, type_=schema.Moment())
        nodes = select(
            _paths.c.path, _paths.c.kind, _paths.c.node_id, never.label("until"), _paths.c.path.label("present")
        )
        both = union_all(nodes.where(_paths.c.path.in_(batch)), _select().where(_old.c.path.in_(batch)))
        for row in await connection.execute(both):
            if row.until is None:
                entries.append(PathEntry(row.path, NodeKey(NodeKind(row.kind), row.node_id)))
            elif old := _read(row):
                known.append(old)
    return entries, known


async def list_of(connection: AsyncConnection, kind: MovedKind, id: int, now: datetime) -> list[OldPath]:
    """List the old paths of one node or repository that are in effect."""
    listed = _select().where(_old.c.kind == kind, _old.c.node_id == id, _old.c.until > now)
    return [old for row in await connection.execute(listed.order_by(_old.c.path)) if (old := _read(row))]


async def follow_all(connection: AsyncConnection, names: Iterable[str]) -> dict[str, Former]:
    """Follow names through old paths to their ends; names that none leads elsewhere are left out.

    Each step leaves less of a name to be followed, so there is an end.
    """
    ends: dict[str, Former] = {}
    going = {name: name for name in names}
    while going:
        known = await find_all(connection, {prefix for name in going.values() for prefix in prefixes_of(name)})
        further: dict[str, str] = {}
        for name, at in going.items():
            before = ends.get(name)
            settled = 0 if before is None else len(before.new)
            step = follow(at, [old for old in known if len(old.path) > settled])
            if step is not None:
                ends[name] = step if before is None else replace(step, until=min(step.until, before.until))
                further[name] = step.present
        going = further
    return ends


async def find_present(connection: AsyncConnection, path: str) -> str | None:
    """Find the path that what had another path has now; None where nothing has moved from there."""
    former = (await follow_all(connection, [path])).get(path)
    return None if former is None else former.present


async def check_free(connection: AsyncConnection, path: str, kind: str, now: datetime, id: int | None = None) -> None:
    """Check that no old path of something else forbids a node or repository at a path; forget what has ended there.

    `kind`: also that of a user's namespace. `id`: of what moves there; None for what is made new. Raises PathReserved.
    """
    rows = (await connection.execute(_select().where(_old.c.path.in_(prefixes_of(path))))).all()
    for row in rows:
        old = _read(row)
        if old is not None and old.until > now:
            check_reservation(path, kind, id, old)
        else:
            await connection.execute(delete(_old).where(_old.c.path == row.path, _old.c.kind == row.kind))
            await announce(connection, Concern.MOVE, row.path)


async def check_holds_none(connection: AsyncConnection, path: str, now: datetime) -> None:
    """Check that a project may have a path: no group or project has an old one below it, where names would be those of
    the project. Raises PathReserved."""
    for old in await find_nodes_below(connection, path, now):
        raise reserved(MovedKind.PROJECT, path, old)


async def find_nodes_below(connection: AsyncConnection, path: str, now: datetime) -> list[OldPath]:
    """Find the old paths of groups and projects below a path that are in effect."""
    below = _select().where(paths.is_below(_old.c.path, path), _old.c.kind != MovedKind.REPOSITORY, _old.c.until > now)
    return [old for row in await connection.execute(below) if (old := _read(row))]


async def move(
    connection: AsyncConnection, kind: MovedKind, id: int, old: str, new: str, now: datetime, until: datetime
) -> None:
    """Reserve the old path of what has just moved, and end the reservation of the new one where it was its own.

    Names that led through this node to what has left it go on to do so below the new path.
    """
    own = await list_of(connection, kind, id, now)
    await connection.execute(delete(_old).where(_old.c.path == new, _old.c.kind == kind))
    if own:
        latest = max(path.until for path in own)
        left = (
            await connection.execute(select(_old).where(paths.is_below(_old.c.path, old), _old.c.until > now))
        ).all()
        await _insert(connection, [_moved_row(row, old, new, latest) for row in left])
    if until > now:
        await connection.execute(delete(_old).where(_old.c.path == old, _old.c.kind == kind))
        row = {"path": old, "kind": kind, "node_id": id, "moved_at": now, "until": until}
        await connection.execute(insert(_old), [row])


async def last_move(connection: AsyncConnection, nodes: Iterable[NodeKey]) -> datetime | None:
    """When the last of some groups and projects moved; None where none did, as far as their old paths are stored."""
    moved = [
        and_(_old.c.kind == node.kind.value, _old.c.node_id == node.id)
        for node in nodes
        if node.kind is not NodeKind.USER
    ]
    return await connection.scalar(select(func.max(_old.c.moved_at)).where(or_(*moved))) if moved else None


async def sweep(connection: AsyncConnection, now: datetime) -> int:
    """Forget the old paths that have ended, and return how many there were."""
    ended = await connection.execute(delete(_old).where(_old.c.until <= now))
    if ended.rowcount:
        await announce(connection, Concern.MOVE, "")
    return ended.rowcount


async def any_ended(connection: AsyncConnection, now: datetime) -> bool:
    """Whether an old path has ended and is still stored."""
    return (await connection.scalar(select(_old.c.path).where(_old.c.until <= now).limit(1))) is not None


async def _insert(connection: AsyncConnection, rows: list[dict[str, object]]) -> None:
    for batch in batches(rows):
        await connection.execute(insert_unless_taken(connection.dialect.name, _old), batch)


def _moved_row(row: Row[Any], old: str, new: str, latest: datetime) -> dict[str, object]:
    return {**row._mapping, "path": new + row.path[len(old) :], "until": min(row.until, latest)}


def _select() -> Select[Any]:
    node = and_(_paths.c.kind == _old.c.kind, _paths.c.node_id == _old.c.node_id)
    repository = and_(_old.c.kind == MovedKind.REPOSITORY, _repositories.c.id == _old.c.node_id)
    columns = (_old.c.path, _old.c.kind, _old.c.node_id, _old.c.until, _PRESENT)
    return select(*columns).select_from(_old.outerjoin(_paths, node).outerjoin(_repositories, repository))


def _read(row: Row[Any]) -> OldPath | None:
    """The old path of a row; None where what had it does not exist any more."""
    if row.present is None or row.present.startswith(_GONE):
        return None
    return OldPath(row.path, MovedKind(row.kind), row.node_id, row.present, row.until)
