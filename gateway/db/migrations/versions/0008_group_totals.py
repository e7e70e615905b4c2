"""Groups with a quota keep how much the projects below them store. Programs of earlier revisions do not keep that."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
oldest_program = "0008"


def upgrade() -> None:
    op.add_column("groups", sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(
        "UPDATE groups SET stored_bytes = (SELECT COALESCE(SUM(projects.stored_bytes), 0) FROM projects "
        "WHERE projects.path > groups.path || '/' AND projects.path < groups.path || '0') WHERE quota IS NOT NULL"
    )
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
