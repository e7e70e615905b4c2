"""Protection rules of projects. Programs of earlier revisions let everybody push and delete what the rules protect."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
oldest_program = "0016"


def upgrade() -> None:
    op.create_table(
        "protection_rules",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("pattern", sa.String(255), nullable=False),
        sa.Column("push_level", sa.Integer),
        sa.Column("delete_level", sa.Integer),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_protection_rules"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_protection_rules_project_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("project_id", "kind", "pattern", name="uq_protection_rules_project_id"),
        sa.CheckConstraint("kind IN ('repository', 'tag', 'immutable')", name="ck_protection_rules_kind"),
        sqlite_autoincrement=True,
    )
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
