"""Tables of cache.db. Times are seconds since 1970; digests and origins are stored as text."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table

metadata = MetaData()

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", String, nullable=False),
    Column("credential", String, nullable=False),
    Column("name", String, nullable=False),
)
pointers = Table(
    "pointers",
    metadata,
    Column("image_id", Integer, ForeignKey("images.id"), primary_key=True),
    Column("tag", String, primary_key=True),
    Column("media_type", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("checked_at", Float, nullable=False),
)
links = Table(
    "links",
    metadata,
    Column("digest", String, primary_key=True),
    Column("image_id", Integer, ForeignKey("images.id"), primary_key=True),
)
manifests = Table(
    "manifests",
    metadata,
    Column("digest", String, primary_key=True),
    Column("media_type", String, nullable=False),
    Column("raw", LargeBinary, nullable=False),
)
blobs = Table(
    "blobs",
    metadata,
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
)
# Pins: content that is never evicted. An empty reference means the whole image; else a tag or a digest, and all below
# it.
pins = Table(
    "pins",
    metadata,
    Column("image_id", Integer, ForeignKey("images.id"), primary_key=True),
    Column("reference", String, primary_key=True),
)
# Content whose tag was deleted upstream, and all below it: it cannot be fetched again by the tag.
gone = Table(
    "gone",
    metadata,
    Column("digest", String, primary_key=True),
    Column("gone_at", Float, nullable=False),
)
# Totals of blobs and manifests; triggers maintain them.
totals = Table(
    "totals",
    metadata,
    Column("kind", String, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
)
# A digest under a tag: when the tag began to point to it, the last time that it did so without another in between; when
# that was last seen; and the seconds of the longest earlier time.
sightings = Table(
    "sightings",
    metadata,
    Column("image_id", Integer, ForeignKey("images.id"), primary_key=True),
    Column("tag", String, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("longest", Float, nullable=False, server_default="0"),
)
# The references of cached manifests, by what they refer to; a trigger deletes those of a deleted manifest.
parents = Table(
    "parents",
    metadata,
    Column("digest", String, primary_key=True),
    Column("parent", String, primary_key=True),
)
# Lists of tags and referrers, by the query that requests them; `size` is that of the content.
lists = Table(
    "lists",
    metadata,
    Column("image_id", Integer, ForeignKey("images.id"), primary_key=True),
    Column("query", String, primary_key=True),
    Column("checked_at", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
# One row: when the first sighting was recorded, and how many were added since.
history = Table(
    "history",
    metadata,
    Column("began_at", Float, nullable=False),
    Column("added", Integer, nullable=False),
)
# Changes that other processes must drop from their memory: a tag or a digest (`tag`), or a whole image.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("writer", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("credential", String, nullable=False),
    Column("name", String, nullable=False),
    Column("tag", String),
)
