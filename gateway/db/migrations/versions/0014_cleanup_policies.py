"""Cleanup policies of projects, what their runs did, and tags in the order of their dates.
Programs of earlier revisions run no policies, and harm none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
oldest_program = "0012"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "cleanup_policies",
        sa.Column("project_id", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("cadence", sa.String(8), nullable=False),
        sa.Column("keep_n", sa.Integer),
        sa.Column("older_than", sa.String(8)),
        sa.Column("name_regex_delete", sa.String(255), nullable=False),
        sa.Column("name_regex_keep", sa.String(255)),
        sa.Column("next_run_at", MOMENT, nullable=False),
        sa.Column("run_at", MOMENT),
        sa.Column("leased_by", sa.String(32)),
        sa.Column("leased_until", MOMENT),
        sa.Column("completed_at", MOMENT),
        sa.Column("deleted", sa.Integer, nullable=False),
        sa.Column("problem", sa.String),
        sa.PrimaryKeyConstraint("project_id", name="pk_cleanup_policies"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_cleanup_policies_project_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_cleanup_policies_next_run_at", "cleanup_policies", ["next_run_at"])
    op.create_table(
        "repository_cleanups",
        sa.Column("repository_id", sa.Integer, nullable=False),
        sa.Column("run_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("completed_at", MOMENT),
        sa.Column("deleted", sa.Integer, nullable=False),
        sa.Column("kept", sa.Integer),
        sa.PrimaryKeyConstraint("repository_id", name="pk_repository_cleanups"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_repository_cleanups_repository_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_tags_repository_id_moved_at_name", "tags", ["repository_id", "moved_at", "name"])
    op.execute(f"UPDATE compatibility SET oldest_program = '{oldest_program}'")
