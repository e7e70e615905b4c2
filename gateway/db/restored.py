"""Rows that a restored database must not have as they were: uploads whose files were left behind, what webhooks were
told of before, and reviews and deleted repositories that the time since the backup has made due."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, delete, update
from sqlalchemy.pool import NullPool

from cache import sqlite
from gateway.db import schema


def renew(path: Path, now: datetime) -> None:
    """Delete every unfinished upload and what webhooks are to be told from an SQLite file of the newest revision, and
    let every review begin anew, and the time for which deleted repositories are kept.

    Raises DatabaseUnusable.
    """
    engine = create_engine(sqlite.url("sqlite", path), poolclass=NullPool)
    sqlite.listen(engine)
    with sqlite.writing(engine, path) as connection:
        connection.execute(delete(schema.uploads))
        for told in (schema.webhook_events, schema.webhook_deliveries):  # of which webhooks were told before
            connection.execute(delete(told))
        for table in (schema.blob_reviews, schema.manifest_reviews):
            connection.execute(update(table).values(since=now))
        deleted = schema.repositories.c.deleted_at
        connection.execute(update(schema.repositories).where(deleted.is_not(None)).values(deleted_at=now))
        connection.execute(update(schema.deleted_manifests).values(deleted_at=now))
