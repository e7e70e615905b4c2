"""Queries of bots: the users behind access tokens of projects and groups, each with one membership there."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import members, users
from gateway.db.credential_rows import LOOKED_AT, not_expired
from gateway.db.dialects import insert_unless_taken
from gateway.db.schema import bots, id_token_logins, personal_tokens
from gateway.db.schema import users as _users
from gateway.namespaces.bot import Bot, issuer_bot_name, new_bot_name, unfit_bot
from gateway.namespaces.errors import BotRefused
from gateway.namespaces.member import Member
from gateway.namespaces.node import NodeKey, NodeKind
from gateway.namespaces.role import Role
from gateway.namespaces.user import User


async def create(
    connection: AsyncConnection, home: NodeKey, role: Role, expires_at: datetime | None, now: datetime
) -> Bot:
    """Store a bot, and its membership of a project or group; deletes bots whose tokens are gone.

    It has no namespace, no password, and sees of other places only what is public. Raises NodeUnknown.
    """
    await _prune(connection)
    user = await users.create_without_namespace(connection, new_bot_name(home), now)
    await connection.execute(insert(bots).values(user_id=user.id, **_columns(home)))
    await members.add(connection, Member(home, user.id, role, expires_at, now))
    return Bot(user, home)


async def find_or_create(connection: AsyncConnection, home: NodeKey, role: Role, issuer: str, now: datetime) -> Bot:
    """Find the bot by which ID tokens of an issuer have a role in a project or group, and make it if there is none.

    It has this role, and no other, whatever was done to its membership. Raises NodeUnknown, BotRefused where the name
    is that of a person.
    """
    name = issuer_bot_name(home, issuer, role)
    user = await users.find(connection, name)
    if user is None:
        user = await users.create_without_namespace(connection, name, now)
        row = insert_unless_taken(connection.dialect.name, bots).values(user_id=user.id, **_columns(home))
        await connection.execute(row)
    bot = await find(connection, user.id)
    if bot is None or bot.home != home:
        raise BotRefused(f"user {name!r} is no bot of {home.kind} {home.id}: rename or delete that user")
    member = await members.find(connection, home, user.id)
    if member is None:
        await members.add(connection, Member(home, user.id, role, None, now))
    elif (member.role, member.expires_at) != (role, None):
        await members.update(connection, replace(member, role=role, expires_at=None), now)
    return bot


async def find(connection: AsyncConnection, user_id: int) -> Bot | None:
    """Find the bot that a user is; None for a person, and where there is none."""
    row = (await connection.execute(select(bots).where(bots.c.user_id == user_id))).first()
    return None if row is None else Bot(await users.get_by_id(connection, user_id), members.node_of(row))


async def check_person(connection: AsyncConnection, user: User) -> None:
    """Check that a user is no bot. Raises BotRefused."""
    if await find(connection, user.id) is not None:
        raise unfit_bot(user)


async def prolong(connection: AsyncConnection, user_id: int, expires_at: datetime | None, now: datetime) -> None:
    """Let the membership of a bot last as long as its new token; nothing for a person."""
    bot = await find(connection, user_id)
    member = None if bot is None else await members.find(connection, bot.home, user_id)
    if member is not None:
        await members.update(connection, replace(member, expires_at=expires_at), now)


async def roles_of(connection: AsyncConnection, home: NodeKey, user_ids: Collection[int]) -> dict[int, Role]:
    """The roles of those of some bots of a project or group that are members there, by their ids."""
    found = await members.list_of(connection, [home]) if user_ids else []
    return {member.user_id: member.role for member in found if member.user_id in user_ids}


async def retire(connection: AsyncConnection, user_id: int, now: datetime) -> None:
    """End the membership of a bot that has no valid token any more; nothing for a person.

    The user stays as long as the tokens that have ended, so that whoever presents one is told so.
    """
    bot = await find(connection, user_id)
    if bot is None or await members.find(connection, bot.home, user_id) is None:
        return
    token = personal_tokens.c
    valid = select(token.id).where(
        token.user_id == user_id, token.revoked_at.is_(None), not_expired(personal_tokens, now)
    )
    if (await connection.execute(valid.limit(1))).first() is None:
        await members.remove(connection, bot.home, user_id)


async def delete_of(connection: AsyncConnection, home: NodeKey) -> None:
    """Delete the bots of a project or group with their tokens."""
    found = select(_users.c.name).join(bots, bots.c.user_id == _users.c.id).where(is_of(home))
    for name in list(await connection.scalars(found)):
        await users.delete(connection, name)


def is_of(home: NodeKey) -> ColumnElement[bool]:
    """Whether a bot is one of a project or group itself."""
    column = bots.c.group_id if home.kind is NodeKind.GROUP else bots.c.project_id
    return column == home.id


async def _prune(connection: AsyncConnection) -> None:
    """Delete bots whose tokens and logins were deleted, a bounded number at a time."""
    has_token = exists().where(personal_tokens.c.user_id == bots.c.user_id)
    has_login = exists().where(id_token_logins.c.user_id == bots.c.user_id)
    query = select(_users.c.name).join(bots, bots.c.user_id == _users.c.id)
    found = query.where(~has_token, ~has_login).limit(LOOKED_AT)
    for name in list(await connection.scalars(found)):
        await users.delete(connection, name)


def _columns(home: NodeKey) -> dict[str, object]:
    in_group = home.kind is NodeKind.GROUP
    return {"group_id": home.id if in_group else None, "project_id": None if in_group else home.id}
