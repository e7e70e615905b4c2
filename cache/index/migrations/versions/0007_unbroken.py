"""For how long tags pointed to a digest at a stretch, of which the first sighting is only that of the last time."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("sightings", sa.Column("longest", sa.Float, nullable=False, server_default="0"))
    op.create_index("ix_sightings_longest", "sightings", ["image_id", "digest", "longest"])
