"""Queries of the identities of users at issuers."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.schema import user_identities
from gateway.namespaces.user_identity import UserIdentity


async def find(connection: AsyncConnection, issuer: str, subject: str) -> UserIdentity | None:
    """Find the identity that an issuer names."""
    named = (user_identities.c.issuer == issuer) & (user_identities.c.subject == subject)
    row = (await connection.execute(select(user_identities).where(named))).first()
    return _identity(row) if row else None


async def find_by_id(connection: AsyncConnection, id: int) -> UserIdentity | None:
    row = (await connection.execute(select(user_identities).where(user_identities.c.id == id))).first()
    return _identity(row) if row else None


async def create(connection: AsyncConnection, identity: UserIdentity) -> UserIdentity:
    """Store a new identity, and return it with its id."""
    values = {
        "user_id": identity.user_id,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "created_at": identity.created_at,
    }
    row = insert(user_identities).values(values).returning(user_identities.c.id)
    return replace(identity, id=(await connection.execute(row)).scalar_one())


def _identity(row: Row[Any]) -> UserIdentity:
    return UserIdentity(row.id, row.user_id, row.issuer, row.subject, row.created_at)
