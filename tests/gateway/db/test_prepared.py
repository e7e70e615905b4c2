"""Prepared statements: executed by their text on SQLite, and as all others elsewhere, with the same results."""

import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from cache.prepared import prepared
from gateway.db import groups, schema, uploads
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.db.storable import ValueUnstorable

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
GROUPS = schema.groups
FIND = prepared(select(GROUPS.c.id, GROUPS.c.path, GROUPS.c.created_at).where(GROUPS.c.path == bindparam("wanted")))
MOVE = prepared(update(GROUPS).where(GROUPS.c.path == bindparam("wanted")).returning(GROUPS.c.path))
SECRET = "sha256:s3cret"
LINK = prepared(insert(schema.blob_links))


async def test_a_prepared_statement_has_the_result_of_any_other(database: Database) -> None:
    async def work(connection: Connection) -> list[object]:
        made = await groups.create(connection, "a", NOW)
        row = (await connection.execute(FIND, {"wanted": "a"})).one()
        none = (await connection.execute(FIND, {"wanted": "b"})).first()
        return [row.id == made.id, row.path, row.created_at, none]

    assert await database.transact(work) == [True, "a", NOW, None]
    async with database.read() as connection:
        assert (await connection.execute(FIND, {"wanted": "a"})).one().created_at == NOW


async def test_values_are_converted_as_their_columns_do(database: Database) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))

    async def work(connection: Connection) -> list[str]:
        await groups.create(connection, "a", NOW)
        values = {"wanted": "a", "path": "b", "created_at": elsewhere}
        return list((await connection.execute(MOVE, values)).scalars())

    assert await database.transact(work) == ["b"]
    async with database.read() as connection:
        assert (await connection.execute(FIND, {"wanted": "b"})).one().created_at == NOW


async def test_a_value_that_cannot_be_stored_is_refused(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await uploads.insert(connection, "x", 1, "a\0b", NOW)

    with pytest.raises(ValueUnstorable):
        await database.transact(work)


async def test_a_violated_constraint_is_the_error_of_sqlalchemy_and_shows_no_value(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute(LINK, {"repository_id": 77, "digest": SECRET, "created_at": NOW})

    with pytest.raises(IntegrityError) as raised:
        await database.transact(work)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


async def test_a_prepared_statement_outlives_a_transaction_that_failed(database: Database) -> None:
    async def fail(connection: Connection) -> None:
        await uploads.count_of(connection, "user:1")
        raise ZeroDivisionError

    async def count(connection: Connection) -> int:
        return await uploads.count_of(connection, "user:1")

    assert await database.transact(count) == 0
    with pytest.raises(ZeroDivisionError):
        await database.transact(fail)
    assert await database.transact(count) == 0
