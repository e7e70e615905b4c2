"""Records that nothing needs any more, and the statements that delete them.

What the gate of a group needs stays: the age of a tag counts from its first sighting, and content whose sighting is
forgotten counts as never seen. So a sighting outlives the longest cooldown that a group can have.
"""

from pathlib import Path

from sqlalchemy import Engine

from cache.sqlite import compact, reading, writing

DAY = 24 * 3600.0
POINTER_SECONDS = DAY
"""Seconds after which a pointer to a manifest that is not cached serves no request: its tag is checked anew."""

SIGHTING_SECONDS = 400 * DAY
"""Seconds after the last sighting of a digest to which its tag does not point any more until it is forgotten; longer
than any cooldown."""

LIST_SECONDS = 90 * DAY
"""Seconds after which a list is not served any more, whatever `cache.grace` is."""

BATCH = 500

_POINTERS = """
    DELETE FROM pointers WHERE (image_id, tag) IN (
        SELECT image_id, tag FROM pointers WHERE checked_at < :pointers_before
        AND NOT EXISTS (SELECT 1 FROM manifests WHERE manifests.digest = pointers.digest)
        AND NOT EXISTS (
            SELECT 1 FROM pins WHERE pins.image_id = pointers.image_id AND pins.reference IN ('', pointers.tag)
        ) LIMIT :count)
"""
_SIGHTINGS = """
    DELETE FROM sightings WHERE (image_id, tag, digest) IN (
        SELECT image_id, tag, digest FROM sightings AS seen
        WHERE last_seen < :sightings_before AND first_seen < :sightings_before
        AND NOT EXISTS (
            SELECT 1 FROM pointers AS p WHERE (p.image_id, p.tag, p.digest) = (seen.image_id, seen.tag, seen.digest)
        ) LIMIT :count)
"""
_LISTS = """
    DELETE FROM lists WHERE (image_id, query) IN (
        SELECT image_id, query FROM lists WHERE checked_at < :lists_before LIMIT :count)
"""
_IMAGES = """
    DELETE FROM images WHERE id IN (
        SELECT id FROM images WHERE
            NOT EXISTS (SELECT 1 FROM pointers WHERE image_id = images.id)
            AND NOT EXISTS (SELECT 1 FROM links WHERE image_id = images.id)
            AND NOT EXISTS (SELECT 1 FROM pins WHERE image_id = images.id)
            AND NOT EXISTS (SELECT 1 FROM lists WHERE image_id = images.id)
            AND NOT EXISTS (SELECT 1 FROM sightings WHERE image_id = images.id) LIMIT :count)
"""
_STATEMENTS = (_POINTERS, _SIGHTINGS, _LISTS, _IMAGES)


def sweep_records(engine: Engine, path: Path, now: float, spare: int = 0) -> int:
    """Delete pointers, sightings, lists and images that nothing needs, in batches; return how many. Blocks.

    Space in the file that is unused then, if it is more than `spare` bytes, is given back to the disk. Raises
    DatabaseUnusable.
    """
    deleted = 0
    for statement in _STATEMENTS:
        found = statement[statement.index("SELECT") : statement.rindex(")")]
        with reading(engine, path) as connection:
            count = BATCH if connection.exec_driver_sql(found, _values(now, 1)).first() else 0
        while count == BATCH:
            with writing(engine, path) as connection:
                count = connection.exec_driver_sql(statement, _values(now, BATCH)).rowcount
            deleted += count
    compact(engine, path, spare)
    return deleted


def _values(now: float, count: int) -> dict[str, float]:
    return {
        "pointers_before": now - POINTER_SECONDS,
        "sightings_before": now - SIGHTING_SECONDS,
        "lists_before": now - LIST_SECONDS,
        "count": count,
    }
