"""Quotas of projects and groups, what projects store, and what unfinished uploads have reserved of a quota."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
oldest_program = "0005"


def upgrade() -> None:
    op.add_column("groups", sa.Column("quota", sa.BigInteger))
    op.add_column("projects", sa.Column("quota", sa.BigInteger))
    op.add_column("projects", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("reserved", sa.BigInteger))
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
