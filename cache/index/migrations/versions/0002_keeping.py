"""Pins, content that is gone upstream, and totals, which avoid adding up all rows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _triggers(table: str, new: str, old: str) -> list[str]:
    """Triggers that keep the totals, because several processes write rows in several places."""
    add = f"UPDATE totals SET bytes = bytes + {new}"
    return [
        f"CREATE TRIGGER {table}_added AFTER INSERT ON {table} "
        f"BEGIN {add}, count = count + 1 WHERE kind = '{table}'; END",
        f"CREATE TRIGGER {table}_changed AFTER UPDATE ON {table} BEGIN {add} - {old} WHERE kind = '{table}'; END",
        f"CREATE TRIGGER {table}_removed AFTER DELETE ON {table} "
        f"BEGIN UPDATE totals SET bytes = bytes - {old}, count = count - 1 WHERE kind = '{table}'; END",
    ]


def upgrade() -> None:
    op.create_table(
        "pins",
        sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), primary_key=True),
        sa.Column("reference", sa.String, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gone",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("gone_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "totals",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_blobs_size", "blobs", ["size"])
    op.create_index("ix_pointers_digest", "pointers", ["digest"])
    for table, size in (("blobs", "{}size"), ("manifests", "length({}raw)")):
        total = f"coalesce(sum({size.format('')}), 0)"
        op.execute(f"INSERT INTO totals SELECT '{table}', {total}, count(*) FROM {table}")
        for trigger in _triggers(table, size.format("NEW."), size.format("OLD.")):
            op.execute(trigger)
