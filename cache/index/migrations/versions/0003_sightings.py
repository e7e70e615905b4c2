"""History of tags, which begins with their current pointers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "sightings",
        sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO sightings (image_id, tag, digest, first_seen, last_seen) "
        "SELECT image_id, tag, digest, checked_at, checked_at FROM pointers"
    )
