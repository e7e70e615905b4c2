"""Queries of users; the rules that a change must keep are called inside its transaction, and written elsewhere."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import cascades, old_paths, paths, schema
from gateway.db.batches import batches
from gateway.db.changes import Concern, announce
from gateway.db.dialects import insert_unless_taken
from gateway.namespaces.errors import EmailTaken, PathTaken, UserUnknown
from gateway.namespaces.node import NAMED_AT_MOST, NodeKind
from gateway.namespaces.user import User, check_change, check_departure, new_user, parse_email, unknown_user

_users = schema.users


async def create(
    connection: AsyncConnection,
    name: str,
    now: datetime,
    *,
    email: str | None = None,
    admin: bool = False,
    external: bool = False,
    password_hash: str | None = None,
) -> User:
    """Store a user, whose name becomes the path of the user's namespace.

    Raises PathInvalid, PathTaken, PathReserved, EmailInvalid, EmailTaken.
    """
    user = new_user(name, now, email, admin, external)
    if password_hash is not None:
        user = user.with_password(password_hash, now)
    if taken := await paths.find(connection, name):
        raise PathTaken(name, taken.key.kind)
    if await find(connection, name) is not None:
        raise PathTaken(name, NodeKind.USER)
    await old_paths.check_free(connection, name, NodeKind.USER, now)
    await _check_email(connection, user)
    row = (await connection.execute(insert_into(_users).values(_new_columns(user)).returning(_users))).one()
    stored = to_user(row)
    await paths.take(connection, name, stored.key)
    await _announce_arrival(connection, stored)
    return stored


async def create_without_namespace(connection: AsyncConnection, name: str, now: datetime) -> User:
    """Store an external user without a namespace of its own; one that has the name by now is returned as it is."""
    user = new_user(name, now, None, admin=False, external=True)
    row = insert_unless_taken(connection.dialect.name, _users).values(_new_columns(user)).returning(_users)
    stored = (await connection.execute(row)).first()
    if stored is None:
        return await get(connection, name)
    await _announce_arrival(connection, to_user(stored))
    return to_user(stored)


async def find(connection: AsyncConnection, name: str) -> User | None:
    return await _find(connection, _users.c.name == name)


async def find_by_email(connection: AsyncConnection, email: str) -> User | None:
    """Find the user with an address of electronic mail, in whatever case it is written."""
    return await _find(connection, _users.c.email == email.lower())


async def find_by_id(connection: AsyncConnection, id: int) -> User | None:
    return await _find(connection, _users.c.id == id)


async def get(connection: AsyncConnection, name: str) -> User:
    """Get the user of a name. Raises UserUnknown."""
    user = await find(connection, name)
    if user is None:
        raise unknown_user(name)
    return user


async def get_by_id(connection: AsyncConnection, id: int) -> User:
    """Get the user of an id. Raises UserUnknown."""
    user = await find_by_id(connection, id)
    if user is None:
        raise UserUnknown(f"there is no user with the id {id}")
    return user


async def list_all(connection: AsyncConnection, *, after: str = "", limit: int | None = None) -> list[User]:
    """List users in the order of their names: all, or the first ones `after` a name."""
    rows = await connection.execute(select(_users).where(_users.c.name > after).order_by(_users.c.name).limit(limit))
    return [to_user(row) for row in rows]


async def find_all(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, User]:
    """Find the users with these ids, as far as they exist."""
    found: dict[int, User] = {}
    for batch in batches(set(ids)):
        rows = await connection.execute(select(_users).where(_users.c.id.in_(batch)))
        found.update((row.id, to_user(row)) for row in rows)
    return found


async def names_of(connection: AsyncConnection, ids: Iterable[int]) -> dict[int, str]:
    """Find the names of the users with these ids, as far as they exist."""
    names: dict[int, str] = {}
    for batch in batches(set(ids)):
        rows = await connection.execute(select(_users.c.id, _users.c.name).where(_users.c.id.in_(batch)))
        names.update((row.id, row.name) for row in rows)
    return names


async def has_admin(connection: AsyncConnection) -> bool:
    """Whether there is an active administrator."""
    return await _has_admin_beside(connection, 0)


async def update(connection: AsyncConnection, user: User) -> None:
    """Store a changed user, whose name stays.

    Raises UserUnknown, EmailInvalid, EmailTaken, LastAdministrator.
    """
    stored = await get(connection, user.name)
    check_change(stored, user, await _is_dispensable(connection, stored))
    user = replace(user, id=stored.id, email=None if user.email is None else parse_email(user.email))
    await _check_email(connection, user)
    await connection.execute(update_of(_users).where(_users.c.id == stored.id).values(_columns(user)))
    await announce(connection, Concern.USER, str(stored.id))


async def delete(connection: AsyncConnection, name: str) -> User:
    """Delete a user with the user's memberships, tokens and jobs, and return it.

    Raises UserUnknown, LastAdministrator, NodeNotEmpty.
    """
    user = await get(connection, name)
    inside = await paths.find_inside(connection, name, NAMED_AT_MOST + 1)
    check_departure(user, [place.path for place in inside], await _is_dispensable(connection, user))
    await cascades.announce_all(connection, user.key)
    await connection.execute(delete_from(_users).where(_users.c.id == user.id))
    await paths.release(connection, user.key)
    await _announce_arrival(connection, user)
    await announce(connection, Concern.MEMBER, str(user.id))
    return user


async def _find(connection: AsyncConnection, which: Any) -> User | None:
    row = (await connection.execute(select(_users).where(which))).first()
    return to_user(row) if row else None


async def _is_dispensable(connection: AsyncConnection, user: User) -> bool:
    """Whether there is an active administrator without this user; not looked up for a user who is none."""
    return not user.is_active_admin or await _has_admin_beside(connection, user.id)


async def _has_admin_beside(connection: AsyncConnection, id: int) -> bool:
    """Whether there is an active administrator with another id."""
    others = select(_users.c.id).where(_users.c.admin, ~_users.c.blocked, _users.c.id != id).limit(1)
    return (await connection.execute(others)).first() is not None


async def _check_email(connection: AsyncConnection, user: User) -> None:
    holder = None if user.email is None else await find_by_email(connection, user.email)
    if holder is not None and holder.name != user.name:
        raise EmailTaken(f"user {holder.name!r} has the e-mail address {user.email!r}: use another one")


async def _announce_arrival(connection: AsyncConnection, user: User) -> None:
    """Announce that a name has a user now, or has none any more."""
    await announce(connection, Concern.USER, str(user.id))
    await announce(connection, Concern.USER, user.name)


def to_user(row: Row[Any]) -> User:
    """The user of a row."""
    return User(**row._mapping)


def _new_columns(user: User) -> dict[str, object]:
    return {**_columns(user), "name": user.name, "created_at": user.created_at}


def _columns(user: User) -> dict[str, object]:
    """The columns that an update may change."""
    return {
        "email": user.email,
        "admin": user.admin,
        "external": user.external,
        "blocked": user.blocked,
        "password_hash": user.password_hash,
        "password_changed_at": user.password_changed_at,
    }
