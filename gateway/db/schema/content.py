"""Tables of native repositories and of what is stored in them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from gateway.db.schema.columns import DigestText, Moment, PathText, metadata
from gateway.db.storable import StoredId, StoredText

# Native repositories of projects; `path` is the name that clients use. A deleted one stays until it is purged, under a
# path that no client can name; `deleted_name`: what it had below the path of its project, empty for that path itself.
repositories = Table(
    "repositories",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("path", PathText, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("deleted_at", Moment, index=True),
    Column("deleted_name", PathText),
    Column("deleted_by", StoredText(255)),
    sqlite_autoincrement=True,
)

# Native blobs that are stored: a file without a row is not here.
blobs = Table(
    "blobs",
    metadata,
    Column("digest", DigestText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
)

# Blobs that may be pulled from a repository, and that its manifests may refer to.
blob_links = Table(
    "blob_links",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("digest", DigestText, ForeignKey("blobs.digest"), nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    PrimaryKeyConstraint("repository_id", "digest"),
)

# Manifests byte for byte. `subject`: the digest of the manifest that this one refers to, which may not be here.
manifests = Table(
    "manifests",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("digest", DigestText, nullable=False),
    Column("media_type", StoredText(255), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("subject", DigestText),
    Column("artifact_type", StoredText(255)),
    Column("pushed_at", Moment, nullable=False),
    UniqueConstraint("repository_id", "digest"),
    Index("ix_manifests_repository_id_subject", "repository_id", "subject"),
    sqlite_autoincrement=True,
)

# Manifests that were deleted by their digests, as they were: a restore stores them anew. Nothing is pulled from here.
deleted_manifests = Table(
    "deleted_manifests",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("digest", DigestText, nullable=False),
    Column("media_type", StoredText(255), nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("deleted_at", Moment, nullable=False, index=True),
    PrimaryKeyConstraint("repository_id", "digest"),
)

# What a manifest needs for a complete pull: blobs, and manifests of the same repository; each digest once.
# `repository_id`: that of the manifest, so that what one repository needs is found without looking at all others.
manifest_references = Table(
    "manifest_references",
    metadata,
    Column("manifest_id", StoredId, ForeignKey("manifests.id", ondelete="CASCADE"), nullable=False),
    Column("digest", DigestText, nullable=False, index=True),
    Column("is_manifest", Boolean, nullable=False),
    Column("repository_id", StoredId, nullable=False, server_default="0"),
    PrimaryKeyConstraint("manifest_id", "digest"),
    Index("ix_manifest_references_repository_id_digest", "repository_id", "digest"),
)

tags = Table(
    "tags",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("name", StoredText(128, bytewise=True), nullable=False),
    Column("manifest_id", StoredId, ForeignKey("manifests.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("moved_at", Moment, nullable=False),
    PrimaryKeyConstraint("repository_id", "name"),
    Index("ix_tags_repository_id_moved_at_name", "repository_id", "moved_at", "name"),
)

# What tags of repositories of pinned projects pointed to at the moment of the pin.
pinned_tags = Table(
    "pinned_tags",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("name", StoredText(128, bytewise=True), nullable=False),
    Column("manifest_id", StoredId, ForeignKey("manifests.id", ondelete="CASCADE"), nullable=False, index=True),
    PrimaryKeyConstraint("repository_id", "name"),
)

# Every creation, move and deletion of a tag. `actor`: who did it. The digests outlive the manifests that they name.
tag_events = Table(
    "tag_events",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
    Column("name", StoredText(128, bytewise=True), nullable=False),
    Column("event", String(8), nullable=False),
    Column("at", Moment, nullable=False),
    Column("actor", StoredText(255), nullable=False),
    Column("from_digest", DigestText),
    Column("to_digest", DigestText),
    CheckConstraint("event IN ('create', 'move', 'delete')", name="event"),
    Index("ix_tag_events_repository_id_name_id", "repository_id", "name", "id"),
    sqlite_autoincrement=True,
)

# Uploads that are not finished. `received`: bytes that have arrived in the file, which may have lost some of them where
# the power failed; `hash_state`: the hash of these, NULL where it must be taken anew. `owner`: who began it, and alone
# goes on.
uploads = Table(
    "uploads",
    metadata,
    Column("id", StoredText(36), primary_key=True),
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("owner", StoredText(255), nullable=False, index=True),
    Column("received", BigInteger, nullable=False),
    Column("hash_state", LargeBinary),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False, index=True),
    Column("reserved", BigInteger),
)
