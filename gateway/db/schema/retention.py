"""Tables of what is deleted and when: cleanup, protection, bulk deletion, purges of caches, garbage collection."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

from gateway.db.schema.columns import DigestText, Moment, metadata
from gateway.db.storable import StoredId, StoredText

# Cleanup policies of projects. `run_at`: when the run began that is not complete; `leased_by`, `leased_until`: who goes
# on with it, and until when nobody else does. `completed_at`, `deleted`: of the last run, or of the one that goes on;
# `problem`: why that did nothing, or why the policy has disabled itself.
cleanup_policies = Table(
    "cleanup_policies",
    metadata,
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("cadence", String(8), nullable=False),
    Column("keep_n", Integer),
    Column("older_than", String(8)),
    Column("name_regex_delete", StoredText(255), nullable=False),
    Column("name_regex_keep", StoredText(255)),
    Column("next_run_at", Moment, nullable=False, index=True),
    Column("run_at", Moment),
    Column("leased_by", String(32)),
    Column("leased_until", Moment),
    Column("completed_at", Moment),
    Column("deleted", Integer, nullable=False),
    Column("problem", StoredText),
)

# What the last run of its project's policy did to a repository. `run_at`: which run that was; `completed_at`, `kept`:
# NULL where it did not come to the end.
repository_cleanups = Table(
    "repository_cleanups",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("run_at", Moment, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("completed_at", Moment),
    Column("deleted", Integer, nullable=False),
    Column("kept", Integer),
)

# Rules of projects that protect repositories and tags. `pattern`: of a repository what follows the path of the project.
# The levels are numbers of roles; those of immutable tags are NULL.
protection_rules = Table(
    "protection_rules",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("pattern", StoredText(255), nullable=False),
    Column("push_level", Integer),
    Column("delete_level", Integer),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("project_id", "kind", "pattern"),
    CheckConstraint("kind IN ('repository', 'tag', 'immutable')", name="kind"),
    sqlite_autoincrement=True,
)

# Bulk deletions of tags that were requested, the last one of each repository. `requested_at`: the moment by which tags
# are judged; `actor`: for the history of tags; `who`, `user`, `client`, `request_id`: for the logs. `leased_by`,
# `leased_until`: who goes on with it, and until when nobody else does. `problem`: why it ended without an end.
bulk_deletions = Table(
    "bulk_deletions",
    metadata,
    Column("repository_id", StoredId, ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("requested_at", Moment, nullable=False),
    Column("name_regex_delete", StoredText(255), nullable=False),
    Column("name_regex_keep", StoredText(255)),
    Column("keep_n", Integer),
    Column("older_than", StoredText(255)),
    Column("actor", StoredText(255), nullable=False),
    Column("who", StoredText, nullable=False),
    Column("user", StoredText(255)),
    Column("client", StoredText(255)),
    Column("request_id", StoredText(255)),
    Column("leased_by", String(32)),
    Column("leased_until", Moment),
    Column("completed_at", Moment, index=True),
    Column("deleted", Integer, nullable=False),
    Column("problem", StoredText),
)

# Purges of the caches of groups that were requested, the last one of each. `who`, `user`, `client`, `request_id`: for
# the logs. `images`: those that there were to purge, once they were counted; `purged`: those that are done, of which
# `shared` stay cached, since other groups pulled them too.
cache_purges = Table(
    "cache_purges",
    metadata,
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("requested_at", Moment, nullable=False),
    Column("who", StoredText, nullable=False),
    Column("user", StoredText(255)),
    Column("client", StoredText(255)),
    Column("request_id", StoredText(255)),
    Column("images", Integer),
    Column("purged", Integer, nullable=False),
    Column("shared", Integer, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("completed_at", Moment, index=True),
)

# After how many days without a pull an image is purged from the cache of a group.
image_ttl_policies = Table(
    "image_ttl_policies",
    metadata,
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("enabled", Boolean, nullable=False),
    Column("ttl", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("completed_at", Moment),
    CheckConstraint("ttl > 0", name="ttl"),
)

# Blobs whose need is reviewed once a delay has passed since an event: whether a repository still needs the blob that it
# has, or, where `repository_id` is 0, whether any repository has it at all. A row outlives the repository.
blob_reviews = Table(
    "blob_reviews",
    metadata,
    Column("digest", DigestText, nullable=False),
    Column("repository_id", StoredId, nullable=False),
    Column("event", StoredText(16), nullable=False),
    Column("since", Moment, nullable=False),
    PrimaryKeyConstraint("digest", "repository_id"),
    Index("ix_blob_reviews_since_digest_repository_id", "since", "digest", "repository_id"),
)

# Manifests whose need is reviewed once a delay has passed since an event.
manifest_reviews = Table(
    "manifest_reviews",
    metadata,
    Column("manifest_id", StoredId, ForeignKey("manifests.id", ondelete="CASCADE"), primary_key=True),
    Column("event", StoredText(16), nullable=False),
    Column("since", Moment, nullable=False),
    Index("ix_manifest_reviews_since_manifest_id", "since", "manifest_id"),
)

# Blobs without a row whose files are still to be deleted. `due_at`: not before; `attempts`: deletions that failed.
blob_removals = Table(
    "blob_removals",
    metadata,
    Column("digest", DigestText, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("due_at", Moment, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
)

# Garbage collection, one row. `seen_at`: when a collector last looked; `window_*`: how many objects there were and were
# deleted since a time, by which a collector notices that it deletes too much; `stopped_reason`: why it has stopped.
collection = Table(
    "collection",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("seen_at", Moment),
    Column("window_at", Moment),
    Column("window_objects", BigInteger, nullable=False),
    Column("window_deleted", BigInteger, nullable=False),
    Column("deleted_manifests", BigInteger, nullable=False),
    Column("deleted_blobs", BigInteger, nullable=False),
    Column("freed_bytes", BigInteger, nullable=False),
    Column("stopped_at", Moment),
    Column("stopped_reason", StoredText),
    CheckConstraint("id = 1", name="one"),
)
