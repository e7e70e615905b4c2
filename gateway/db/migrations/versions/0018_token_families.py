"""Personal access tokens name what they are for, and the token of which they and others are rotations.
Programs of earlier revisions leave both out.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
oldest_program = "0016"


def upgrade() -> None:
    op.add_column("personal_tokens", sa.Column("description", sa.String(255)))
    op.add_column("personal_tokens", sa.Column("family_id", sa.Integer))
