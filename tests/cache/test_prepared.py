"""Prepared statements on a connection of the driver pysqlite, which keeps what was compiled."""

import traceback
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, create_engine, event, insert, select
from sqlalchemy.exc import IntegrityError

from cache.index.schema import blobs, metadata
from cache.prepared import execute, prepared
from cache.sqlite import create, listen, url

FIND = prepared(select(blobs.c.size).where(blobs.c.digest == bindparam("digest")))
PUT = prepared(insert(blobs))
ROW = {"digest": "sha256:s3cret", "size": 7}


def test_a_prepared_statement_is_executed_in_the_transaction_of_its_connection(tmp_path: Path) -> None:
    create(tmp_path / "a.db")
    engine = create_engine(url("sqlite", tmp_path / "a.db"))
    listen(engine)
    by_sqlalchemy: list[str] = []
    with engine.begin() as connection:
        metadata.create_all(connection)

    @event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        by_sqlalchemy.append(statement)

    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        execute(connection, PUT, ROW)
        raise ZeroDivisionError
    with engine.begin() as connection:
        assert execute(connection, FIND, ROW).scalar() is None
        execute(connection, PUT, ROW)
    with engine.begin() as connection:
        assert execute(connection, FIND, ROW).scalar() == 7
        with pytest.raises(IntegrityError) as raised:
            execute(connection, PUT, ROW)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
    assert by_sqlalchemy == []
    engine.dispose()
