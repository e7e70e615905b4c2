"""Holdings: what an image has in the index, which a refusal may take away. This module holds the statements only."""

from sqlalchemy import Connection, exists, select

from cache.index.base import Holdings
from cache.index.schema import links, pointers
from cache.oci.digest import Digest
from cache.oci.names import Tag

_TAGS = 2


def select_holdings(connection: Connection, image_id: int | None) -> Holdings:
    of_image = pointers.c.image_id == image_id
    latest = select(pointers.c.tag).where(of_image).order_by(pointers.c.checked_at.desc()).limit(_TAGS)
    tags = tuple(Tag(text) for text in connection.scalars(latest))
    linked = links.select().where(links.c.image_id == image_id)
    return Holdings(tags, bool(tags) or bool(connection.scalar(select(exists(linked)))))


def is_recorded(connection: Connection, image_id: int | None, reference: Tag | Digest | None) -> bool:
    """Whether the image has a pointer of the tag or a link to the digest; for None, whether the image is known."""
    match reference:
        case Tag():
            wanted = pointers.select().where(pointers.c.image_id == image_id, pointers.c.tag == reference.text)
        case Digest():
            wanted = links.select().where(links.c.image_id == image_id, links.c.digest == str(reference))
        case None:
            return image_id is not None
    return bool(connection.scalar(select(exists(wanted))))
