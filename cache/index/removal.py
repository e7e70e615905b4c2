"""Removal of all rows of digests from the index. This module holds the statements only."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete

from cache.index.schema import blobs, gone, links, manifests, pointers


def remove_rows(connection: Connection, digests: Sequence[str]) -> None:
    """Delete all rows of these digests, at most a few hundred; bytes and links are deleted together.

    No other process drops anything from its memory: a link to a blob that is still there finds no file, and a manifest
    that is still there is served until it leaves that memory, or is recorded again. A pointer to a deleted manifest is
    not wrong, but nothing would ever delete it.
    """
    for table in (links, blobs, manifests, gone):
        connection.execute(delete(table).where(table.c.digest.in_(digests)))
    connection.execute(delete(pointers).where(pointers.c.digest.in_(digests)))
