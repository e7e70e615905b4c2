"""Queries of protection rules; a project is announced as changed with each of its rules, so that they count at once."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.batches import batches
from gateway.db.changes import Concern, announce
from gateway.db.schema import protection_rules as _rules
from gateway.namespaces.errors import ProtectionTaken, ProtectionUnknown
from gateway.namespaces.project import Project
from gateway.namespaces.protection import (
    Protection,
    ProtectionKind,
    ProtectionLevel,
    ProtectionRule,
    check_rule,
    parse_pattern,
    protection_of,
    read_pattern,
)


async def list_of(connection: AsyncConnection, project_id: int) -> list[ProtectionRule]:
    """List the rules of a project in the order in which they were made."""
    return (await _find_all(connection, [project_id])).get(project_id, [])


async def of_project(connection: AsyncConnection, project_id: int) -> Protection:
    """The protection of a project."""
    return protection_of(await list_of(connection, project_id))


async def of_projects(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, Protection]:
    """Find the protection of some projects, by their ids; one without rules is left out."""
    return {id: protection_of(rules) for id, rules in (await _find_all(connection, ids)).items()}


async def create(
    connection: AsyncConnection,
    project: Project,
    kind: ProtectionKind,
    pattern: str,
    now: datetime,
    *,
    push: ProtectionLevel | None = None,
    delete: ProtectionLevel | None = None,
) -> ProtectionRule:
    """Store a rule. `pattern`: as in ProtectionRule. Raises TagPatternInvalid, ProtectionRefused, ProtectionTaken."""
    parse_pattern(kind, pattern)
    others = await list_of(connection, project.id)
    _check_free(project, kind, pattern, others)
    check_rule(kind, push, delete, others)
    values = {"kind": kind, "pattern": pattern, "push_level": push, "delete_level": delete, "created_at": now}
    stored = insert_into(_rules).values(project_id=project.id, **values).returning(_rules)
    row = (await connection.execute(stored)).one()
    await announce(connection, Concern.PROJECT, project.path)
    return _rule(row)


async def update(
    connection: AsyncConnection,
    project: Project,
    rule_id: int,
    pattern: str,
    push: ProtectionLevel | None,
    delete: ProtectionLevel | None,
) -> ProtectionRule:
    """Change a rule of a project. Raises ProtectionUnknown, and what `create` raises."""
    rule = await get(connection, project, rule_id)
    parse_pattern(rule.kind, pattern)
    others = [other for other in await list_of(connection, project.id) if other.id != rule_id]
    _check_free(project, rule.kind, pattern, others)
    check_rule(rule.kind, push, delete, others)
    changed = update_of(_rules).where(_rules.c.id == rule_id).returning(_rules)
    values = {"pattern": pattern, "push_level": push, "delete_level": delete}
    row = (await connection.execute(changed.values(values))).one()
    await announce(connection, Concern.PROJECT, project.path)
    return _rule(row)


async def get(connection: AsyncConnection, project: Project, rule_id: int) -> ProtectionRule:
    """Get a rule of a project. Raises ProtectionUnknown."""
    found = next((rule for rule in await list_of(connection, project.id) if rule.id == rule_id), None)
    if found is None:
        raise ProtectionUnknown(f"project {project.path!r} has no protection rule {rule_id}")
    return found


async def delete(connection: AsyncConnection, project: Project, rule_id: int) -> ProtectionRule:
    """Delete a rule of a project, and return it. Raises ProtectionUnknown."""
    rule = await get(connection, project, rule_id)
    await connection.execute(delete_from(_rules).where(_rules.c.id == rule_id))
    await announce(connection, Concern.PROJECT, project.path)
    return rule


def _check_free(project: Project, kind: ProtectionKind, pattern: str, others: Iterable[ProtectionRule]) -> None:
    if any((other.kind, other.pattern) == (kind, pattern) for other in others):
        raise ProtectionTaken(f"project {project.path!r} has a {kind} rule with this pattern already: change that")


async def _find_all(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, list[ProtectionRule]]:
    found: dict[int, list[ProtectionRule]] = {}
    for batch in batches(ids):
        rows = await connection.execute(select(_rules).where(_rules.c.project_id.in_(batch)).order_by(_rules.c.id))
        for row in rows:
            found.setdefault(row.project_id, []).append(_rule(row))
    return found


def _rule(row: Row[Any]) -> ProtectionRule:
    kind = ProtectionKind(row.kind)
    push, delete = (None if level is None else ProtectionLevel(level) for level in (row.push_level, row.delete_level))
    return ProtectionRule(row.id, kind, row.pattern, push, delete, row.created_at, read_pattern(kind, row.pattern))
