"""Compatibility: which programs can use the database."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
oldest_program = "0005"


def upgrade() -> None:
    compatibility = op.create_table(
        "compatibility",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("oldest_program", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_compatibility"),
        sa.CheckConstraint("id = 1", name="ck_compatibility_one"),
    )
    op.bulk_insert(compatibility, [{"id": 1, "oldest_program": oldest_program}])
