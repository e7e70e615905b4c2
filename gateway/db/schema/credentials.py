"""Tables of what proves who somebody is: tokens, sessions, jobs and logins."""

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Table, UniqueConstraint

from gateway.db.schema.columns import Moment, metadata
from gateway.db.storable import StoredId, StoredText

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
# presented, with which they end; of one by `identity_id`, when that identity was stored. `admin`: whether the user was
# an administrator when the secret was made.
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
    Column("identity_id", StoredId),
    sqlite_autoincrement=True,
)

# What issuers call users, by which these sign in to pages. `issuer`: its URL.
user_identities = Table(
    "user_identities",
    metadata,
    Column("id", StoredId, primary_key=True),
    Column("user_id", StoredId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("issuer", StoredText(2048), nullable=False),
    Column("subject", StoredText(255), nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("issuer", "subject"),
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
