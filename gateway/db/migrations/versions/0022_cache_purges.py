"""Purges of the caches of groups that were requested, and policies that purge what was not pulled for long.
Programs of earlier revisions do neither, and harm none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
oldest_program = "0016"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "cache_purges",
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("user", sa.String(255)),
        sa.Column("client", sa.String(255)),
        sa.Column("request_id", sa.String(255)),
        sa.Column("images", sa.Integer),
        sa.Column("purged", sa.Integer, nullable=False),
        sa.Column("shared", sa.Integer, nullable=False),
        sa.Column("freed_bytes", sa.BigInteger, nullable=False),
        sa.Column("completed_at", MOMENT),
        sa.PrimaryKeyConstraint("group_id", name="pk_cache_purges"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_cache_purges_group_id", ondelete="CASCADE"),
    )
    op.create_index("ix_cache_purges_completed_at", "cache_purges", ["completed_at"])
    op.create_table(
        "image_ttl_policies",
        sa.Column("group_id", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("ttl", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("completed_at", MOMENT),
        sa.PrimaryKeyConstraint("group_id", name="pk_image_ttl_policies"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_image_ttl_policies_group_id", ondelete="CASCADE"),
        sa.CheckConstraint("ttl > 0", name="ck_image_ttl_policies_ttl"),
    )
