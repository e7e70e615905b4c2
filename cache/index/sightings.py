"""History of tags: which digests were seen under a tag, and when. This module holds the statements only."""

from datetime import UTC, datetime

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from cache.index.schema import links, manifests, sightings
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.values import Sighting, TagPointer

KEPT = 200
"""Number of digests that are kept per tag."""


def note_sighting(connection: Connection, image_id: int, pointer: TagPointer) -> None:
    """Record a sighting: a digest keeps the time of its first sighting, and only the last one advances."""
    key = {"image_id": image_id, "tag": pointer.tag.text, "digest": str(pointer.target.digest)}
    moment = pointer.checked_at.timestamp()
    new = upsert(sightings).values(**key, first_seen=moment, last_seen=moment).on_conflict_do_nothing()
    of_tag = (sightings.c.image_id == image_id, sightings.c.tag == key["tag"])
    if not connection.execute(new).rowcount:
        same = (*of_tag, sightings.c.digest == key["digest"], sightings.c.last_seen < moment)
        connection.execute(update(sightings).where(*same).values(last_seen=moment))
        return
    newest = select(sightings.c.digest).where(*of_tag).order_by(sightings.c.last_seen.desc()).limit(KEPT)
    connection.execute(delete(sightings).where(*of_tag, sightings.c.digest.not_in(newest)))


def select_sightings(connection: Connection, image_id: int | None) -> list[Sighting]:
    rows = connection.execute(select(sightings).where(sightings.c.image_id == image_id)).all()
    return [
        Sighting(Tag(row.tag), Digest.parse(row.digest), _moment(row.first_seen), _moment(row.last_seen))
        for row in rows
    ]


def select_linked_manifests(connection: Connection, image_id: int | None) -> set[Digest]:
    cached = select(links.c.digest).join(manifests, manifests.c.digest == links.c.digest)
    return {Digest.parse(text) for text in connection.scalars(cached.where(links.c.image_id == image_id))}


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
