"""Pins: groups and projects that are pulled from as they were at a moment.
Programs of earlier revisions show what is there now, collect what a pin shows, and push to what is pinned.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
oldest_program = "0012"

TAG = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("groups", sa.Column("as_of", MOMENT))
    op.add_column("projects", sa.Column("as_of", MOMENT))
    op.add_column("projects", sa.Column("pinned_at", MOMENT))
    op.create_table(
        "pinned_tags",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("name", TAG, nullable=False),
        sa.Column("manifest_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "name", name="pk_pinned_tags"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_pinned_tags_repository_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], name="fk_pinned_tags_manifest_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_pinned_tags_manifest_id", "pinned_tags", ["manifest_id"])
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
