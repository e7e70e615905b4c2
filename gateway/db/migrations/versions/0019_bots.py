"""Users who are no people: the bots behind access tokens of projects and groups.
Programs of earlier revisions take them for users without a password, list them beside the others, and leave one behind
whose project or group they delete; it has no membership then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
oldest_program = "0016"


def upgrade() -> None:
    op.create_table(
        "bots",
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("group_id", sa.Integer),
        sa.Column("project_id", sa.Integer),
        sa.PrimaryKeyConstraint("user_id", name="pk_bots"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_bots_user_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_bots_group_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_bots_project_id", ondelete="CASCADE"),
        sa.CheckConstraint("(group_id IS NULL) <> (project_id IS NULL)", name="ck_bots_one_node"),
    )
    for column in ("group_id", "project_id"):
        op.create_index(f"ix_bots_{column}", "bots", [column])
