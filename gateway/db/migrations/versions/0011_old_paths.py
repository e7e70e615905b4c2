"""Paths that groups, projects and repositories had before they moved. Programs of earlier revisions neither answer at
them nor keep them free, and do not notice that something has moved."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
oldest_program = "0011"

PATH = sa.String(255).with_variant(sa.String(255, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "old_paths",
        sa.Column("path", PATH, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("node_id", sa.Integer, nullable=False),
        sa.Column("moved_at", MOMENT, nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("path", "kind", name="pk_old_paths"),
        sa.CheckConstraint("kind IN ('group', 'project', 'repository')", name="ck_old_paths_kind"),
    )
    op.create_index("ix_old_paths_until", "old_paths", ["until"])
    op.create_index("ix_old_paths_kind_node_id", "old_paths", ["kind", "node_id"])
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
