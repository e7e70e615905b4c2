"""The beginning of the history of tags, and the number of sightings that were added to it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "history",
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
    )
