"""Projects may let the jobs of all others in, as far as their users may pull.
Programs of earlier revisions go on with the list of allowed jobs alone.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
oldest_program = "0016"


def upgrade() -> None:
    op.add_column("projects", sa.Column("limits_jobs", sa.Boolean, nullable=False, server_default=sa.true()))
