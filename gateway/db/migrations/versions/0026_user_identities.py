"""Identities of users at issuers, by which they sign in to pages. Programs of earlier revisions know none: to them the
session of one is that of a password, which nobody has set at that time."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
oldest_program = "0016"


def upgrade() -> None:
    op.create_table(
        "user_identities",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("issuer", sa.String(2048), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_identities"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_identities_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("issuer", "subject", name="uq_user_identities_issuer"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_user_identities_user_id", "user_identities", ["user_id"])
    op.add_column("web_sessions", sa.Column("identity_id", sa.Integer))
