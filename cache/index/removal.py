"""Removal of all rows of digests from the index. This module holds the statements only."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, select

from cache.index.change_log import CHANGES_KEPT
from cache.index.schema import blobs, changes, gone, images, links, manifests, pointers

_WRITER = ""
"""Every process drops the change from its memory, that of the writer too: no index has this name."""


def remove_rows(connection: Connection, digests: Sequence[str]) -> None:
    """Delete all rows of these digests, at most a few hundred; bytes, links and pointers are deleted together.

    Every process drops the links and pointers from its memory, too. There they would last for as long as the process:
    whoever refuses them later finds no row, and so tells nobody. A manifest that is still in memory needs a link.
    """
    lost: list[dict[str, str]] = []
    for table, reference in ((links, links.c.digest), (pointers, pointers.c.tag)):
        of_image = select(images.c.origin, images.c.credential, images.c.name, reference.label("tag"))
        found = connection.execute(of_image.join_from(table, images).where(table.c.digest.in_(digests)))
        lost += [{"writer": _WRITER, **row} for row in found.mappings()]
    for table in (links, blobs, manifests, gone, pointers):
        connection.execute(delete(table).where(table.c.digest.in_(digests)))
    if lost:  # after the deletions, which leave room in the file of a full disk
        connection.execute(insert(changes), lost)
        newest = select(func.max(changes.c.seq)).scalar_subquery()
        connection.execute(delete(changes).where(changes.c.seq <= newest - CHANGES_KEPT))
