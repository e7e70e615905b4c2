"""Bulk deletions of tags that were requested, which whoever has the lease of one goes on with.
Programs of earlier revisions do none, and harm none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
oldest_program = "0016"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "bulk_deletions",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.Column("name_regex_delete", sa.String(255), nullable=False),
        sa.Column("name_regex_keep", sa.String(255)),
        sa.Column("keep_n", sa.Integer),
        sa.Column("older_than", sa.String(255)),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("user", sa.String(255)),
        sa.Column("client", sa.String(255)),
        sa.Column("request_id", sa.String(255)),
        sa.Column("leased_by", sa.String(32)),
        sa.Column("leased_until", MOMENT),
        sa.Column("completed_at", MOMENT),
        sa.Column("deleted", sa.Integer, nullable=False),
        sa.Column("problem", sa.String),
        sa.PrimaryKeyConstraint("repository_id", name="pk_bulk_deletions"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_bulk_deletions_repository_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_bulk_deletions_completed_at", "bulk_deletions", ["completed_at"])
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
