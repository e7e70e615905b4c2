"""Images, tag pointers, links, manifests, blobs, and the log of changes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "images",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("credential", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.UniqueConstraint("origin", "credential", "name", name="uq_images"),
    )
    op.create_table(
        "pointers",
        sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("checked_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "links",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_links_image", "links", ["image_id"])
    op.create_table(
        "manifests",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "changes",
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("writer", sa.String, nullable=False),
        sa.Column("origin", sa.String, nullable=False),
        sa.Column("credential", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("tag", sa.String),
        sqlite_autoincrement=True,
    )
