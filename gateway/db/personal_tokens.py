"""Queries of personal access tokens; only hashes of their secrets are stored."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.credential_rows import announce_credential, not_expired, prune, scopes_from_text, scopes_to_text
from gateway.db.schema import personal_tokens
from gateway.namespaces.credentials import PersonalToken
from gateway.namespaces.errors import PersonalTokenUnknown

_ENDS = (personal_tokens.c.expires_at, personal_tokens.c.revoked_at)


async def create(connection: AsyncConnection, token: PersonalToken, secret_hash: str) -> PersonalToken:
    """Store a new token and return it with its id; deletes tokens that ended long ago."""
    await prune(connection, personal_tokens, _ENDS, token.created_at)
    values = {
        "user_id": token.user_id,
        "name": token.name,
        "hash": secret_hash,
        "scopes": scopes_to_text(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "description": token.description or None,
        "family_id": token.family_id,
    }
    row = insert(personal_tokens).values(values).returning(personal_tokens.c.id)
    stored = replace(token, id=(await connection.execute(row)).scalar_one())
    await announce_credential(connection, stored.ref, secret_hash)
    return stored


async def find(connection: AsyncConnection, token_id: int) -> PersonalToken | None:
    return await _find(connection, personal_tokens.c.id == token_id)


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> PersonalToken | None:
    return await _find(connection, personal_tokens.c.hash == secret_hash)


async def get(connection: AsyncConnection, token_id: int) -> PersonalToken:
    """Get the token of an id. Raises PersonalTokenUnknown."""
    token = await find(connection, token_id)
    if token is None:
        raise PersonalTokenUnknown(token_id)
    return token


async def list_all(connection: AsyncConnection, user_id: int | None = None) -> list[PersonalToken]:
    """List the tokens of a user, or of all users, in the order in which they were made; also those that ended."""
    rows = select(personal_tokens).order_by(personal_tokens.c.id)
    if user_id is not None:
        rows = rows.where(personal_tokens.c.user_id == user_id)
    return [to_personal_token(row) for row in await connection.execute(rows)]


async def revoke(connection: AsyncConnection, token_id: int, now: datetime) -> PersonalToken:
    """End a token and return it; one that was revoked before keeps its time. Raises PersonalTokenUnknown."""
    token = await get(connection, token_id)
    if token.revoked_at is not None:
        return token
    change = update(personal_tokens).where(personal_tokens.c.id == token_id).values(revoked_at=now)
    secret_hash = (await connection.execute(change.returning(personal_tokens.c.hash))).scalar_one()
    await announce_credential(connection, token.ref, secret_hash)
    return replace(token, revoked_at=now)


async def revoke_family(connection: AsyncConnection, token: PersonalToken, now: datetime) -> list[PersonalToken]:
    """End those tokens of a family that have not ended, and return them. `token`: any of the family."""
    first = token.id if token.family_id is None else token.family_id
    of_family = or_(personal_tokens.c.id == first, personal_tokens.c.family_id == first)
    valid = and_(personal_tokens.c.revoked_at.is_(None), not_expired(personal_tokens, now))
    # The user is in the condition for its index: a family belongs to one.
    rows = select(personal_tokens.c.id).where(personal_tokens.c.user_id == token.user_id, of_family, valid)
    return [await revoke(connection, number, now) for (number,) in (await connection.execute(rows)).all()]


def to_personal_token(row: Row[Any]) -> PersonalToken:
    """The token of a row."""
    return PersonalToken(
        row.id,
        row.user_id,
        row.name,
        scopes_from_text(row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.last_used_at,
        row.description or "",
        row.family_id,
    )


async def _find(connection: AsyncConnection, condition: ColumnElement[bool]) -> PersonalToken | None:
    row = (await connection.execute(select(personal_tokens).where(condition))).first()
    return to_personal_token(row) if row else None
