"""Groups, and the mark of a prepared installation."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "groups",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("path", sa.String(255), nullable=False),
        sa.Column("visibility", sa.String(8), nullable=False),
        sa.Column("proxy_enabled", sa.Boolean, nullable=False),
        sa.Column("anonymous_pull", sa.Boolean, nullable=False),
        sa.Column("default_upstream", sa.String(255), nullable=False),
        sa.Column("upstream_username", sa.String),
        sa.Column("upstream_password_sealed", sa.String),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("path", name="uq_groups_path"),
        sa.CheckConstraint("visibility IN ('public', 'internal', 'private')", name="ck_groups_visibility"),
        sa.CheckConstraint("NOT anonymous_pull OR visibility = 'public'", name="ck_groups_anonymous_pull"),
        sa.CheckConstraint(
            "(upstream_username IS NULL) = (upstream_password_sealed IS NULL)", name="ck_groups_upstream_login"
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("prepared_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
        sa.CheckConstraint("id = 1", name="ck_installation_one"),
    )
