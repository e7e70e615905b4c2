"""Tables of groups, projects, users' names and who is a member where."""

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
    Text,
    UniqueConstraint,
    false,
    true,
)

from gateway.db.schema.columns import Moment, PathText, metadata
from gateway.db.storable import StoredId, StoredText

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
