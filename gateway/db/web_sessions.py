"""Queries of the sessions of web pages; only hashes of their secrets are stored.

No session is kept in memory, so none of them is announced as a change: each request reads its own.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.schema import web_sessions

_ENDED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session of a user, signed in with the password that was set at `password_changed_at`, or by the identity of
    `identity_id`, which was stored then.

    `admin`: whether the user was an administrator when its secret was made. `used_at`: when a request came last, to
    some minutes.
    """

    id: int
    user_id: int
    password_changed_at: datetime
    admin: bool
    created_at: datetime
    used_at: datetime
    identity_id: int | None = None


async def create(connection: AsyncConnection, session: StoredSession, secret_hash: str) -> StoredSession:
    """Store a new session, and return it with its id."""
    values = {
        "user_id": session.user_id,
        "hash": secret_hash,
        "password_changed_at": session.password_changed_at,
        "admin": session.admin,
        "created_at": session.created_at,
        "used_at": session.used_at,
        "identity_id": session.identity_id,
    }
    row = insert(web_sessions).values(values).returning(web_sessions.c.id)
    return replace(session, id=(await connection.execute(row)).scalar_one())


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> StoredSession | None:
    """Find the session of a secret, also one that has expired."""
    row = (await connection.execute(select(web_sessions).where(web_sessions.c.hash == secret_hash))).first()
    return _session(row) if row else None


async def count_of(connection: AsyncConnection, user_id: int, created_after: datetime, used_after: datetime) -> int:
    """Count the sessions of a user that were made and used after such times."""
    rows = select(web_sessions.c.id).where(
        web_sessions.c.user_id == user_id,
        web_sessions.c.created_at > created_after,
        web_sessions.c.used_at > used_after,
    )
    return len((await connection.execute(rows)).all())


async def note_use(connection: AsyncConnection, id: int, now: datetime) -> None:
    """Note that a request has come in a session."""
    await connection.execute(update(web_sessions).where(web_sessions.c.id == id).values(used_at=now))


async def end(connection: AsyncConnection, id: int) -> None:
    """End a session."""
    await connection.execute(delete(web_sessions).where(web_sessions.c.id == id))


async def end_all(connection: AsyncConnection, user_id: int) -> None:
    """End all sessions of a user."""
    await connection.execute(delete(web_sessions).where(web_sessions.c.user_id == user_id))


async def end_beyond(connection: AsyncConnection, user_id: int, kept: int) -> None:
    """End the sessions of a user that were used longest ago, of which there are too many."""
    own = select(web_sessions.c.id).where(web_sessions.c.user_id == user_id)
    beyond = own.order_by(web_sessions.c.used_at.desc(), web_sessions.c.id.desc()).offset(kept).limit(_ENDED_AT_ONCE)
    ids = list(await connection.scalars(beyond))
    if ids:
        await connection.execute(delete(web_sessions).where(web_sessions.c.id.in_(ids)))


async def prune(connection: AsyncConnection, created_before: datetime, used_before: datetime) -> None:
    """Delete sessions that were made, or used last, before such times."""
    expired = (web_sessions.c.created_at < created_before) | (web_sessions.c.used_at < used_before)
    await connection.execute(delete(web_sessions).where(expired))


def _session(row: Row[Any]) -> StoredSession:
    return StoredSession(
        row.id, row.user_id, row.password_changed_at, row.admin, row.created_at, row.used_at, row.identity_id
    )
