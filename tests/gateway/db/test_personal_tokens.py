"""Personal access tokens as they are stored."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.db import credential_rows, personal_tokens
from gateway.db.engine import Database
from gateway.namespaces.credentials import CredentialKind, PersonalToken, Scope, hash_secret, new_secret
from gateway.namespaces.errors import CredentialUnknown
from tests.gateway.db.identity_rows import NOW, add_user

DAY = timedelta(days=1)
TOKEN = PersonalToken(0, 0, "ci", frozenset({Scope.READ_REGISTRY, Scope.API}), NOW, NOW + DAY)


async def create(
    database: Database, user: str, *, expires_at: timedelta = DAY, now: timedelta = DAY * 0
) -> PersonalToken:
    token = replace(TOKEN, created_at=NOW + now, expires_at=NOW + now + expires_at)
    async with database.write() as connection:
        owner = await add_user(connection, user)
        secret_hash = hash_secret(new_secret(CredentialKind.PERSONAL_TOKEN))
        return await personal_tokens.create(connection, replace(token, user_id=owner.id), secret_hash)


async def test_a_token_is_stored_as_it_was_made(database: Database) -> None:
    token = await create(database, "ann")
    assert token == replace(TOKEN, id=token.id, user_id=token.user_id)
    async with database.read() as connection:
        assert await personal_tokens.get(connection, token.id) == token
        assert await personal_tokens.find(connection, token.id + 1) is None
        with pytest.raises(CredentialUnknown, match=f"there is no personal access token {token.id + 1}$"):
            await personal_tokens.get(connection, token.id + 1)


async def test_tokens_are_listed_by_user_in_the_order_of_their_creation(database: Database) -> None:
    first, second = await create(database, "zoe"), await create(database, "ann")
    async with database.read() as connection:
        assert await personal_tokens.list_all(connection) == [first, second]
        assert await personal_tokens.list_all(connection, second.user_id) == [second]


async def test_a_revoked_token_stays_and_keeps_the_time_of_its_first_revocation(database: Database) -> None:
    token = await create(database, "ann")
    async with database.write() as connection:
        revoked = await personal_tokens.revoke(connection, token.id, NOW)
        assert revoked == replace(token, revoked_at=NOW)
        assert await personal_tokens.revoke(connection, token.id, NOW + DAY) == revoked
        assert await personal_tokens.get(connection, token.id) == revoked
        with pytest.raises(CredentialUnknown):
            await personal_tokens.revoke(connection, token.id + 1, NOW)


async def test_a_new_token_deletes_the_ones_that_ended_a_year_ago(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_rows, "KEPT_NEWEST", 0)
    year = credential_rows.KEPT_AFTER_END
    expired, revoked = await create(database, "a"), await create(database, "b", expires_at=DAY * 5000)
    kept = await create(database, "c", expires_at=DAY * 3)
    async with database.write() as connection:
        await personal_tokens.revoke(connection, revoked.id, NOW + DAY)
    new = await create(database, "d", now=year + DAY * 2)
    async with database.read() as connection:
        assert await personal_tokens.list_all(connection) == [kept, new]
        assert await personal_tokens.find(connection, expired.id) is None


async def test_a_new_token_looks_at_a_bounded_number_of_rows(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential_rows, "LOOKED_AT", 1)
    monkeypatch.setattr(credential_rows, "KEPT_NEWEST", 0)
    for name in "abcde":
        await create(database, name)
    await create(database, "f", now=credential_rows.KEPT_AFTER_END + DAY * 2)
    async with database.read() as connection:
        left = await personal_tokens.list_all(connection)
    assert len(left) in (4, 5)  # the oldest was looked at, and one more, which may be the oldest


async def test_tokens_that_end_late_shield_no_later_ones(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_rows, "LOOKED_AT", 3)
    monkeypatch.setattr(credential_rows, "KEPT_NEWEST", 0)
    for number in range(6):
        await create(database, f"late-{number}", expires_at=DAY * 5000)
    for number in range(6):
        await create(database, f"ended-{number}")
    after = credential_rows.KEPT_AFTER_END + DAY * 2
    for number in range(40):
        await create(database, f"new-{number}", now=after + timedelta(microseconds=number * 7))
    async with database.read() as connection:
        left = await personal_tokens.list_all(connection)
    assert len(left) == 6 + 40
    assert all(token.expires_at is not None and token.expires_at > NOW + after for token in left)


async def test_a_clock_that_is_ahead_for_a_moment_deletes_no_valid_token(database: Database) -> None:
    """One is made while the clock is wrong, and another when it is right again."""
    valid = await create(database, "valid", expires_at=DAY * 30)
    ahead = await create(database, "ahead", now=DAY * 400)
    after = await create(database, "after")
    async with database.read() as connection:
        assert await personal_tokens.list_all(connection) == [valid, ahead, after]
