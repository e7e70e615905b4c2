"""Tables of gateway.db as they are after every migration; a test holds the two together."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.types import TypeDecorator

from gateway.db.storable import StoredId, StoredText


class Moment(TypeDecorator[datetime]):
    """Aware datetime, stored in UTC also where the database forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC)


PathText = StoredText(255, bytewise=True)
"""Type of names and paths, compared byte by byte on both databases, so that an index serves prefixes."""

DigestText = StoredText(135, bytewise=True)
"""Type of digests, `algorithm:hex`; a sha512 has 135 characters."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# `path` is the full, lower-case one: `a/b` is the group `b` in the group `a`. An id never returns, for secrets are
# sealed to it. `stored_bytes`: of the projects below it, right as long as it has a quota; kept by gateway.db.quotas.
# `as_of`: the moment as of which its projects are pulled from, where no nearer pin says another one.
groups = Table(
    "groups",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("path", PathText, nullable=False, unique=True),
    Column("visibility", String(8), nullable=False),
    Column("proxy_enabled", Boolean, nullable=False),
    Column("anonymous_pull", Boolean, nullable=False),
    Column("default_upstream", StoredText(255), nullable=False),
    Column("upstream_username", StoredText),
    Column("upstream_password_sealed", StoredText),
    Column("created_at", Moment, nullable=False),
    Column("fresh_only", Boolean, nullable=False, server_default=false()),
    Column("gate", Text),
    Column("quota", BigInteger),
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    Column("as_of", Moment),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="visibility"),
    CheckConstraint("NOT anonymous_pull OR visibility = 'public'", name="anonymous_pull"),
    CheckConstraint("(upstream_username IS NULL) = (upstream_password_sealed IS NULL)", name="upstream_login"),
    sqlite_autoincrement=True,
)

# Every node of the tree by its path, which no other node has; users' namespaces are named like their users.
paths = Table(
    "paths",
    metadata,
    Column("path", PathText, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("node_id", StoredId, nullable=False),
    CheckConstraint("kind IN ('user', 'group', 'project')", name="kind"),
    UniqueConstraint("kind", "node_id"),
)

users = Table(
    "users",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("name", PathText, nullable=False, unique=True),
    Column("email", PathText, unique=True),
    Column("admin", Boolean, nullable=False),
    Column("external", Boolean, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("password_hash", StoredText),
    Column("password_changed_at", Moment),
    Column("created_at", Moment, nullable=False),
    sqlite_autoincrement=True,
)

# `path` is the full, lower-case one, below a group or a user's namespace. `stored_bytes`: of its manifests and of its
# blobs, each counted once; kept by gateway.db.quotas. `as_of`: its own pin; `pinned_at`: that of the nearest pin, its
# own or of a group above it; kept by gateway.db.pins. `limits_jobs`: whether jobs of other projects need a row of
# job_allowances to pull.
projects = Table(
    "projects",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("path", PathText, nullable=False, unique=True),
    Column("visibility", String(8), nullable=False),
    Column("registry", String(8), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("created_by", StoredId, ForeignKey("users.id", ondelete="SET NULL"), index=True),
    Column("quota", BigInteger),
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    Column("as_of", Moment),
    Column("pinned_at", Moment),
    Column("limits_jobs", Boolean, nullable=False, server_default=true()),
    CheckConstraint("visibility IN ('public', 'internal', 'private')", name="visibility"),
    CheckConstraint("registry IN ('enabled', 'private', 'disabled')", name="registry"),
    sqlite_autoincrement=True,
)

# A membership is of a group or of a project.
members = Table(
    "members",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE")),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE")),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("role", Integer, nullable=False),
    Column("expires_at", Moment),
    Column("created_at", Moment, nullable=False),
    CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="one_node"),
    UniqueConstraint("group_id", "user_id"),
    UniqueConstraint("project_id", "user_id"),
    sqlite_autoincrement=True,
)

# Users who are no people, each behind the access tokens of one project or group. One has no path, so that nothing lies
# below its name.
bots = Table(
    "bots",
    metadata,
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="one_node"),
)

# Tokens rest as SHA-256 in hex; `scopes` are words with spaces between them. Revoked ones are kept, so that whoever
# presents one is told so. `family_id`: the first of the tokens of which this one is a rotation; NULL for one that is
# none.
personal_tokens = Table(
    "personal_tokens",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", StoredText(255), nullable=False),
    Column("hash", StoredText(64), nullable=False, unique=True),
    Column("scopes", StoredText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    Column("description", StoredText(255)),
    Column("family_id", StoredId),
    sqlite_autoincrement=True,
)

# Sessions of web pages; their secrets rest as SHA-256 in hex. `password_changed_at`: of the password that was
# presented, with which they end. `admin`: whether the user was an administrator when the secret was made.
web_sessions = Table(
    "web_sessions",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hash", StoredText(64), nullable=False, unique=True),
    Column("password_changed_at", Moment, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False, index=True),
    sqlite_autoincrement=True,
)

deploy_tokens = Table(
    "deploy_tokens",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("name", StoredText(255), nullable=False),
    Column("username", StoredText(255), nullable=False),
    Column("hash", StoredText(64), nullable=False, unique=True),
    Column("scopes", StoredText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="one_node"),
    sqlite_autoincrement=True,
)

# `deploy_hash` is of a second secret made for the job, which stands for the deploy token.
jobs = Table(
    "jobs",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hash", StoredText(64), nullable=False, unique=True),
    Column("deploy_token_id", StoredId, ForeignKey("deploy_tokens.id", ondelete="SET NULL"), index=True),
    Column("deploy_hash", StoredText(64), unique=True),
    Column("ref", StoredText),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("last_used_at", Moment),
    sqlite_autoincrement=True,
)

# Logins by ID tokens, each of one token, whose SHA-256 is `hash`. `replay_key`: equal for tokens that are the same to
# their issuer, of which one logs in. `rule`: the fingerprint of the rule of the settings that let it in.
id_token_logins = Table(
    "id_token_logins",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("issuer", StoredText(64), nullable=False),
    Column("subject", StoredText(255), nullable=False),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("rule", StoredText(64), nullable=False),
    Column("hash", StoredText(64), nullable=False, unique=True),
    Column("replay_key", StoredText(64), nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("last_used_at", Moment),
    sqlite_autoincrement=True,
)

# Projects, and groups with everything below them, whose jobs may pull from a project.
job_allowances = Table(
    "job_allowances",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("allowed_project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("allowed_group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    CheckConstraint("(allowed_group_id IS NULL) <> (allowed_project_id IS NULL)", name="one_node"),
    sqlite_autoincrement=True,
)

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

# Paths that groups, projects and repositories had before they moved: `until` that time, one leads to what had it, and
# nothing else is made there. A project and its repository may have had one path.
old_paths = Table(
    "old_paths",
    metadata,
    Column("path", PathText, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("node_id", StoredId, nullable=False),
    Column("moved_at", Moment, nullable=False),
    Column("until", Moment, nullable=False, index=True),
    PrimaryKeyConstraint("path", "kind"),
    CheckConstraint("kind IN ('group', 'project', 'repository')", name="kind"),
    Index("ix_old_paths_kind_node_id", "kind", "node_id"),
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

# Where events are sent: those of a project, of a group with all below it, or, where neither is set, of the server.
# `uid` never returns, for secrets are sealed to it. `failures`: attempts in a row that failed.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("uid", StoredText(32), nullable=False, unique=True),
    Column("project_id", StoredId, ForeignKey("projects.id", ondelete="CASCADE"), index=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), index=True),
    Column("url", StoredText(2048), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(2048), nullable=False),
    Column("verify_tls", Boolean, nullable=False),
    Column("push_events", Boolean, nullable=False),
    Column("pull_events", Boolean, nullable=False),
    Column("delete_events", Boolean, nullable=False),
    Column("fill_events", Boolean, nullable=False),
    Column("token_sealed", StoredText),
    Column("signing_sealed", StoredText),
    Column("created_at", Moment, nullable=False),
    Column("failures", StoredId, nullable=False),
    Column("disabled_until", Moment),
    sqlite_autoincrement=True,
)

# Outbox: events of which webhooks are still to be told, each written by the transaction that it tells of. `cause`:
# facts of the request, a JSON object. Numbers never return: ids of what is sent are made from them.
webhook_events = Table(
    "webhook_events",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("trigger", StoredText(32), nullable=False),
    Column("path", StoredText(512), nullable=False),
    Column("project_id", StoredId),
    Column("tag", StoredText(128)),
    Column("digest", DigestText),
    Column("media_type", StoredText),
    Column("size", BigInteger),
    Column("cause", StoredText, nullable=False),
    sqlite_autoincrement=True,
)

# What is sent to a webhook, or was. `next_at`: when it is due, NULL once it has ended; `uid`: by which a receiver knows
# that it was sent before.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("webhook_id", StoredId, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("uid", StoredText(40), nullable=False),
    Column("trigger", StoredText(32), nullable=False),
    Column("payload", StoredText, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("attempts", StoredId, nullable=False),
    Column("next_at", Moment),
    Column("ended_at", Moment, index=True),
    Column("delivered", Boolean, nullable=False),
    Column("response_status", StoredId),
    Column("problem", StoredText(255)),
    Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
    Index("ix_webhook_deliveries_next_at", "next_at"),
    sqlite_autoincrement=True,
)

# Virtual registries of groups, and the upstreams that they pull from. Ids never return, as those of groups.
virtual_registries = Table(
    "virtual_registries",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(1024), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("group_id", "name"),
    sqlite_autoincrement=True,
)
# `cache_key`: under what the content of an upstream is cached; 16 random bytes in hex.
virtual_upstreams = Table(
    "virtual_upstreams",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("group_id", StoredId, ForeignKey("groups.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("url", StoredText(255), nullable=False),
    Column("name", StoredText(255), nullable=False),
    Column("description", StoredText(1024), nullable=False),
    Column("cache_validity_hours", Integer, nullable=False),
    Column("username", StoredText(510)),
    Column("password_sealed", StoredText),
    Column("cache_key", StoredText(32), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    CheckConstraint("(username IS NULL) = (password_sealed IS NULL)", name="login"),
    sqlite_autoincrement=True,
)
# Which upstreams a virtual registry has, in the order of their positions, which count from 1.
virtual_registry_upstreams = Table(
    "virtual_registry_upstreams",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("registry_id", StoredId, ForeignKey("virtual_registries.id", ondelete="CASCADE"), nullable=False),
    Column("upstream_id", StoredId, ForeignKey("virtual_upstreams.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    UniqueConstraint("registry_id", "upstream_id"),
    sqlite_autoincrement=True,
)

# Mark of a prepared installation, at most one row: when it was given what every new one is given.
installation = Table(
    "installation",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("prepared_at", Moment, nullable=False),
    CheckConstraint("id = 1", name="one"),
)

# Oldest revision whose programs can use the database, one row. Each migration states it anew.
compatibility = Table(
    "compatibility",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("oldest_program", String(16), nullable=False),
    CheckConstraint("id = 1", name="one"),
)

# Log of changes: what a process that keeps it in memory must drop. Numbers never return, also where all rows are gone.
changes = Table(
    "changes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("concern", String(16), nullable=False),
    Column("key", StoredText, nullable=False),
    sqlite_autoincrement=True,
)
