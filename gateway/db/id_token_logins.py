"""Queries of logins by ID tokens, of which hashes alone are stored."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db.credential_rows import announce_credential, prune
from gateway.db.dialects import insert_unless_taken
from gateway.db.schema import id_token_logins
from gateway.namespaces.credentials import IdTokenLogin
from gateway.namespaces.errors import CredentialInvalid, IdTokenLoginUnknown

KEPT_AFTER_END = timedelta(days=30)
"""How long a login is kept after its end. Its token is refused by its own expiry long before: a day after it was
issued, at most."""

_ENDS = (id_token_logins.c.expires_at,)


async def begin(
    connection: AsyncConnection, login: IdTokenLogin, secret_hash: str, replay_key: str
) -> tuple[IdTokenLogin, bool]:
    """Store the login of a token, and return it with its id, and whether it is new; one of the same token is returned
    as it is. Deletes logins that ended long ago.

    Raises CredentialInvalid where another text has logged in that is the same token to its issuer.
    """
    await prune(connection, id_token_logins, _ENDS, login.created_at, KEPT_AFTER_END)
    values = {
        "issuer": login.issuer,
        "subject": login.subject,
        "user_id": login.user_id,
        "rule": login.rule,
        "hash": secret_hash,
        "replay_key": replay_key,
        "created_at": login.created_at,
        "expires_at": login.expires_at,
    }
    row = insert_unless_taken(connection.dialect.name, id_token_logins).values(values)
    stored_id = (await connection.execute(row.returning(id_token_logins.c.id))).scalar_one_or_none()
    if stored_id is None:
        known = await find_by_hash(connection, secret_hash)
        if known is None:
            raise CredentialInvalid("it was presented before, in another spelling or signed anew")
        return known, False
    stored = replace(login, id=stored_id)
    await announce_credential(connection, stored.ref, secret_hash)
    return stored, True


async def find(connection: AsyncConnection, login_id: int) -> IdTokenLogin | None:
    return await _find(connection, id_token_logins.c.id == login_id)


async def list_all(connection: AsyncConnection, now: datetime | None = None) -> list[IdTokenLogin]:
    """List the logins in the order in which they began; `now`: only those that have not ended then."""
    rows = select(id_token_logins).order_by(id_token_logins.c.id)
    if now is not None:
        rows = rows.where(id_token_logins.c.expires_at > now)
    return [_login(row) for row in await connection.execute(rows)]


async def end(connection: AsyncConnection, login_id: int, now: datetime) -> IdTokenLogin:
    """End a login and return it; one that has ended keeps its time. It stays, so that its token begins no other one.
    Raises IdTokenLoginUnknown."""
    login = await find(connection, login_id)
    if login is None:
        raise IdTokenLoginUnknown(login_id)
    if login.expires_at <= now:
        return login
    ended = update(id_token_logins).where(id_token_logins.c.id == login_id).values(expires_at=now)
    secret_hash = (await connection.execute(ended.returning(id_token_logins.c.hash))).scalar_one()
    await announce_credential(connection, login.ref, secret_hash)
    return replace(login, expires_at=now)


async def find_by_hash(connection: AsyncConnection, secret_hash: str) -> IdTokenLogin | None:
    return await _find(connection, id_token_logins.c.hash == secret_hash)


async def _find(connection: AsyncConnection, condition: ColumnElement[bool]) -> IdTokenLogin | None:
    row = (await connection.execute(select(id_token_logins).where(condition))).first()
    return _login(row) if row else None


def _login(row: Row[Any]) -> IdTokenLogin:
    return IdTokenLogin(
        row.id, row.issuer, row.subject, row.user_id, row.rule, row.created_at, row.expires_at, row.last_used_at
    )
