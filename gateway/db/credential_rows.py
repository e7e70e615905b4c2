"""Columns that personal tokens, deploy tokens and jobs share, the announcement of their changes, and old rows' end."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.changes import Concern, announce_all
from gateway.namespaces.credentials import CredentialRef, Scope

KEPT_AFTER_END = timedelta(days=365)
"""How long an ended token or job is kept, so that whoever presents it is told how it ended."""

KEPT_NEWEST = 1_000
"""Rows of a table that are kept whatever the clock says: one that is a year ahead for an hour must not delete tokens
that are valid when it is right again."""

LOOKED_AT = 100
"""Rows from the oldest on, and rows from somewhere in the table on, of which those that ended long ago are deleted when
another one is created. The oldest alone may all be valid for years, with ended ones behind them."""


def scopes_to_text(scopes: Collection[Scope]) -> str:
    """Write scopes as a column holds them."""
    return " ".join(scope for scope in Scope if scope in scopes)


def scopes_from_text(text: str) -> frozenset[Scope]:
    """The scopes that `scopes_to_text` wrote."""
    return frozenset(map(Scope, text.split()))


def not_expired(table: Table, now: datetime) -> ColumnElement[bool]:
    """Whether the clock has not ended a token, which may last for ever."""
    return or_(table.c.expires_at.is_(None), table.c.expires_at > now)


async def announce_credential(connection: AsyncConnection, ref: CredentialRef, secret_hash: str) -> None:
    """Announce a change of a credential by both of its keys, since memories hold it by either."""
    await announce_credentials(connection, [(ref, secret_hash)])


async def announce_credentials(connection: AsyncConnection, credentials: Iterable[tuple[CredentialRef, str]]) -> None:
    """Announce changes of credentials, each given with the hash of its secret, with as many statements as for one."""
    keys = [key for ref, secret_hash in credentials for key in (secret_hash, str(ref))]
    await announce_all(connection, Concern.CREDENTIAL, keys)


async def prune(
    connection: AsyncConnection,
    table: Table,
    ends: Sequence[Column[Any]],
    now: datetime,
    kept: timedelta = KEPT_AFTER_END,
) -> None:
    """Delete old rows that ended long ago, so that the table does not grow without end; a bounded number at a time.

    `ends`: the columns of which the earliest time is the end; `kept`: how long a row stays after it. Nothing is
    announced: what memories hold of these rows is refused as well.
    """
    newest = await connection.scalar(select(func.max(table.c.id))) or 0
    somewhere = int(now.timestamp() * 1_000_000) % (newest + 1)
    ended: set[int] = set()
    for start in (0, somewhere):
        rows = (
            select(table.c.id, *ends)
            .where(table.c.id.between(start, newest - KEPT_NEWEST))
            .order_by(table.c.id)
            .limit(LOOKED_AT)
        )
        for number, *times in await connection.execute(rows):
            if min(filter(None, times), default=now) < now - kept:
                ended.add(number)
    if ended:
        await connection.execute(delete(table).where(table.c.id.in_(ended)))
