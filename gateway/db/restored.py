"""Rows that a restored database must not have: uploads whose files were left behind."""

from pathlib import Path

from sqlalchemy import create_engine, delete
from sqlalchemy.pool import NullPool

from cache import sqlite
from gateway.db import schema


def forget_uploads(path: Path) -> None:
    """Delete every unfinished upload from an SQLite file of the newest revision. Raises DatabaseUnusable."""
    engine = create_engine(sqlite.url("sqlite", path), poolclass=NullPool)
    sqlite.listen(engine)
    with sqlite.writing(engine, path) as connection:
        connection.execute(delete(schema.uploads))
