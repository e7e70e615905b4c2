"""History of tags: which digests were seen under a tag, and when. This module holds the statements only.

A clock that was wrong for a moment must neither keep a digest in its cooldown for years nor end it at once. A first
sighting that is later than now, or earlier than the history itself, is taken for one of now, by all who read it; the
next sighting of the tag corrects it in the file.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert as upsert

from cache.index.schema import history, sightings
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.values import Sighting, TagPointer

KEPT = 200
"""Number of digests that are kept per tag."""

KEPT_IN_ALL = 200_000
"""Number of sightings that are kept of all tags, about 50 MB; the upstream decides how many tags there are."""

TRIM_EVERY = 1000
"""Number of new sightings between two counts of all."""

EARLIEST = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
"""A moment before any version of this program: a clock that is earlier is wrong."""


_OF_TAG = (sightings.c.image_id == bindparam("of_image"), sightings.c.tag == bindparam("of_tag"))
_SAME = (*_OF_TAG, sightings.c.digest == bindparam("of_digest"), sightings.c.last_seen < bindparam("moment"))
_BEGAN = select(history.c.began_at)
_COUNT_ADDED = update(history).values(added=history.c.added + 1).returning(history.c.added)
_CORRECT_FIRST = (
    update(sightings)
    .where(*_OF_TAG, or_(sightings.c.first_seen > bindparam("now"), sightings.c.first_seen < bindparam("earliest")))
    .values(first_seen=bindparam("now"))
)
_CORRECT_LAST = (
    update(sightings)
    .where(*_OF_TAG, sightings.c.last_seen > bindparam("now"))
    .values(last_seen=bindparam("now"), longest=0)
)
_PUT = (
    upsert(sightings)
    .values(
        image_id=bindparam("of_image"),
        tag=bindparam("of_tag"),
        digest=bindparam("of_digest"),
        first_seen=bindparam("moment"),
        last_seen=bindparam("moment"),
    )
    .on_conflict_do_nothing()
)
_NEWEST = select(sightings.c.digest).where(*_OF_TAG).order_by(sightings.c.last_seen.desc()).limit(KEPT)
_DROP_OLDEST = delete(sightings).where(*_OF_TAG, sightings.c.digest.not_in(_NEWEST))
_ANOTHER = select(func.max(sightings.c.last_seen)).where(*_OF_TAG, sightings.c.digest != bindparam("of_digest"))
_BEGIN_ANEW = (
    update(sightings)
    .where(*_SAME, sightings.c.last_seen <= bindparam("another"))
    .values(
        longest=func.max(sightings.c.longest, sightings.c.last_seen - sightings.c.first_seen),
        first_seen=bindparam("moment"),
        last_seen=bindparam("moment"),
    )
)
_ADVANCE = update(sightings).where(*_SAME).values(last_seen=bindparam("moment"))


def note_sighting(connection: Connection, image_id: int, pointer: TagPointer, now: float) -> None:
    """Record a sighting: a digest keeps the time of its first sighting while no other is seen under the tag.

    Once another was, the digest's time begins anew, and the earlier one counts if it was the longest: a tag that is
    moved for a moment makes nothing older.
    """
    moment = min(pointer.checked_at.timestamp(), now)
    _begin_history(connection, moment)
    of_tag: dict[str, object] = {"of_image": image_id, "of_tag": pointer.tag.text}
    if now >= EARLIEST:
        connection.execute(_CORRECT_FIRST, of_tag | {"now": now, "earliest": earliest_moment(connection, now)})
        connection.execute(_CORRECT_LAST, of_tag | {"now": now})
    sighting = of_tag | {"of_digest": str(pointer.target.digest), "moment": moment}
    if not connection.execute(_PUT, sighting).rowcount:
        _advance(connection, sighting)
        return
    connection.execute(_DROP_OLDEST, of_tag)
    if not (connection.scalar(_COUNT_ADDED) or 0) % TRIM_EVERY:
        _trim(connection)


def _advance(connection: Connection, sighting: dict[str, object]) -> None:
    """Note a later sighting of a digest, and whether the tag has pointed to another one in between."""
    another = connection.scalar(_ANOTHER, sighting)
    if another is not None:
        connection.execute(_BEGIN_ANEW, sighting | {"another": another})
    connection.execute(_ADVANCE, sighting)


def select_sightings(
    connection: Connection, image_id: int | None, now: float, tag: Tag | None = None
) -> list[Sighting]:
    """Sightings of a tag of an image, or of all its tags, as they count at a moment."""
    earliest = earliest_moment(connection, now)
    of_image = select(sightings).where(sightings.c.image_id == image_id)
    rows = connection.execute(of_image if tag is None else of_image.where(sightings.c.tag == tag.text)).all()
    return [
        Sighting(
            Tag(row.tag),
            Digest.parse(row.digest),
            to_moment(row.first_seen if earliest <= row.first_seen <= now else now),
            to_moment(min(row.last_seen, now)),
            timedelta(seconds=row.longest if row.last_seen <= now else 0),
        )
        for row in rows
    ]


def _begin_history(connection: Connection, moment: float) -> None:
    """Date the history to its first sighting, unless it has begun."""
    if connection.scalar(_BEGAN) is None:
        first = connection.scalar(select(func.min(sightings.c.first_seen)).where(sightings.c.first_seen >= EARLIEST))
        began = moment if first is None else min(first, moment)
        connection.execute(insert(history).values(began_at=began, added=0))


def history_began(connection: Connection) -> datetime | None:
    """When the first tag of the whole cache was seen; None where none was."""
    began: float | None = connection.scalar(_BEGAN)
    return None if began is None else to_moment(began)


def earliest_moment(connection: Connection, now: float) -> float:
    """The earliest moment of a sighting; a beginning in the future is one of a clock that was wrong, or is."""
    began = connection.scalar(_BEGAN)
    return max(began, EARLIEST) if began is not None and began <= now else EARLIEST


def _trim(connection: Connection) -> None:
    """Delete the sightings beyond those that are kept: of the images with the most, those that are the longest ago.

    Whoever pulls the tags of some images makes no other image forget its own, and so ends or begins no cooldown there.
    """
    excess = (connection.scalar(select(func.count()).select_from(sightings)) or 0) - KEPT_IN_ALL
    if excess > 0:
        key = (sightings.c.image_id, sightings.c.tag, sightings.c.digest)
        newest_first = func.row_number().over(partition_by=key[0], order_by=sightings.c.last_seen.desc())
        surplus = select(*key).order_by(newest_first.desc(), sightings.c.last_seen).limit(excess)
        connection.execute(delete(sightings).where(tuple_(*key).in_(surplus)))


def to_moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
