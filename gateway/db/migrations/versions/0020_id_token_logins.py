"""Logins by ID tokens of the issuers that the settings name.
Programs of earlier revisions accept none, and harm none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
oldest_program = "0016"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "id_token_logins",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("issuer", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("rule", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("replay_key", sa.String(64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_id_token_logins"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_id_token_logins_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("hash", name="uq_id_token_logins_hash"),
        sa.UniqueConstraint("replay_key", name="uq_id_token_logins_replay_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_id_token_logins_user_id", "id_token_logins", ["user_id"])
