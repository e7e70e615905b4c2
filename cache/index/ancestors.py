"""Ancestors of a digest: the manifests of an image that lead to it. This module holds the statements only.

The walk goes upwards, from what is requested to what contains it, so that its cost depends on how often the content is
used, and not on how many tags an image has, which anybody can request.
"""

from datetime import timedelta

from sqlalchemy import Connection, text
from sqlalchemy.dialects.sqlite import insert as upsert

from cache.index.schema import parents
from cache.index.sightings import earliest_moment, to_moment
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.values import ANCESTORS_READ, Ancestor

_ANCESTORS = text(
    """
    WITH RECURSIVE lineage (digest, child) AS (
        SELECT :digest, NULL
        UNION
        SELECT parents.parent, lineage.digest FROM lineage CROSS JOIN parents ON parents.digest = lineage.digest
        WHERE EXISTS (SELECT 1 FROM links WHERE links.digest = parents.parent AND links.image_id = :image_id)
        OR EXISTS (SELECT 1 FROM sightings AS seen WHERE seen.image_id = :image_id AND seen.digest = parents.parent)
    )
    SELECT digest, child,
        EXISTS (SELECT 1 FROM sightings AS seen WHERE seen.image_id = :image_id AND seen.digest = lineage.digest)
        AS is_seen,
        (
            SELECT min(first_seen) FROM sightings AS seen WHERE seen.image_id = :image_id
            AND seen.digest = lineage.digest AND first_seen BETWEEN :earliest AND :now
        ) AS first_seen,
        (
            SELECT longest FROM sightings AS seen WHERE seen.image_id = :image_id
            AND seen.digest = lineage.digest AND last_seen <= :now ORDER BY longest DESC LIMIT 1
        ) AS longest
    FROM lineage LIMIT :count
    """
)


_PUT = upsert(parents).on_conflict_do_nothing()


def note_references(connection: Connection, manifest: Manifest) -> None:
    """Record what a manifest refers to."""
    parent = str(manifest.descriptor.digest)
    if listed := {str(entry.digest) for entry in manifest.references()}:
        rows = [{"digest": digest, "parent": parent} for digest in sorted(listed)]
        connection.execute(_PUT, rows)


def select_ancestors(connection: Connection, image_id: int | None, digest: Digest, now: float) -> list[Ancestor]:
    """The digest itself and the cached manifests of the image that lead to it, as they count at a moment."""
    earliest = earliest_moment(connection, now)
    values = {
        "digest": str(digest),
        "image_id": image_id,
        "earliest": earliest,
        "now": now,
        "count": ANCESTORS_READ,
    }
    return [
        Ancestor(
            Digest.parse(row.digest),
            Digest.parse(row.child) if row.child else None,
            to_moment(now if row.first_seen is None else row.first_seen) if row.is_seen else None,
            timedelta(seconds=row.longest or 0),
        )
        for row in connection.execute(_ANCESTORS, values)
    ]
