"""Rows of users, groups and projects for tests of what belongs to them, inserted without any rule."""

from datetime import UTC, datetime

from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import groups, paths, schema
from gateway.namespaces.node import NodeKey, NodeKind, Visibility
from gateway.namespaces.project import Project, RegistryAccess
from gateway.namespaces.user import User

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


async def add_user(
    connection: AsyncConnection, name: str = "ann", *, admin: bool = False, blocked: bool = False
) -> User:
    flags = {"admin": admin, "external": False, "blocked": blocked}
    number = await _insert(connection, schema.users, {"name": name, **flags, "created_at": NOW})
    await paths.take(connection, name, NodeKey(NodeKind.USER, number))
    return User(number, name, None, admin, False, blocked, None, None, NOW)


async def add_group(connection: AsyncConnection, path: str = "team") -> NodeKey:
    return NodeKey(NodeKind.GROUP, (await groups.create(connection, path, NOW)).id)


async def add_project(connection: AsyncConnection, path: str = "team/app") -> Project:
    values = {"path": path, "visibility": Visibility.PRIVATE, "registry": RegistryAccess.ENABLED, "created_at": NOW}
    number = await _insert(connection, schema.projects, values)
    await paths.take(connection, path, NodeKey(NodeKind.PROJECT, number))
    return Project(number, path, Visibility.PRIVATE, RegistryAccess.ENABLED, NOW)


async def _insert(connection: AsyncConnection, table: Table, values: dict[str, object]) -> int:
    number: int = (await connection.execute(insert(table).values(values).returning(table.c.id))).scalar_one()
    return number
