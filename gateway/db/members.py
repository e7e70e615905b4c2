"""Queries of members; the rules that a change must keep are called inside its transaction, and written elsewhere."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, or_, select
from sqlalchemy import delete as delete_from
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import paths, schema, users
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken
from gateway.namespaces.bot import check_bot_place
from gateway.namespaces.errors import MembershipRefused
from gateway.namespaces.member import Member, check_membership, unknown_member
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, prefixes_of
from gateway.namespaces.role import Role

_members = schema.members


async def add(connection: AsyncConnection, member: Member) -> None:
    """Store a new membership of a group or project, in the place of one that has expired. Raises MembershipRefused,
    UserUnknown."""
    where, name = await _check(connection, member, member.created_at)
    expired = _members.c.user_id == member.user_id, _members.c.expires_at <= member.created_at
    await connection.execute(delete_from(_members).where(_of([member.node]), *expired))
    values = {**_identity(member), **_columns(member), "created_at": member.created_at}
    row = insert_unless_taken(connection.dialect.name, _members).values(values).returning(_members.c.id)
    if (await connection.execute(row)).first() is None:
        raise MembershipRefused(f"user {name!r} is a member of {where.path!r} already: change the role there")
    await announce(connection, Concern.MEMBER, str(member.user_id))


async def find(connection: AsyncConnection, node: NodeKey, user_id: int) -> Member | None:
    """Find the membership of a user in a node itself."""
    found = await _select(connection, _of([node]), _members.c.user_id == user_id)
    return found[0] if found else None


async def get(connection: AsyncConnection, node: NodeKey, user_id: int) -> Member:
    """Get the membership of a user in a node itself. Raises MemberUnknown, which names the nodes above that have the
    user."""
    member = await find(connection, node, user_id)
    if member is None:
        where, user = await paths.get_of(connection, node), await users.get_by_id(connection, user_id)
        above = await _roles_above(connection, where, user_id, None)
        raise unknown_member(user.name, where.path, [source for source, _ in above])
    return member


async def update(connection: AsyncConnection, member: Member, now: datetime) -> None:
    """Store another role or expiry of a member. Raises MemberUnknown, MembershipRefused, UserUnknown."""
    where, name = await _check(connection, member, now)
    which = (_of([member.node]), _members.c.user_id == member.user_id)
    changed = update_of(_members).where(*which).values(_columns(member)).returning(_members.c.id)
    if (await connection.execute(changed)).first() is None:
        raise unknown_member(name, where.path, [])
    await announce(connection, Concern.MEMBER, str(member.user_id))


async def remove(connection: AsyncConnection, node: NodeKey, user_id: int) -> Member:
    """Delete a membership and return it. Raises as `get` does."""
    member = await get(connection, node, user_id)
    await connection.execute(delete_from(_members).where(_of([node]), _members.c.user_id == user_id))
    await announce(connection, Concern.MEMBER, str(user_id))
    return member


async def list_of(connection: AsyncConnection, nodes: Iterable[NodeKey], user_id: int | None = None) -> list[Member]:
    """List the members of nodes themselves, in the order in which they were added; of one user, if that is given."""
    of_user = () if user_id is None else (_members.c.user_id == user_id,)
    return await _select(connection, _of(nodes), *of_user)


async def is_any_active(connection: AsyncConnection, path: str, now: datetime) -> bool:
    """Whether anybody is a member of a group or project, or of a group above it."""
    nodes = await paths.find_all(connection, prefixes_of(path))
    return any(member.is_active(now) for member in await list_of(connection, (entry.key for entry in nodes)))


async def of_user(connection: AsyncConnection, user_id: int) -> list[Member]:
    """List all memberships of a user, in the order in which they were added."""
    return await _select(connection, _members.c.user_id == user_id)


async def _check(connection: AsyncConnection, member: Member, now: datetime) -> tuple[PathEntry, str]:
    """Check that a membership means something, and return its node and the name of its user."""
    where = await paths.get_of(connection, member.node)
    user = await users.get_by_id(connection, member.user_id)
    if (home := await _home_of_bot(connection, user.id)) is not None:
        check_bot_place(home, member.node)
    check_membership(user.name, member.role, where, await _roles_above(connection, where, user.id, now))
    return where, user.name


async def _home_of_bot(connection: AsyncConnection, user_id: int) -> NodeKey | None:
    """The project or group of a bot; None for a person."""
    row = (await connection.execute(select(schema.bots).where(schema.bots.c.user_id == user_id))).first()
    return None if row is None else node_of(row)


async def _roles_above(
    connection: AsyncConnection, where: PathEntry, user_id: int, now: datetime | None
) -> list[tuple[str, Role]]:
    """List the nodes above with the role that a user has in each; the owner of a namespace has one there.

    `now`: leave out memberships that have expired; None leaves out none.
    """
    above = await paths.find_all(connection, prefixes_of(where.path)[:-1])
    found = await _select(connection, _of(entry.key for entry in above), _members.c.user_id == user_id)
    roles = {member.node: member.role for member in found if now is None or member.is_active(now)}
    roles[NodeKey(NodeKind.USER, user_id)] = Role.OWNER
    return [(entry.path, roles[entry.key]) for entry in above if entry.key in roles]


async def _select(connection: AsyncConnection, *which: ColumnElement[bool]) -> list[Member]:
    rows = await connection.execute(select(_members).where(*which).order_by(_members.c.id))
    return [_member(row) for row in rows]


def _of(nodes: Iterable[NodeKey]) -> ColumnElement[bool]:
    """Whether a row is of one of the nodes; a user's namespace has none."""
    keys = list(nodes)
    return or_(
        _members.c.group_id.in_([key.id for key in keys if key.kind is NodeKind.GROUP]),
        _members.c.project_id.in_([key.id for key in keys if key.kind is NodeKind.PROJECT]),
    )


def _identity(member: Member) -> dict[str, object]:
    """The columns that determine which membership a row is."""
    return {
        "group_id": member.node.id if member.node.kind is NodeKind.GROUP else None,
        "project_id": member.node.id if member.node.kind is NodeKind.PROJECT else None,
        "user_id": member.user_id,
    }


def _columns(member: Member) -> dict[str, object]:
    """The columns that an update may change."""
    return {"role": int(member.role), "expires_at": member.expires_at}


def node_of(row: Row[Any]) -> NodeKey:
    """The project or group of a row that has the id of one of them."""
    in_group = row.group_id is not None
    return NodeKey(NodeKind.GROUP, row.group_id) if in_group else NodeKey(NodeKind.PROJECT, row.project_id)


def _member(row: Row[Any]) -> Member:
    return Member(node_of(row), row.user_id, Role(row.role), row.expires_at, row.created_at)
