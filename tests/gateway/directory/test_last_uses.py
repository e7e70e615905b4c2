"""Last uses of credentials: what is kept in memory, and what is written down."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from gateway.db import personal_tokens, schema
from gateway.db.engine import Database
from gateway.directory import last_uses
from gateway.directory.last_uses import LastUses
from gateway.namespaces.credentials import CredentialRef, PersonalToken, Scope, hash_secret
from tests.gateway.db.identity_rows import add_user

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def uses(database: Database) -> LastUses:
    return LastUses(database)


@pytest.fixture
async def refs(database: Database) -> list[CredentialRef]:
    """Two personal tokens."""
    async with database.write() as connection:
        user = await add_user(connection)
        token = PersonalToken(0, user.id, "ci", frozenset({Scope.API}), NOW, NOW + 3600 * SECOND)
        return [(await personal_tokens.create(connection, token, hash_secret(secret))).ref for secret in "ab"]


async def written(database: Database) -> list[timedelta | None]:
    async with database.read() as connection:
        column = schema.personal_tokens.c.last_used_at
        rows = await connection.execute(select(column).order_by(schema.personal_tokens.c.id))
        return [at and at - NOW for at in rows.scalars()]


async def test_uses_are_written_down_together_when_they_are_flushed(
    database: Database, uses: LastUses, refs: list[CredentialRef]
) -> None:
    uses.note(refs[0], NOW)
    uses.note(refs[1], NOW + SECOND)
    assert await written(database) == [None, None]
    await uses.flush()
    assert await written(database) == [0 * SECOND, SECOND]


async def test_one_use_of_a_minute_is_written_down(
    database: Database, uses: LastUses, refs: list[CredentialRef]
) -> None:
    for seconds, expected in [(0, 0), (1, 0), (59, 0), (60, 60), (90, 60), (121, 121)]:
        uses.note(refs[0], NOW + seconds * SECOND)
        await uses.flush()
        assert await written(database) == [expected * SECOND, None]


async def test_a_flush_without_uses_opens_no_transaction(
    database: Database, uses: LastUses, refs: list[CredentialRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses.note(refs[0], NOW)
    await uses.flush()
    monkeypatch.delattr(Database, "write")
    uses.note(refs[0], NOW + SECOND)
    await uses.flush()


async def test_what_could_not_be_written_down_is_kept_within_bounds(
    database: Database, uses: LastUses, refs: list[CredentialRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    uses.note(refs[0], NOW)
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE personal_tokens RENAME TO away"))
    with pytest.raises(Exception, match="personal_tokens"):
        await uses.flush()
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE away RENAME TO personal_tokens"))
    monkeypatch.setattr(last_uses, "KEPT", 1)
    uses.note(refs[1], NOW)
    await uses.flush()
    assert await written(database) == [0 * SECOND, None]
    uses.note(refs[1], NOW)
    await uses.flush()
    assert await written(database) == [0 * SECOND, 0 * SECOND]
