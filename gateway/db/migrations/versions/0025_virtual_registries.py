"""Virtual registries of groups, with their upstreams. Programs of earlier revisions serve none."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
oldest_program = "0016"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "virtual_registries",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(1024), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_virtual_registries"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_virtual_registries_group_id", ondelete="CASCADE"),
        sa.UniqueConstraint("group_id", "name", name="uq_virtual_registries_group_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "virtual_upstreams",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("url", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("description", sa.String(1024), nullable=False),
        sa.Column("cache_validity_hours", sa.Integer, nullable=False),
        sa.Column("username", sa.String(510)),
        sa.Column("password_sealed", sa.String),
        sa.Column("cache_key", sa.String(32), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_virtual_upstreams"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_virtual_upstreams_group_id", ondelete="CASCADE"),
        sa.CheckConstraint("(username IS NULL) = (password_sealed IS NULL)", name="ck_virtual_upstreams_login"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_virtual_upstreams_group_id", "virtual_upstreams", ["group_id"])
    op.create_table(
        "virtual_registry_upstreams",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("registry_id", sa.Integer, nullable=False),
        sa.Column("upstream_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_virtual_registry_upstreams"),
        sa.ForeignKeyConstraint(
            ["registry_id"],
            ["virtual_registries.id"],
            name="fk_virtual_registry_upstreams_registry_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["upstream_id"],
            ["virtual_upstreams.id"],
            name="fk_virtual_registry_upstreams_upstream_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("registry_id", "upstream_id", name="uq_virtual_registry_upstreams_registry_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_virtual_registry_upstreams_upstream_id", "virtual_registry_upstreams", ["upstream_id"])
