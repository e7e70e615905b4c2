"""Gate of a group."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("groups", sa.Column("fresh_only", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("groups", sa.Column("gate", sa.Text))
