"""Digests that pins protect from eviction. This module holds the statements only."""

from collections.abc import Iterable

from sqlalchemy import Connection, select

from cache.index.documents import closure
from cache.index.schema import links, pins, pointers
from cache.oci.digest import Digest


def select_pinned(connection: Connection) -> set[Digest]:
    """Digests that any pin protects. People set pins one by one, so the set is small."""
    found: set[Digest] = set()
    for image_id, reference in connection.execute(select(pins.c.image_id, pins.c.reference)).all():
        found |= protected_by(connection, image_id, reference)
    return found


def protected_by(connection: Connection, image_id: int, reference: str) -> set[Digest]:
    """Digests that the pin of a tag, a digest or (with an empty reference) an image protects now, cached or not.

    A tag protects what its pointer leads to. Content that was pulled by digest alone has no pointer, so the pin of a
    tag protects none of it before the tag is pulled.
    """
    roots: Iterable[str]
    if not reference:
        roots = connection.scalars(select(links.c.digest).where(links.c.image_id == image_id))
    elif ":" in reference:
        roots = [reference]
    else:
        of_tag = (pointers.c.image_id == image_id, pointers.c.tag == reference)
        roots = connection.scalars(select(pointers.c.digest).where(*of_tag))
    return closure(connection, map(Digest.parse, roots))
