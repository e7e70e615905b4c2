"""Manifests that were deleted by their digests, and can be restored for a while.

Programs of earlier revisions delete them at once, and leave those that are here.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
oldest_program = "0012"

DIGEST = sa.String(135).with_variant(sa.String(135, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "deleted_manifests",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("deleted_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "digest", name="pk_deleted_manifests"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_deleted_manifests_repository_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_deleted_manifests_deleted_at", "deleted_manifests", ["deleted_at"])
