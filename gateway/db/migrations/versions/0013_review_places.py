"""Reviews are listed by an index in the whole order of their pages: many may be due since the same moment."""

from alembic import op

revision = "0013"
down_revision = "0012"
oldest_program = "0012"

TABLES = {"blob_reviews": ["since", "digest", "repository_id"], "manifest_reviews": ["since", "manifest_id"]}


def upgrade() -> None:
    for table, columns in TABLES.items():
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
        op.drop_index(f"ix_{table}_since", table)
