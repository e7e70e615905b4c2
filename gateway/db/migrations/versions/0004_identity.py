"""Users, projects, members, tokens and jobs, and one table of the paths of all nodes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

PATH = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("groups", "path", type_=sa.String(255, collation="C"))
    create_paths()
    create_users()
    create_projects()
    create_members()
    create_tokens()
    create_jobs()


def create_paths() -> None:
    op.create_table(
        "paths",
        sa.Column("path", PATH, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("node_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_paths"),
        sa.UniqueConstraint("kind", "node_id", name="uq_paths_kind"),
        sa.CheckConstraint("kind IN ('user', 'group', 'project')", name="ck_paths_kind"),
    )
    op.execute("INSERT INTO paths (path, kind, node_id) SELECT path, 'group', id FROM groups")


def create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", PATH, nullable=False),
        sa.Column("email", PATH),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("external", sa.Boolean, nullable=False),
        sa.Column("blocked", sa.Boolean, nullable=False),
        sa.Column("password_hash", sa.String),
        sa.Column("password_changed_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sqlite_autoincrement=True,
    )


def create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("path", PATH, nullable=False),
        sa.Column("visibility", sa.String(8), nullable=False),
        sa.Column("registry", sa.String(8), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        reference("projects", "created_by", "users.id", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("path", name="uq_projects_path"),
        sa.CheckConstraint("visibility IN ('public', 'internal', 'private')", name="ck_projects_visibility"),
        sa.CheckConstraint("registry IN ('enabled', 'private', 'disabled')", name="ck_projects_registry"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_projects_created_by", "projects", ["created_by"])


def create_members() -> None:
    op.create_table(
        "members",
        sa.Column("id", sa.Integer, nullable=False),
        reference("members", "group_id", "groups.id"),
        reference("members", "project_id", "projects.id"),
        reference("members", "user_id", "users.id", nullable=False),
        sa.Column("role", sa.Integer, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
        sa.UniqueConstraint("group_id", "user_id", name="uq_members_group_id"),
        sa.UniqueConstraint("project_id", "user_id", name="uq_members_project_id"),
        sa.CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="ck_members_one_node"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_members_user_id", "members", ["user_id"])


def create_tokens() -> None:
    op.create_table(
        "personal_tokens",
        sa.Column("id", sa.Integer, nullable=False),
        reference("personal_tokens", "user_id", "users.id", nullable=False),
        *columns_of_a_token(),
        sa.PrimaryKeyConstraint("id", name="pk_personal_tokens"),
        sa.UniqueConstraint("hash", name="uq_personal_tokens_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_personal_tokens_user_id", "personal_tokens", ["user_id"])
    op.create_table(
        "deploy_tokens",
        sa.Column("id", sa.Integer, nullable=False),
        reference("deploy_tokens", "group_id", "groups.id"),
        reference("deploy_tokens", "project_id", "projects.id"),
        sa.Column("username", sa.String(255), nullable=False),
        *columns_of_a_token(),
        sa.PrimaryKeyConstraint("id", name="pk_deploy_tokens"),
        sa.UniqueConstraint("hash", name="uq_deploy_tokens_hash"),
        sa.CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="ck_deploy_tokens_one_node"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deploy_tokens_group_id", "deploy_tokens", ["group_id"])
    op.create_index("ix_deploy_tokens_project_id", "deploy_tokens", ["project_id"])


def create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, nullable=False),
        reference("jobs", "project_id", "projects.id", nullable=False),
        reference("jobs", "user_id", "users.id", nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        reference("jobs", "deploy_token_id", "deploy_tokens.id", "SET NULL"),
        sa.Column("deploy_hash", sa.String(64)),
        sa.Column("ref", sa.String),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("hash", name="uq_jobs_hash"),
        sa.UniqueConstraint("deploy_hash", name="uq_jobs_deploy_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_project_id", "jobs", ["project_id"])
    op.create_index("ix_jobs_user_id", "jobs", ["user_id"])
    op.create_index("ix_jobs_deploy_token_id", "jobs", ["deploy_token_id"])
    op.create_table(
        "job_allowances",
        sa.Column("id", sa.Integer, nullable=False),
        reference("job_allowances", "project_id", "projects.id", nullable=False),
        reference("job_allowances", "allowed_project_id", "projects.id"),
        reference("job_allowances", "allowed_group_id", "groups.id"),
        sa.PrimaryKeyConstraint("id", name="pk_job_allowances"),
        sa.CheckConstraint(
            "(allowed_group_id IS NULL) <> (allowed_project_id IS NULL)", name="ck_job_allowances_one_node"
        ),
        sqlite_autoincrement=True,
    )
    for column in ("project_id", "allowed_project_id", "allowed_group_id"):
        op.create_index(f"ix_job_allowances_{column}", "job_allowances", [column])


def columns_of_a_token() -> list[sa.Column[object]]:
    return [
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT),
        sa.Column("revoked_at", MOMENT),
        sa.Column("last_used_at", MOMENT),
    ]


def reference(table: str, column: str, target: str, ondelete: str = "CASCADE", nullable: bool = True) -> sa.Column[int]:
    key = sa.ForeignKey(target, name=f"fk_{table}_{column}", ondelete=ondelete)
    return sa.Column(column, sa.Integer, key, nullable=nullable)
